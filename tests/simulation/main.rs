//! Decisions under a virtual clock: `cargo test --test simulation` prints what the balancers do to
//! waiting times, beside a dispatcher that knows everything, and fails where a bar is missed.
#![expect(clippy::print_stdout, reason = "the table is the point")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a bar that is missed")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "statistics of small numbers"
)]

mod balancing;
mod caching;
mod disk;
mod eviction;
mod queues;
mod states;

fn main() {
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let runs = |name: &str| wanted.as_ref().is_none_or(|wanted| name == wanted);
    if runs("states") {
        states::run(10_000);
    }
    if runs("caching") {
        caching::run(5_000);
    }
    if runs("balancing") {
        balancing::table();
    }
    if runs("eviction") {
        eviction::table();
    }
}
