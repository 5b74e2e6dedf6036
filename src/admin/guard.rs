//! Who may ask what. Pure: a request goes in, a verdict comes out.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::net::admin::AdminRequest;

/// What the guard knows of its listener.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Of the token that is asked for on TCP.
    token: Option<[u8; 32]>,
    /// What a Host field may say, in lower case; its port is not looked at.
    hosts: Vec<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    /// No token, or a wrong one: 401.
    NoToken,
    /// What a browser sends by the will of another site: 403, and why.
    Forbidden(&'static str),
}

/// What can be asked without a token where no other machine can ask.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Fields that proxies add.
const PROXIED: [&str; 3] = ["via", "forwarded", "x-forwarded-for"];

impl Guard {
    /// For a listener at this address (an IP address; empty for a socket).
    #[must_use]
    pub fn new(token: Option<&str>, host: &str, is_loopback: bool) -> Self {
        let mut hosts: Vec<String> =
            ["localhost", "127.0.0.1", "[::1]"].into_iter().map(str::to_owned).collect();
        // Beyond loopback the token keeps browsers out: no page of another site has it.
        hosts.push(if is_loopback { host.to_owned() } else { "*".to_owned() });
        Self { token: token.map(|token| Sha256::digest(token.as_bytes()).into()), hosts }
    }

    /// Whether a request may be answered. `is_local`: it comes from this machine.
    #[must_use]
    pub fn judge(&self, request: &AdminRequest, is_loopback: bool) -> Access {
        // The proxy itself says so in what it forwards: an endpoint that leads here, by whatever name (exam K03).
        if PROXIED.iter().any(|name| request.fields.contains_key(*name)) {
            return Access::Forbidden("it comes through a proxy");
        }
        if request.is_by_socket {
            return Access::Granted;
        }
        let changes = !matches!(request.method.as_str(), "GET" | "HEAD");
        let is_open = is_loopback && !changes && OPEN.contains(&request.path.as_str());
        // Checks in HTTP/1.0 have no Host field; a browser always has one.
        let is_check = is_open && !request.fields.contains_key("host");
        if !is_check && !self.knows_host(&request.fields) {
            return Access::Forbidden("the Host field is missing, or names another site");
        }
        if comes_from_elsewhere(&request.fields) {
            return Access::Forbidden("a page of another site sends this");
        }
        if changes && !is_json(request) {
            return Access::Forbidden("a body is JSON: Content-Type: application/json");
        }
        if is_open || self.has_token(&request.fields) { Access::Granted } else { Access::NoToken }
    }

    fn knows_host(&self, fields: &HeaderMap) -> bool {
        let mut all = fields.get_all("host").iter();
        let (Some(host), None) = (all.next().and_then(|one| one.to_str().ok()), all.next()) else {
            return false;
        };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.hosts.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(name))
    }

    /// Without a token in the configuration there is none to ask for. Digests are compared: how long that takes says
    /// nothing about the token.
    fn has_token(&self, fields: &HeaderMap) -> bool {
        let Some(wanted) = &self.token else { return true };
        let given =
            fields.get("authorization").and_then(|one| one.to_str().ok()).unwrap_or_default();
        let given =
            given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let digest: [u8; 32] =
            Sha256::digest(given.map_or("", |(_, token)| token.trim()).as_bytes()).into();
        digest.iter().zip(wanted).fold(0, |all, (one, other)| all | (one ^ other)) == 0
    }
}

/// Browsers say where a request comes from; other programs say nothing.
fn comes_from_elsewhere(fields: &HeaderMap) -> bool {
    let text = |name: &str| fields.get(name).and_then(|one| one.to_str().ok());
    let is_cross =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin = text("origin").map(|origin| origin.strip_prefix("http://").unwrap_or(origin));
    let is_other = origin
        .is_some_and(|origin| !text("host").is_some_and(|host| host.eq_ignore_ascii_case(origin)));
    is_cross || is_other
}

/// Forms of a page can be sent anywhere; JSON cannot without leave.
fn is_json(request: &AdminRequest) -> bool {
    let kind = request.fields.get("content-type").and_then(|one| one.to_str().ok());
    match kind {
        None => !request.has_body,
        Some(kind) => kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(method: &str, path: &str, fields: &[(&'static str, &str)]) -> AdminRequest {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        AdminRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: String::new(),
            fields: map,
            body: Bytes::new(),
            has_body: false,
            is_by_socket: false,
        }
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:9901");

    #[test]
    fn k02_a_token_is_asked_for() {
        let guard = Guard::new(Some("0123456789abcdef"), "127.0.0.1", true);
        let judge = |fields: &[(&'static str, &str)], path| {
            guard.judge(&request("GET", path, &[&[HOST], fields].concat()), true)
        };
        assert_eq!(judge(&[], "/status"), Access::NoToken);
        assert_eq!(judge(&[], "/metrics"), Access::Granted);
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "Bearer",
            "Basic 0123456789abcdef",
            "",
        ] {
            assert_eq!(judge(&[("authorization", wrong)], "/status"), Access::NoToken, "{wrong}");
        }
        for right in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(judge(&[("authorization", right)], "/status"), Access::Granted, "{right}");
        }
        let far = guard.judge(&request("GET", "/metrics", &[HOST]), false);
        assert_eq!(far, Access::NoToken, "beyond loopback everything wants a token");
    }

    #[test]
    fn k04_browsers_are_kept_out() {
        let guard = Guard::new(None, "127.0.0.1", true);
        let judge = |method, fields: &[(&'static str, &str)]| {
            guard.judge(&request(method, "/reload", fields), true)
        };
        assert_eq!(judge("POST", &[HOST]), Access::Granted);
        for fields in [
            &[("host", "evil.example")][..],
            &[("host", "127.0.0.1.evil.example:9901")],
            &[],
            &[HOST, HOST],
            &[HOST, ("origin", "http://evil.example")],
            &[HOST, ("via", "1.1 millrace")],
            &[HOST, ("origin", "null")],
            &[HOST, ("sec-fetch-site", "cross-site")],
            &[HOST, ("sec-fetch-site", "same-site")],
            &[HOST, ("content-type", "text/plain")],
            &[HOST, ("content-type", "application/x-www-form-urlencoded")],
            &[HOST, ("content-type", "multipart/form-data; boundary=x")],
        ] {
            assert!(matches!(judge("POST", fields), Access::Forbidden(_)), "{fields:?}");
        }
        let own = [HOST, ("origin", "http://127.0.0.1:9901"), ("sec-fetch-site", "same-origin")];
        assert_eq!(judge("POST", &own), Access::Granted);
        assert_eq!(judge("POST", &[("host", "localhost:1")]), Access::Granted);
    }
}
