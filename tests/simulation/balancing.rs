//! The table of balancers, and the bars they must keep.

use millrace::balance::places::Places;
use millrace::balance::{SharedLoads, View, build};
use millrace::base::random::Random;
use millrace::config::model::Balance;

use crate::queues::{Case, Outcome, cluster, run};

const CASE: Case = Case {
    balance: None,
    endpoints: 10,
    shards: 16,
    load: 0.8,
    slow: 0.2,
    stall: 0,
    requests: 300_000,
    seed: 7,
};

pub(crate) fn table() {
    for (endpoints, load) in [(10, 0.8), (100, 0.7)] {
        println!(
            "\n{endpoints} endpoints of 4 slots, load {load}, a fifth at quarter speed; times in mean \
             service times\n{:20} {:>6} {:>8} {:>8} {:>8} {:>8}",
            "balancer", "shards", "p50", "p99", "p99.9", "busiest"
        );
        let case = Case { endpoints, load, ..CASE };
        show("oracle", 1, run(case));
        for (name, balance) in Balance::NAMES {
            let outcome = |shards| run(Case { balance: Some(balance), shards, ..case });
            let [one, two, many] = [1, 2, 16].map(outcome);
            show(name, 1, one);
            show(name, 2, two);
            show(name, 16, many);
            let bar = match balance {
                Balance::RandomTwo | Balance::LeastConnections => (10.0, 20.0),
                Balance::LeastResponseTime => (7.0, 14.0),
                _ => continue,
            };
            hold(name, "p99", many.p99, bar.0);
            hold(name, "p99.9", many.p999, bar.1);
            hold(name, "p99 to one shard's", many.p99 / one.p99, 1.15);
            hold(name, "p99.9 to one shard's", many.p999 / one.p999, 1.15);
        }
    }
    stalls();
    even();
    leaving();
}

fn show(name: &str, shards: usize, outcome: Outcome) {
    let Outcome { p50, p99, p999, busiest } = outcome;
    println!("{name:20} {shards:6} {p50:8.2} {p99:8.2} {p999:8.2} {busiest:8.2}");
}

/// A bar of the issue.
fn hold(name: &str, what: &str, found: f64, bar: f64) {
    assert!(found <= bar, "{name}: {what} is {found:.2}, and must be at most {bar}");
}

fn stalls() {
    println!(
        "\n10 even endpoints, load 0.8, one of them stands still for 40 of every 200 service times"
    );
    let case = Case { slow: 0.0, stall: 40, ..CASE };
    show("oracle", 1, run(case));
    for (name, balance) in Balance::NAMES {
        if matches!(balance, Balance::LeastConnections | Balance::LeastResponseTime) {
            let outcome = run(Case { balance: Some(balance), ..case });
            show(name, 16, outcome);
            hold(name, "p99.9 with a stall", outcome.p999, 20.0);
        }
    }
}

fn even() {
    println!(
        "\n10 even endpoints, 10,000 requests, load 0.5: busiest endpoint as a multiple of the mean, over 8 runs"
    );
    for (name, balance) in Balance::NAMES {
        let case = Case { balance: Some(balance), slow: 0.0, load: 0.5, requests: 10_000, ..CASE };
        // Of ten thousand throws of the dice, the luckiest of ten has 1.046 times its share on
        // average: some runs are over the bar, so that the mean of several is held to it.
        let runs = (0..8).map(|seed| run(Case { seed, ..case }).busiest);
        let busiest = runs.sum::<f64>() / 8.0;
        println!("{name:20} {busiest:8.3}");
        let is_even = matches!(
            balance,
            Balance::RoundRobin
                | Balance::Random
                | Balance::RandomTwo
                | Balance::LeastConnections
                | Balance::LeastResponseTime
        );
        if is_even {
            hold(name, "busiest", busiest, 1.05);
        }
    }
}

/// One of ten endpoints leaves and comes back.
fn leaving() {
    println!(
        "\none of ten endpoints leaves: share of keys that move beyond its own, and of those that are elsewhere after its return"
    );
    const KEYS: u64 = 50_000;
    for balance in [Balance::IpHash, Balance::ConsistentHash, Balance::Maglev] {
        let cluster = cluster(balance, 10);
        let shared = SharedLoads::new(&cluster);
        let mut balancer = build(&cluster, &Places::new(&cluster), 0);
        let mut map = |gone: usize| -> Vec<u16> {
            let mut random = Random::new(1);
            let eligible = |at| at != gone;
            let mut keys = Random::new(99);
            let pick = |_| {
                let view = View {
                    weights: &[1; 10],
                    loads: &shared.loads,
                    eligible: &eligible,
                    now: 0,
                    key: keys.bits(),
                };
                balancer.pick(&view, &mut random).map_or(u16::MAX, |id| id.0)
            };
            (0..KEYS).map(pick).collect()
        };
        let (before, without, after) = (map(10), map(4), map(10));
        let strays = before.iter().zip(&without).filter(|(old, new)| **old != 4 && old != new);
        let strays = strays.count() as f64 / KEYS as f64;
        let busiest = (0..10).map(|at| before.iter().filter(|one| **one == at).count()).max();
        let busiest = busiest.unwrap_or(0) as f64 * 10.0 / KEYS as f64;
        let lost = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        let name = Balance::NAMES.iter().find(|(_, one)| *one == balance).map_or("", |one| one.0);
        println!("{name:20} moved {:.2} %, elsewhere {lost}, busiest {busiest:.3}", strays * 100.0);
        hold(name, "keys that move without need", strays, 0.006);
        hold(name, "keys that do not come back", lost as f64, 0.0);
        if balance == Balance::Maglev {
            hold(name, "busiest", busiest, 1.05);
        }
    }
}
