//! Listeners that speak no HTTP: octets in both directions, and TLS that the server behind decrypts.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Row;
use crate::support::{Driver, Origin, PATIENCE, Proxy, nobody, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("tcp_octets_go_both_ways", both_ways),
        ("tcp_an_endpoint_that_is_dead_is_passed_over", passed_over),
        ("tcp_what_a_client_cuts_off_is_cut_off", cut_off),
        ("tcp_proxy_headers_in_and_out", proxy_headers),
        ("tcp_tls_goes_where_its_name_says", by_name),
        ("tcp_what_is_wrong_in_a_configuration", wrong),
    ]
}

/// Says its name, and then whatever comes in, in capitals, until that ends.
fn shouts(name: &'static str) -> Origin {
    Origin::raw(move |link| {
        link.stream.write_all(name.as_bytes()).unwrap();
        let mut block = [0; 16 * 1024];
        while let Ok(len @ 1..) = link.stream.read(&mut block) {
            let _ = link.stream.write_all(&block[..len].to_ascii_uppercase());
        }
        let _ = link.stream.write_all(b"!");
    })
}

fn config(routes: &[(&str, SocketAddr)], more: &str, listener: &str) -> String {
    let mut text = format!(
        "[[listener]]\nname = \"t\"\nmode = \"tcp\"\naddress = \"127.0.0.1:0\"\n{listener}\n"
    );
    for (at, (host, address)) in routes.iter().enumerate() {
        text += &format!(
            "[[route]]\nlistener = \"t\"\nhost = \"{host}\"\ncluster = \"c{at}\"\n[[cluster]]\nname = \"c{at}\"\n{more}\n\
             [[cluster.endpoint]]\naddress = \"{address}\"\n"
        );
    }
    text
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything until the end; whether that was orderly.
fn rest(mut stream: &TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let is_orderly = stream.read_to_end(&mut all).is_ok();
    (all, is_orderly)
}

fn both_ways(driver: Driver) {
    let origin = shouts("one:");
    let log = crate::support::proxy::temporary("log");
    let log_words = format!("[access_log]\npath = \"{}\"", log.display());
    let text = config(&[("*", origin.address)], "", "") + &log_words;
    let mut proxy = Proxy::run(driver, &text, &[], None);
    let mut client = connect(&proxy);
    // The server speaks first, and the client ends first: what is under way still comes.
    let mut name = [0; 4];
    client.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"one:");
    let octets: Vec<u8> =
        (0..3_000_000_u32).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let reader = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        let all = scope.spawn(move || rest(&reader));
        client.write_all(&octets).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (all, is_orderly) = all.join().unwrap();
        assert!(is_orderly && all.len() == octets.len() + 1 && all.ends_with(b"!"));
        assert!(all[..octets.len()] == octets.to_ascii_uppercase());
    });
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let line = std::fs::read_to_string(&log).unwrap();
    let _ = std::fs::remove_file(&log);
    for word in ["\"bytes_in\":3000000", "\"bytes_out\":3000005", "\"cluster\":\"c0\""] {
        assert!(line.contains(word), "{word} in {line}");
    }
}

fn passed_over(driver: Driver) {
    let origin = shouts("alive");
    let two = format!("[[cluster.endpoint]]\naddress = \"{}\"", nobody());
    let text = config(&[("*", origin.address)], "", "") + &two;
    let proxy = Proxy::run(driver, &text, &[], None);
    for _ in 0..8 {
        let client = connect(&proxy);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&client), (b"alive!".to_vec(), true));
    }
    // Without a server the client is told by a reset, not by an orderly end.
    let text = config(&[("*", nobody())], "", "");
    let proxy = Proxy::run(driver, &text, &[], None);
    let (all, is_orderly) = rest(&connect(&proxy));
    assert!(all.is_empty() && !is_orderly);
}

/// What a client cuts off is cut off for the endpoint too: an orderly end would look like a whole upload.
fn cut_off(driver: Driver) {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&ends);
    let origin = Origin::raw(move |link| {
        let mut block = [0; 1024];
        let end = loop {
            match link.stream.read(&mut block) {
                Ok(1..) => {}
                end => break end.map_err(|error| error.kind()),
            }
        };
        shared.lock().unwrap().push(end);
    });
    let proxy = Proxy::run(driver, &config(&[("*", origin.address)], "", ""), &[], None);
    for is_cut in [true, false] {
        let mut client = connect(&proxy);
        client.write_all(b"half of it").unwrap();
        until("it to be there", || origin.byte_count() > 0 || origin.connections() > 0);
        if is_cut {
            crate::support::reset(&client);
        }
        drop(client);
        until("the end", || ends.lock().unwrap().len() == 2 - usize::from(is_cut));
    }
    assert_eq!(*ends.lock().unwrap(), [Err(ErrorKind::ConnectionReset), Ok(0)]);
}

fn proxy_headers(driver: Driver) {
    let origin = shouts("");
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let text = config(&[("*", origin.address)], "proxy_protocol = \"v1\"", listener);
    let proxy = Proxy::run(driver, &text, &[], None);
    let mut client = connect(&proxy);
    client.write_all(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nhello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (all, _) = rest(&client);
    let text = String::from_utf8_lossy(&all);
    assert!(text.starts_with("PROXY TCP4 1.2.3.4 ") && text.ends_with("\r\nHELLO!"), "{text}");
    let mut client = connect(&proxy);
    client.write_all(b"no header\r\n").unwrap();
    assert!(rest(&client).0.is_empty(), "nobody knows who this is");
}

/// A ClientHello with this name in it, in records of so many octets.
fn hello(name: Option<&str>, size: usize) -> Vec<u8> {
    let list = |octets: usize, text: &[u8]| {
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&len[4 - octets..], text].concat()
    };
    let names = name.map_or_else(Vec::new, |name| {
        let entry = [&[0][..], &list(2, name.as_bytes())].concat();
        [&[0, 0][..], &list(2, &list(2, &entry))].concat()
    });
    let body = [
        &[3, 3][..],
        &[7; 32],
        &list(1, b""),
        &list(2, &[0x13, 1]),
        &list(1, &[0]),
        &list(2, &names),
    ];
    let message = [&[1][..], &list(3, &body.concat())].concat();
    message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &list(2, piece)].concat()).collect()
}

fn by_name(driver: Driver) {
    let [a, b, other] = [shouts("a:"), shouts("b:"), shouts("other:")];
    let routes = [("a.example", a.address), ("*.b.example", b.address), ("*", other.address)];
    let proxy = Proxy::run(driver, &config(&routes, "", ""), &[], None);
    let cases = [
        (Some("a.example"), "a:"),
        (Some("A.Example"), "a:"),
        (Some("x.y.b.example"), "b:"),
        (Some("b.example"), "other:"),
        (None, "other:"),
    ];
    for (name, expected) in cases {
        for size in [1, 7, 9999] {
            let mut client = connect(&proxy);
            let bytes = hello(name, size);
            // In two pieces: the first says nothing yet.
            client.write_all(&bytes[..bytes.len() / 2]).unwrap();
            std::thread::park_timeout(Duration::from_millis(2));
            client.write_all(&bytes[bytes.len() / 2..]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let (all, is_orderly) = rest(&client);
            let whole = [expected.as_bytes(), &bytes.to_ascii_uppercase(), b"!"].concat();
            assert!(is_orderly && all == whole, "{name:?} in records of {size}");
        }
    }
    // What is no TLS goes where everything goes; a client that says nothing is not waited for.
    let mut client = connect(&proxy);
    client.write_all(b"SSH-2.0-x\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&client).0.starts_with(b"other:SSH"));
    let text = config(&routes[..2], "", "timeouts = { head = \"300ms\" }");
    let proxy = Proxy::run(driver, &text, &[], None);
    let mut client = connect(&proxy);
    client.write_all(&hello(Some("c.example"), 999)).unwrap();
    assert!(!rest(&client).1, "nobody is there for this name");
    let silent = connect(&proxy);
    assert!(rest(&silent).0.is_empty());
    until("connections to be gone", || proxy.fds() < 40);
}

fn wrong(_: Driver) {
    let base = "[[listener]]\nname = \"t\"\nmode = \"tcp\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"c\"\n\
                [[cluster.endpoint]]\naddress = \"127.0.0.1:9\"\n";
    let report =
        |more: &str| millrace::control::load::check("a.toml", &format!("{base}{more}")).report;
    assert!(report("[[route]]\ncluster = \"c\"\n").contains("no [[route]] has listener = \"t\""));
    let http =
        report("[[route]]\nlistener = \"t\"\ncluster = \"c\"\npath = \"/x\"\ncache = true\n");
    assert!(http.contains("\"path\" is HTTP's") && http.contains("\"cache\" is HTTP's"), "{http}");
    assert_eq!(report("[[route]]\nlistener = \"t\"\ncluster = \"c\"\n"), "");
}
