//! What users of other proxies write, and how the same is said here (exam R44).

use super::model::Redirect;

/// Files of other proxies: lines begin with one of these words, and end like this.
const FOREIGN: [(&str, &[&str], &[char]); 3] = [
    (
        "nginx",
        &["worker_processes ", "events ", "http ", "server ", "location ", "upstream "],
        &['{', ';'],
    ),
    ("HAProxy", &["global", "defaults", "frontend ", "backend ", "listen "], &[]),
    ("Caddy", &["reverse_proxy ", "encode ", "handle "], &[]),
];
/// So many such lines are no chance.
const ENOUGH: usize = 2;

/// Whose configuration a text is that is not TOML.
#[must_use]
pub fn foreign(text: &str) -> Option<&'static str> {
    let is_of = |words: &[&str], ends: &[char], line: &str| {
        words.iter().any(|word| line.starts_with(word) || line == word.trim_end())
            && (ends.is_empty() || line.ends_with(ends))
    };
    let found = FOREIGN.iter().find(|(_, words, ends)| {
        text.lines().map(str::trim).filter(|line| is_of(words, ends, line)).count() >= ENOUGH
    });
    found.map(|(name, ..)| *name)
}

/// What to write instead of a key of another proxy's; `None` if it is not known.
#[must_use]
pub fn of_key(table: &str, key: &str) -> Option<&'static str> {
    Some(match (table, key) {
        ("route", "root" | "alias" | "try_files" | "index" | "static" | "dir") => {
            "millrace serves no files: let a server do that, and name it as a cluster's endpoint"
        }
        ("route", "proxy_pass" | "backend" | "upstream" | "to" | "service" | "url") => {
            "write `cluster = \"name\"` here, and [[cluster]] and [[cluster.endpoint]] with its address"
        }
        ("route", "location" | "prefix" | "uri") => "write `path = \"/…\"`",
        ("route", "server_name" | "domain" | "hostname") => "write `host = \"…\"`",
        ("route", "return") => "write `redirect = { … }` or `respond = { status = … }`",
        ("listener", "port" | "bind" | "listen") => "write `address = \"0.0.0.0:8080\"`",
        ("listener", "ssl" | "ssl_certificate" | "certificate" | "cert" | "key") => {
            "write `tls = { certificates = [{ certificate = \"….pem\", key = \"….pem\" }] }`"
        }
        ("cluster", "servers" | "server" | "endpoints" | "backends" | "targets") => {
            "write one [[cluster.endpoint]] with its `address` for each"
        }
        ("cluster", "lb" | "algorithm" | "policy" | "load_balancing") => {
            "write `balance = \"round_robin\"`, or another of them"
        }
        ("cluster.endpoint", "host" | "url" | "server" | "port") => {
            "write `address = \"host:port\"`"
        }
        ("", "upstream" | "upstreams" | "backend" | "backends") => "write [[cluster]]",
        ("", "frontend" | "frontends" | "entrypoint" | "bind") => "write [[listener]]",
        ("", "location" | "rule" | "rules" | "router") => "write [[route]]",
        _ => return None,
    })
}

/// A prefix that ends in a star, which is a letter here: the prefix that is meant.
#[must_use]
pub fn without_star(path: &str) -> Option<&str> {
    let prefix = path.strip_suffix('*').filter(|_| path.starts_with('/'))?;
    let prefix = prefix.trim_end_matches('/');
    Some(if prefix.is_empty() { "/" } else { prefix })
}

/// A redirect that is written as a URL or a path, as the table that says the same.
#[must_use]
pub fn redirect(target: &str) -> String {
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, target),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let host = Some(host).filter(|host| !host.is_empty() && !host.contains('$'));
    let path = path.filter(|path| *path != "/" && !path.contains(['$', '?']));
    let said = Redirect {
        status: 0,
        scheme: scheme.map(str::to_ascii_lowercase),
        host: host.map(str::to_owned),
        path: path.map(str::to_owned),
    };
    let parts = [("scheme", said.scheme), ("host", said.host), ("path", said.path)];
    let parts = parts.into_iter().filter_map(|(key, value)| Some(format!("{key} = {:?}", value?)));
    format!("write `redirect = {{ {} }}`", parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_elsewhere_is_known() {
        assert_eq!(foreign("http {\n server {\n  listen 80;\n }\n}\n"), Some("nginx"));
        assert_eq!(foreign("global\ndefaults\n mode http\nfrontend web\n"), Some("HAProxy"));
        assert_eq!(foreign("[[listener]]\naddress = 1\n"), None);
        assert_eq!(foreign("server {\n"), None, "one line is chance");
        assert!(of_key("route", "root").is_some() && of_key("route", "path").is_none());
        assert_eq!(without_star("/api/*"), Some("/api"));
        assert_eq!(without_star("/*"), Some("/"));
        assert_eq!(without_star("/api/"), None);
    }

    #[test]
    fn a_redirect_to_a_url_is_a_table() {
        let cases = [
            ("https://a.example/b", "scheme = \"https\", host = \"a.example\", path = \"/b\""),
            ("https://$host$request_uri", "scheme = \"https\""),
            ("/b", "path = \"/b\""),
            ("http://a.example", "scheme = \"http\", host = \"a.example\""),
        ];
        for (target, table) in cases {
            assert_eq!(redirect(target), format!("write `redirect = {{ {table} }}`"), "{target}");
        }
    }
}
