//! A configuration: never a panic, every refusal has a reason, every plan routes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::base::id::ListenerId;
use millrace::control::load::check;
use millrace::message::head::RequestHead;
use millrace::route::Router;

fuzz_target!(|text: &str| {
    let verdict = check("fuzz", text);
    let Some(config) = verdict.config else {
        assert!(verdict.report.contains("error: "), "refused without a reason");
        return;
    };
    let mut head = RequestHead::default();
    head.set_method(b"GET");
    head.set_target(b"/a/b", Some(b"c=d"));
    head.set_authority(b"www.example.com", 15);
    let _ = Router::new(&config, ListenerId(0)).find(&head);
});
