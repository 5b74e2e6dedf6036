//! Decisions under a virtual clock: `cargo test --test simulation` prints what the balancers do to
//! waiting times, beside a dispatcher that knows everything, and fails where a bar is missed.
#![expect(clippy::print_stdout, reason = "the table is the point")]
#![expect(clippy::panic, reason = "a bar that is missed")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "statistics of small numbers"
)]

mod balancing;
mod queues;
mod states;

fn main() {
    states::run(10_000);
    balancing::table();
}
