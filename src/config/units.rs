//! What people write for durations, sizes, addresses and cores.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::admin::AdminAddress;
use super::model::{Address, Cores, HashOn};
use crate::base::limits::DURATION_MAX;
use crate::message::fields::is_token_byte;
use crate::message::target;

/// Reads "500ms", "10s", "5m", "1h", "2d": a whole number and a unit.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let hint = "write a whole number and a unit: \"500ms\", \"10s\", \"5m\", \"1h\" or \"2d\"";
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("\"{text}\" is no duration; {hint}")),
    };
    let number = target::parse_digits(number.as_bytes())
        .ok_or_else(|| format!("\"{text}\" is no duration; {hint}"))?;
    let millis = number.checked_mul(factor).map(Duration::from_millis);
    millis
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("\"{text}\" is longer than a year"))
}

/// Reads "512B", "64KiB", "10MiB", "1GiB", "1TiB", and "kB", "MB", "GB" as powers of 1000.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let hint = "write a whole number and a unit: \"512B\", \"64KiB\", \"10MiB\", \"1GiB\"";
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("\"{text}\" is no size; {hint}")),
    };
    target::parse_digits(number.as_bytes())
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("\"{text}\" is no size; {hint}"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start_matches(' '))
}

/// Reads where an endpoint is: `host:port`, `[v6]:port` or `unix:PATH`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        // sun_path holds 108 octets, the last of them zero.
        return match path.len() {
            0 => Err("the path after \"unix:\" is missing".to_owned()),
            1..=107 => Ok(Address::Unix(path.into())),
            _ => Err("a Unix socket's path has at most 107 octets".to_owned()),
        };
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return check_port(socket.port(), text).map(|()| Address::Socket(socket));
    }
    if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
        let rest = rest.trim_end_matches('/');
        return Err(format!("\"{text}\" is a URL; write the address alone: \"{rest}\""));
    }
    if text.parse::<IpAddr>().is_ok() || !text.contains(':') {
        return Err(format!("\"{text}\" has no port; write host:port, [v6]:port or unix:PATH"));
    }
    let name_len = target::check_authority(text.as_bytes()).map_err(|_| {
        format!("\"{text}\" is no address; write host:port, [v6]:port or unix:PATH")
    })?;
    let port = target::parse_port(&text.as_bytes()[name_len + 1..]).unwrap_or(0);
    Ok(Address::Name { host: text[..name_len].to_ascii_lowercase(), port })
}

/// Reads where a server is as people paste it: an address, or the URL of a host, whose port may be left
/// out. True if it is to be reached by TLS.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn origin(text: &str) -> Result<(String, bool), String> {
    // Schemes are written in either case (RFC 9110 section 4.2.3).
    let behind = |scheme: &str| {
        let begins = text.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme));
        begins.then(|| &text[scheme.len()..])
    };
    let (rest, port, is_secure) = if let Some(rest) = behind("https://") {
        (rest, 443, true)
    } else if let Some(rest) = behind("http://") {
        (rest, 80, false)
    } else {
        return address(text).map(|_| (text.to_owned(), false));
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.contains('@') {
        // It may have a password: that is not shown.
        let host = host.rsplit('@').next().unwrap_or_default();
        return Err(format!("there is a user before \"{host}\", which is not sent: leave it out"));
    }
    if !matches!(path, "" | "/") {
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        return Err(format!(
            "\"{host}{path}\" has a path behind its host, which only a route can add: write the host \
             alone, and in a file the route with rewrite = {{ add_prefix = \"{path}\" }}"
        ));
    }
    let is_bare = host
        .rsplit_once(':')
        .is_none_or(|(before, _)| before.starts_with('[') && host.ends_with(']'));
    let host = if is_bare { format!("{host}:{port}") } else { host.to_owned() };
    address(&host).map(|_| (host, is_secure))
}

/// Reads what to listen on: an IP address and a port; port 0 asks the system for one.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(socket);
    }
    let all = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"));
    let hint = match (all, text.strip_prefix("localhost:")) {
        (Some(port), _) => format!("for every interface write \"[::]:{port}\""),
        (_, Some(port)) => format!("write \"127.0.0.1:{port}\""),
        _ => "write an IP address and a port: \"127.0.0.1:8080\" or \"[::]:80\"".to_owned(),
    };
    Err(format!("\"{text}\" is nothing to listen on; {hint}"))
}

/// An address of an admin listener: `unix:/path`, or an IP address and a port.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn admin_address(text: &str) -> Result<AdminAddress, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') && path.len() <= 107 => {
            Ok(AdminAddress::Unix(path.into()))
        }
        Some(_) => {
            Err("a unix socket is \"unix:\" and an absolute path of at most 107 octets".to_owned())
        }
        None => listen(text).map(AdminAddress::Tcp),
    }
}

fn check_port(port: u16, text: &str) -> Result<(), String> {
    if port == 0 { Err(format!("\"{text}\" has port 0, which nothing listens on")) } else { Ok(()) }
}

/// Reads "all", a number of cores, or a list of core numbers such as "0,2-5". A lone number is a
/// count.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn cores(text: &str) -> Result<Cores, String> {
    let hint = "write \"all\", a number of cores, or core numbers as in \"0,2-5\"";
    let wrong = || format!("\"{text}\" says no cores; {hint}");
    let number = |part: &str| {
        let value = target::parse_digits(part.trim().as_bytes()).ok_or_else(wrong)?;
        usize::try_from(value).ok().filter(|value| *value < 4096).ok_or_else(wrong)
    };
    if text == "all" {
        return Ok(Cores::All);
    }
    if !text.contains([',', '-']) {
        return match number(text)? {
            0 => Err(format!(
                "\"0\" is a number of cores, and 0 cores cannot serve; core number 0 alone is \
                 written \"0-0\". Else {hint}"
            )),
            count => Ok(Cores::First(count)),
        };
    }
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((from, to)) => found.extend(number(from)?..=number(to)?),
            None => found.push(number(part)?),
        }
    }
    found.sort_unstable();
    found.dedup();
    if found.is_empty() { Err(wrong()) } else { Ok(Cores::These(found)) }
}

/// What a balancer hashes: `address`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`.
///
/// # Errors
/// What to write instead.
pub fn hash_on(text: &str) -> Result<HashOn, String> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
    match kind {
        "address" if text == kind => Ok(HashOn::Address),
        "path" if text == kind => Ok(HashOn::Path),
        "header" if is_token => Ok(HashOn::Header(name.to_owned())),
        "cookie" if is_token => Ok(HashOn::Cookie(name.to_owned())),
        "query" if is_token => Ok(HashOn::Query(name.to_owned())),
        _ => Err(format!(
            "\"{text}\" is none of \"address\", \"path\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_that_can_stand_in_host() {
        let authority = |text| address(text).unwrap().authority(false);
        assert_eq!(authority("unix:/run/app socket"), "localhost");
        assert_eq!(authority("app.example:80"), "app.example");
        assert_eq!(authority("app.example:81"), "app.example:81");
        assert_eq!(authority("[::1]:80"), "[::1]:80");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "-1s", "1.5s", "s", "100000000000000000000s", "400d", "10sec"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for bad in ["", "10", "1K", "-1B", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_come_in_three_kinds() {
        assert!(matches!(address("127.0.0.1:80"), Ok(Address::Socket(_))));
        assert!(matches!(address("[::1]:80"), Ok(Address::Socket(_))));
        assert!(
            matches!(address("App.local:80"), Ok(Address::Name { host, .. }) if host == "app.local")
        );
        assert!(matches!(address("unix:/run/app.sock"), Ok(Address::Unix(_))));
        for bad in ["", "a", "127.0.0.1", "::1", "a:", "a:0", "http://a:80", "unix:", "a b:80"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cores_are_counted_or_listed() {
        assert_eq!(cores("all"), Ok(Cores::All));
        assert_eq!(cores("4"), Ok(Cores::First(4)));
        assert_eq!(cores("0,2-4"), Ok(Cores::These(vec![0, 2, 3, 4])));
        for bad in ["", "0", "some", "-", "1-x", "5000,1"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }
}
