//! `config.example.toml` is the reference manual: it must be right, and say the defaults.

use millrace::control::load::check as verdict;

pub fn check() {
    let text = std::fs::read_to_string("config.example.toml").unwrap();
    let example = verdict("config.example.toml", &text);
    assert!(example.report.is_empty(), "{}", example.report);
    let bare = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:8080\"\n[[cluster]]\nname = \"app\"\n\
                [[cluster.endpoint]]\naddress = \"127.0.0.1:3001\"\n[[cluster.endpoint]]\n\
                address = \"127.0.0.1:3002\"\n[[route]]\ncluster = \"app\"\n";
    let bare = verdict("bare", bare);
    let (mut example, bare) = (example.config.unwrap(), bare.config.unwrap());
    example.routes[0].line = bare.routes[0].line.clone();
    assert_eq!(format!("{example:#?}"), format!("{bare:#?}"));
    assert_eq!(example, bare);
}
