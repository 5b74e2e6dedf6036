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
        ("route", _) => return of_route(key),
        ("listener", "port" | "bind" | "listen") => "write `address = \"0.0.0.0:8080\"`",
        ("listener", "ssl" | "ssl_certificate" | "certificate" | "cert" | "key") => {
            "write `tls = { certificates = [{ certificate = \"….pem\", key = \"….pem\" }] }`"
        }
        ("cluster", "servers" | "server" | "endpoints" | "backends" | "targets") => {
            "write one [[cluster.endpoint]] with its `address` for each"
        }
        (
            "cluster",
            "max_fails" | "fail_timeout" | "check" | "observe" | "fail_duration" | "health_uri"
            | "health_check",
        ) => "it is on by itself; to ask for a page write `health = { path = \"/\" }`",
        (
            "cluster",
            "least_conn" | "leastconn" | "ip_hash" | "hash" | "lb_policy" | "lb" | "algorithm"
            | "policy" | "load_balancing",
        ) => "write `balance = \"least_connections\"`, or another of them",
        ("cluster.endpoint", "host" | "url" | "server" | "port") => {
            "write `address = \"host:port\"`"
        }
        ("", "upstream" | "upstreams" | "backend" | "backends") => "write [[cluster]]",
        ("", "frontend" | "frontends" | "entrypoint" | "bind") => "write [[listener]]",
        ("", "location" | "rule" | "rules" | "router") => "write [[route]]",
        _ => return None,
    })
}

fn of_route(key: &str) -> Option<&'static str> {
    Some(match key {
        "root" | "alias" | "try_files" | "index" | "static" | "dir" => {
            "millrace serves no files: let a server do that, and name it as a cluster's endpoint"
        }
        "proxy_pass" | "backend" | "use_backend" | "reverse_proxy" | "upstream" | "to"
        | "service" | "url" => {
            "write `cluster = \"name\"` here, and [[cluster]] and [[cluster.endpoint]] with its address"
        }
        "location" | "prefix" | "uri" | "path_beg" | "handle_path" | "acl" => {
            "write `path = \"/…\"`"
        }
        "server_name" | "domain" | "hostname" => "write `host = \"…\"`",
        "proxy_set_header" | "header_up" => {
            "write `request_headers = { set = { name = \"value\" } }`"
        }
        "add_header" | "header" | "headers" | "header_down" => {
            "write `response_headers = { set = { name = \"value\" } }`"
        }
        "proxy_read_timeout" | "proxy_send_timeout" | "read_timeout" => {
            "write `timeouts = { first_byte = \"60s\", body_idle = \"60s\" }`"
        }
        "client_max_body_size" | "request_body" | "max_body" => {
            "write `limits = { body = \"10MiB\" }`"
        }
        "proxy_cache" | "proxy_cache_valid" => {
            "write `cache = true`, and `memory = \"…\"` in [cache]"
        }
        "return" | "redir" => "write `redirect = { … }` or `respond = { status = … }`",
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
    fn the_words_of_the_page_about_other_proxies_are_known() {
        let route = "server_name location path_beg handle_path acl proxy_pass use_backend reverse_proxy redir return \
                     proxy_set_header header_up add_header header proxy_read_timeout read_timeout \
                     client_max_body_size request_body proxy_cache";
        let cluster =
            "server least_conn ip_hash hash lb_policy max_fails fail_timeout check health_uri";
        let words = [("route", route), ("cluster", cluster), ("listener", "listen bind")];
        for (table, words) in words {
            for word in words.split_whitespace() {
                assert!(of_key(table, word).is_some(), "{word} in {table}");
            }
        }
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
