//! Group I: health and failover.

use crate::Row;
use crate::support::{Does, Driver, Origin, Proxy};

pub fn rows() -> Vec<Row> {
    vec![("i11_one_of_ten_leaves_the_ring", i11_one_of_ten_leaves_the_ring)]
}

const KEYS: usize = 500;

/// Hashing by a header: one of ten endpoints goes, its keys move and (by rendezvous) no other, and
/// the map is the old one when it is back. Shares to the percent are the simulation's.
fn i11_one_of_ten_leaves_the_ring(driver: Driver) {
    let origins: Vec<Origin> = (0..10).map(named).collect();
    for balance in ["consistent_hash", "maglev"] {
        let config = |gone: usize| {
            let mut text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\n\
                 name = \"app\"\nbalance = \"{balance}\"\nhash = {{ on = \"header:x-user\" }}\n"
            );
            for (_, origin) in origins.iter().enumerate().filter(|(at, _)| *at != gone) {
                text += &format!("[[cluster.endpoint]]\naddress = \"{}\"\n", origin.address);
            }
            text
        };
        let all = map(driver, &config(99));
        let without = map(driver, &config(3));
        let moved = all.iter().zip(&without).filter(|(old, new)| old != new).count();
        // Ports are chance, and so is how many of 500 keys an endpoint owns: 50, give or take 20.
        assert!((10..=90).contains(&moved), "{balance}: {moved} of {KEYS} keys moved");
        if balance == "consistent_hash" {
            let strays = all.iter().zip(&without).filter(|(old, new)| *old != "3" && old != new);
            assert_eq!(strays.count(), 0, "{balance}");
        }
        assert_eq!(all, map(driver, &config(99)), "{balance}: not the same map");
    }
}

fn named(at: usize) -> Origin {
    Origin::scripted(move |_, link| {
        link.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{at}"));
        Does::Keep
    })
}

/// Which origin gets which key.
fn map(driver: Driver, config: &str) -> Vec<String> {
    let proxy = Proxy::run(driver, config, &[], None);
    let mut client = proxy.connect();
    let ask = |key| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: user-{key}\r\n\r\n"));
        let reply = client.reply().text();
        // The body: the head has a date in it.
        reply[reply.len() - 1..].to_owned()
    };
    (0..KEYS).map(ask).collect()
}
