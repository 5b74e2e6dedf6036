//! What must not pass from one connection to the next: hop-by-hop fields, and what a client may not say of itself.
//! What a proxy adds comes after that (`introduce`; exam, rule 8).

use std::net::{IpAddr, SocketAddr};

use crate::base::error::{Kind, Result};
use crate::base::limits;
use crate::message::fields::{Fields, list};
use crate::message::head::{Options, RequestHead, ResponseHead};
use crate::message::name::{Name, NameSet};

/// Fields that end at this connection (RFC 9110 section 7.6.1), and `Proxy`, which CGI programs
/// take for a setting (CVE-2016-5385).
const HOP_BY_HOP: NameSet = NameSet::of(&[
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::ProxyAuthenticate,
    Name::ProxyAuthorization,
    Name::Te,
    Name::Trailer,
    Name::Upgrade,
    Name::Http2Settings,
    Name::Proxy,
]);

/// Fields that claim to know what the client is. Believed from trusted proxies only, and never in an answer.
const ABOUT_CLIENT: NameSet = NameSet::of(&[
    Name::Forwarded,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XForwardedOther,
    Name::XRealIp,
]);

/// The same, and a request's id, which an answer may carry.
const FORWARDING: NameSet = ABOUT_CLIENT.and(Name::XRequestId);

/// Fields that a Connection field of a request must not name: taking them out would change which client is
/// asking or what for (exam C01).
const PROTECTED: &[&[u8]] = &[
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"authorization",
    b"cookie",
    b"content-type",
    b"content-encoding",
    b"range",
    b"expect",
];

/// Reads the Connection field, remembers a requested upgrade, and takes out what is hop-by-hop.
///
/// # Errors
/// `ConnectionOption` if Connection names a field that belongs to the whole path.
pub fn strip_request(head: &mut RequestHead) -> Result<()> {
    if head.fields.has(Name::Connection) {
        head.options = options(&head.fields);
        let named = nominated(&head.fields);
        for name in &named {
            if PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected)) {
                return Err(Kind::ConnectionOption);
            }
        }
        named.iter().for_each(|name| head.fields.remove_named(name));
    }
    if let Some(protocol) = asked_protocol(head.options, &head.fields) {
        head.set_upgrade(&protocol);
    }
    head.fields.remove_all(HOP_BY_HOP);
    Ok(())
}

/// The same for a response, and takes out what only we may say (exam C11).
pub fn strip_response(head: &mut ResponseHead) {
    if head.fields.has(Name::Connection) {
        head.options = options(&head.fields);
        nominated(&head.fields).iter().for_each(|name| head.fields.remove_named(name));
    }
    if let Some(protocol) = asked_protocol(head.options, &head.fields) {
        head.set_upgrade(&protocol);
    }
    head.fields.remove_all(HOP_BY_HOP);
    head.fields.remove_all(ABOUT_CLIENT);
}

/// The protocol of an Upgrade field that Connection vouches for. Rare enough to be copied out.
fn asked_protocol(options: Options, fields: &Fields) -> Option<Vec<u8>> {
    fields.only(Name::Upgrade).filter(|_| options.upgrade).map(<[u8]>::to_vec)
}

fn options(fields: &Fields) -> Options {
    let mut options = Options::default();
    for option in list(fields.values(Name::Connection)) {
        options.close |= option.eq_ignore_ascii_case(b"close");
        options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    options
}

/// The fields that Connection names. Allocates only if it names any, which is rare.
fn nominated(fields: &Fields) -> Vec<Vec<u8>> {
    let is_option = |member: &[u8]| {
        [&b"close"[..], b"keep-alive", b"upgrade"]
            .iter()
            .any(|option| member.eq_ignore_ascii_case(option))
    };
    list(fields.values(Name::Connection))
        .filter(|member| !is_option(member))
        .map(<[u8]>::to_vec)
        .collect()
}

/// The client that sent a request, as far as it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The peer of the connection (or what a trusted PROXY header said).
    pub address: SocketAddr,
    /// The peer's forwarding fields are believed.
    pub is_trusted: bool,
    /// The client's side of the connection is encrypted.
    pub is_secure: bool,
}

impl Client {
    /// Its address.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.address.ip()
    }
}

/// The first address from the right of X-Forwarded-For that is not a trusted proxy
/// (exam C06); the peer if it is not trusted itself or the field ends in junk.
pub fn client_address(
    head: &RequestHead,
    client: &Client,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = client.peer();
    if !client.is_trusted || !head.fields.has(Name::XForwardedFor) {
        return address;
    }
    // The last lines count: what a client puts in front of them counts for nothing.
    let mut values: [&[u8]; 8] = [b""; 8];
    let lines = head.fields.values(Name::XForwardedFor).count();
    let last = head.fields.values(Name::XForwardedFor).skip(lines.saturating_sub(8));
    let mut count = 0;
    for (slot, value) in values.iter_mut().zip(last) {
        *slot = value;
        count += 1;
    }
    let hops = values[..count].iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for hop in hops.take(limits::FORWARDED_HOPS_MAX) {
        let parsed = std::str::from_utf8(hop.trim_ascii()).ok().and_then(|text| text.parse().ok());
        let Some(parsed) = parsed else { break };
        address = parsed;
        if !is_trusted(parsed) {
            break;
        }
    }
    address
}

/// Takes out what an untrusted client says about itself. Before routing, so that no rule can be
/// fooled by it.
pub fn distrust(head: &mut RequestHead) {
    head.fields.remove_all(FORWARDING);
}

/// Max-Forwards (RFC 9110 section 7.6.2), which counts for OPTIONS here: `true` if the request
/// must be answered and not forwarded; otherwise it is counted down.
pub fn ends_here(head: &mut RequestHead) -> bool {
    if head.method != crate::message::head::Method::Options || !head.fields.has(Name::MaxForwards) {
        return false;
    }
    let left = head.fields.only(Name::MaxForwards).and_then(crate::message::target::parse_digits);
    if let Some(left) = left.filter(|left| *left > 0) {
        head.fields.set(b"Max-Forwards", (left - 1).to_string().as_bytes());
    }
    left == Some(0)
}

/// Whether a trailer field may be passed on: nothing that frames, routes or names a user
/// (RFC 9110 section 6.5.1).
#[must_use]
pub fn is_trailer_allowed(name: &[u8]) -> bool {
    let refused: &[&[u8]] = &[
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"age",
        b"expires",
        b"location",
        b"retry-after",
        b"vary",
        b"www-authenticate",
        b"range",
        b"max-forwards",
    ];
    matches!(Name::of(name), Name::Other | Name::Etag | Name::CacheStatus)
        && !name.contains(&b'_')
        && !refused.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::message) fn head(lines: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_authority(b"a.example:80", 9);
        for (name, value) in lines {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    pub(in crate::message) fn client(peer: &str, is_trusted: bool) -> Client {
        let address = SocketAddr::new(peer.parse().unwrap(), 1);
        Client { address, is_trusted, is_secure: false }
    }

    #[test]
    fn connection_names_what_to_strip() {
        let mut head = head(&[("Connection", "close, X-Foo"), ("X-Foo", "1"), ("X-Bar", "2")]);
        strip_request(&mut head).unwrap();
        assert!(head.options.close);
        assert_eq!(head.fields.len(), 1);
    }

    #[test]
    fn connection_cannot_name_what_is_protected() {
        for name in ["Host", "content-LENGTH", "Transfer-Encoding", "Authorization", "Cookie"] {
            let mut head = head(&[("Connection", name)]);
            assert_eq!(strip_request(&mut head), Err(Kind::ConnectionOption), "{name}");
        }
    }

    #[test]
    fn the_client_is_the_first_untrusted_from_the_right() {
        let trusted = |address: IpAddr| address.is_loopback();
        let find = |field: &str, peer: &str, is_trusted| {
            let head = head(&[("X-Forwarded-For", field)]);
            client_address(&head, &client(peer, is_trusted), trusted).to_string()
        };
        assert_eq!(find("6.6.6.6, 1.2.3.4, 127.0.0.2", "127.0.0.1", true), "1.2.3.4");
        assert_eq!(find("junk, 127.0.0.2", "127.0.0.1", true), "127.0.0.2");
        assert_eq!(find("1.2.3.4", "8.8.8.8", false), "8.8.8.8");
        assert_eq!(find("2001:db8::1", "127.0.0.1", true), "2001:db8::1");
    }

    #[test]
    fn trailers_cannot_carry_what_belongs_in_a_head() {
        assert!(is_trailer_allowed(b"grpc-status") && is_trailer_allowed(b"Server-Timing"));
        for name in ["Host", "Content-Length", "Set-Cookie", "Authorization", "X-Forwarded-For"] {
            assert!(!is_trailer_allowed(name.as_bytes()), "{name}");
        }
    }
}
