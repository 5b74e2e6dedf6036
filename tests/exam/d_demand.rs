//! Group D, more rows: how many idle connections an endpoint keeps. As many as were in use at once lately, within
//! the bound of its cluster.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, Mutex};

use crate::Row;
use crate::support::{Client, Driver, Origin, Proxy, cluster, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("d11_as_many_are_kept_as_were_in_use", d11_as_many_as_in_use),
        ("d11_no_more_than_the_bound_of_the_cluster", d11_bound),
        ("d11_what_is_not_wanted_any_more_is_closed", d11_not_wanted),
    ]
}

/// An origin that answers when so many requests are there, and knows which of its connections are open.
fn meeting(most: usize) -> (Origin, Arc<Mutex<HashSet<usize>>>) {
    let (barrier, open) = (Barrier::new(most), Arc::new(Mutex::new(HashSet::new())));
    let known = Arc::clone(&open);
    let origin = Origin::raw(move |link| {
        known.lock().unwrap().insert(link.number);
        while let Some(request) = link.request() {
            if request.path() == "/meet" {
                barrier.wait();
            }
            link.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        known.lock().unwrap().remove(&link.number);
    });
    (origin, open)
}

/// So many clients ask at once, each on its connection, and all are answered.
fn ask_at_once(clients: &mut [Client]) {
    for client in &mut *clients {
        client.send("GET /meet HTTP/1.1\r\nHost: a.example\r\n\r\n");
    }
    for client in clients {
        assert_eq!(client.reply().status, 200);
    }
}

fn clients(address: SocketAddr, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(address)).collect()
}

fn d11_as_many_as_in_use(driver: Driver) {
    const CLIENTS: usize = 300;
    let (origin, open) = meeting(CLIENTS);
    let proxy = Proxy::before(driver, &origin);
    let mut clients = clients(proxy.address, CLIENTS);
    for _ in 0..3 {
        ask_at_once(&mut clients);
    }
    assert_eq!(origin.connections(), CLIENTS, "each is used again");
    assert_eq!(open.lock().unwrap().len(), CLIENTS);
}

/// The bound is for all endpoints of the cluster together.
fn d11_bound(driver: Driver) {
    const CLIENTS: usize = 20;
    let origins = [meeting(CLIENTS / 2), meeting(CLIENTS / 2)];
    let addresses = origins.each_ref().map(|(origin, _)| origin.address);
    let config = cluster(&addresses, "pool = { size = 8 }\nhealth = { type = \"off\" }");
    let proxy = Proxy::run(driver, &config, &[], None);
    ask_at_once(&mut clients(proxy.address, CLIENTS));
    let open = || origins.iter().map(|(_, open)| open.lock().unwrap().len()).sum::<usize>();
    until("what is beyond the bound to be closed", || open() <= 8);
    assert_eq!(open(), 8);
}

fn d11_not_wanted(driver: Driver) {
    const CLIENTS: usize = 40;
    let (origin, open) = meeting(CLIENTS);
    let config =
        cluster(&[origin.address], "pool = { idle = \"2s\" }\nhealth = { type = \"off\" }");
    let proxy = Proxy::run(driver, &config, &[], None);
    ask_at_once(&mut clients(proxy.address, CLIENTS));
    assert_eq!(open.lock().unwrap().len(), CLIENTS);
    // One client goes on. What it does not need idles, and ends.
    let mut client = proxy.connect();
    until("those that nobody wants to be closed", || {
        client.send("GET /alone HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(client.reply().status, 200);
        open.lock().unwrap().len() == 1
    });
    assert_eq!(origin.connections(), CLIENTS, "the one that is left was there before");
}
