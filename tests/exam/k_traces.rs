//! Group K, what a collector of traces is told: W3C Trace Context, and spans by OTLP over HTTP.

use std::net::SocketAddr;

use serde_json::Value;

use crate::Row;
use crate::support::origin::Request;
use crate::support::{Driver, Origin, Proxy, cluster, nobody, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("k09_requests_are_steps_of_a_trace", k09_steps),
        ("k09_a_trusted_client_decides_what_is_recorded", k09_decisions),
        ("k09_spans_say_what_the_log_says", k09_spans),
        ("k09_a_collector_that_is_gone_costs_spans", k09_no_collector),
    ]
}

fn config(origin: &Origin, collector: SocketAddr, trusted: &str, sample: &str) -> String {
    let listener = format!("[[listener]]\ntrusted_proxies = [{trusted}]");
    let all = cluster(&[origin.address], "").replace("[[listener]]", &listener);
    format!(
        "[trace]\notlp = \"http://{collector}\"\nsample = {sample}\nservice = \"edge\"\n\
         headers = {{ x-key = \"k\" }}\n{all}"
    )
}

/// A `traceparent` with these flags, and a `tracestate`.
fn parent(flags: &str) -> String {
    format!(
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\ntracestate: v=1\r\n"
    )
}

/// What the endpoint is told of the trace.
fn ask(proxy: &Proxy, origin: &Origin, lines: &str) -> (String, Option<String>) {
    let mut client = proxy.connect();
    client.send(format!("GET /x?y=1 HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    assert_eq!(client.reply().status, 200);
    let sent = origin.last();
    let state = sent.header("tracestate").map(str::to_owned);
    (sent.header("traceparent").unwrap().to_owned(), state)
}

/// A step has its parent's trace and a name of its own; what is malformed begins anew.
fn k09_steps(driver: Driver) {
    let (origin, collector) = (Origin::echo(), Origin::echo());
    let proxy = Proxy::run(driver, &config(&origin, collector.address, "", "1.0"), &[], None);
    let (own, state) = ask(&proxy, &origin, &parent("00"));
    assert!(
        own.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && own.ends_with("-01"),
        "{own}"
    );
    assert!(!own.contains("b7ad6b7169203331") && state.as_deref() == Some("v=1"));
    let malformed = [
        String::new(),
        "traceparent: 00-zz\r\ntracestate: v=1\r\n".to_owned(),
        parent("01") + &parent("01"),
    ];
    for lines in malformed {
        let (made, state) = ask(&proxy, &origin, &lines);
        assert!(made.len() == 55 && made.ends_with("-01") && state.is_none(), "{made} {state:?}");
        assert!(!made.contains("0af7651916cd43dd8448eb211c80319c"), "{made}");
    }
    // Without the table it is the endpoint's business alone.
    let plain = Proxy::before(driver, &origin);
    assert!(ask(&plain, &origin, &parent("01")).0.contains("b7ad6b7169203331"));
}

fn k09_decisions(driver: Driver) {
    let (origin, collector) = (Origin::echo(), Origin::echo());
    let text = config(&origin, collector.address, "\"127.0.0.1\"", "0.0");
    let proxy = Proxy::run(driver, &text, &[], None);
    let flags = |lines: &str| ask(&proxy, &origin, lines).0[53..].to_owned();
    assert_eq!([&*flags(&parent("01")), &*flags(&parent("00")), &*flags("")], ["01", "00", "00"]);
    until("the one span", || !collector.requests().is_empty());
    assert_eq!(spans_of(&collector.last()).len(), 1);
    // Another client's word is no order.
    let wary = Proxy::run(driver, &config(&origin, collector.address, "", "0.0"), &[], None);
    assert!(ask(&wary, &origin, &parent("01")).0.ends_with("-00"));
}

fn k09_spans(driver: Driver) {
    let (origin, collector) = (Origin::echo(), Origin::echo());
    let mut proxy = Proxy::run(driver, &config(&origin, collector.address, "", "1.0"), &[], None);
    let (own, _) = ask(&proxy, &origin, &parent("00"));
    let (made, _) = ask(&proxy, &origin, "");
    // The end waits for what is still to be told.
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let spans: Vec<Value> = collector.requests().iter().flat_map(spans_of).collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let sent = collector.last();
    assert_eq!((sent.path(), sent.header("x-key")), ("/v1/traces", Some("k")));
    let of = |parent: &str| {
        let is_it = |one: &&Value| parent[36..52] == *one["spanId"].as_str().unwrap();
        spans.iter().find(is_it).unwrap()
    };
    let span = of(&own);
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((&span["name"], &span["kind"]), (&"GET /".into(), &2.into()));
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert!(of(&made).get("parentSpanId").is_none());
    let attribute = |key: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map(|one| one["value"].clone())
    };
    assert_eq!(attribute("http.response.status_code").unwrap()["intValue"], "200");
    assert_eq!(attribute("url.path").unwrap()["stringValue"], "/x");
    assert!(attribute("url.query").is_none(), "it may hold secrets");
    let nanos = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"));
}

fn spans_of(request: &Request) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let service = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(service["value"]["stringValue"], "edge");
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn k09_no_collector(driver: Driver) {
    let origin = Origin::echo();
    let proxy = Proxy::run(driver, &config(&origin, nobody(), "", "1.0"), &[], None);
    (0..20).for_each(|_| assert_eq!(proxy.get("/x").status, 200));
    until("the loss to be told", || proxy.log().contains("spans are lost so far"));
    assert_eq!(proxy.get("/x").status, 200);
}
