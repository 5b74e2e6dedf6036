//! What must not pass from one connection to the next, and what a proxy adds: hop-by-hop fields,
//! Via, X-Forwarded-*, Forwarded, X-Request-Id. Strip, then add (exam, rule 8).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use crate::base::error::{Kind, Result};
use crate::base::limits;
use crate::message::fields::{Fields, list};
use crate::message::head::{Options, RequestHead, ResponseHead, Version};
use crate::message::name::{Name, Names};

/// Fields that end at this connection (RFC 9110 section 7.6.1), and `Proxy`, which CGI programs
/// take for a setting (CVE-2016-5385).
const HOP_BY_HOP: Names = Names::of(&[
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
const ABOUT_CLIENT: Names = Names::of(&[
    Name::Forwarded,
    Name::XForwardedFor,
    Name::XForwardedProto,
    Name::XForwardedHost,
    Name::XForwardedPort,
    Name::XForwardedOther,
    Name::XRealIp,
]);

/// The same, and a request's id, which an answer may carry.
const FORWARDING: Names = ABOUT_CLIENT.and(Name::XRequestId);

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

/// An IP address as text: at most 45 octets.
#[derive(Clone, Copy, Debug)]
struct AddressText {
    bytes: [u8; 45],
    len: u8,
}

impl AddressText {
    /// Formats an address.
    fn new(address: IpAddr) -> Self {
        let mut bytes = [0; 45];
        let mut rest = &mut bytes[..];
        // The longest IPv6 address fits exactly.
        let _ = write!(rest, "{address}");
        let left = rest.len();
        Self { len: u8::try_from(bytes.len() - left).unwrap_or(0), bytes }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
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

/// What we add to a request; all of it plain values, so that adding is a pure function.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// The client.
    pub client: &'a Client,
    /// Our name in Via.
    pub via: &'a str,
    /// A fresh request id, for a request that has none we believe.
    pub request_id: &'a [u8],
}

/// The lines that one connection's requests get. They change with the authority and the version
/// alone, which hardly ever change, so they are kept from one request to the next.
#[derive(Debug, Default)]
pub struct Kept {
    authority: Vec<u8>,
    version: Version,
    lines: Fields,
}

/// The fields that are kept; a request that has one of them already gets lines of its own.
const KEPT: Names =
    Names::of(&[Name::XForwardedFor, Name::XForwardedProto, Name::XForwardedHost, Name::Forwarded]);

/// Adds what a proxy adds; what an untrusted client forged was taken out by `distrust`.
///
/// # Errors
/// `Loop` if Via says that the request was here before, or was in too many places.
pub fn forward_request(head: &mut RequestHead, added: &Added<'_>, kept: &mut Kept) -> Result<()> {
    check_loop(&head.fields, added.via.as_bytes())?;
    if head.fields.has_any(KEPT) {
        let authority = head.authority().to_vec();
        add(&mut head.fields, &authority, head.version, added);
    } else {
        kept.suit(head, added);
        head.fields.append(&kept.lines);
    }
    if !head.fields.has(Name::XRequestId) {
        head.fields.push_known(Name::XRequestId, b"X-Request-Id", added.request_id);
    }
    Ok(())
}

impl Kept {
    /// Makes sure that the lines are the ones for this request.
    fn suit(&mut self, head: &RequestHead, added: &Added<'_>) {
        let is_same = self.version == head.version && self.authority == head.authority();
        if is_same && !self.lines.is_empty() {
            return;
        }
        self.version = head.version;
        self.authority.clear();
        self.authority.extend_from_slice(head.authority());
        self.lines.clear(limits::BUFFER_SMALL);
        add(&mut self.lines, &self.authority, head.version, added);
        // They stay as long as the connection, most of which idle.
        self.authority.shrink_to_fit();
        self.lines.shrink_to_fit();
    }
}

fn add(fields: &mut Fields, authority: &[u8], version: Version, added: &Added<'_>) {
    // Once a connection, nearly always.
    let text = AddressText::new(added.client.peer());
    let address = text.bytes();
    let own: &[u8] = if added.client.is_secure { b"https" } else { b"http" };
    // Where this element is the first, it says what the other family says (exam R30).
    let is_first = !fields.has(Name::Forwarded);
    let told = fields.only(Name::XForwardedProto).filter(|_| is_first).map(<[u8]>::to_vec);
    let proto = told.as_deref().unwrap_or(own);
    let told = fields.only(Name::XForwardedHost).filter(|_| is_first).map(<[u8]>::to_vec);
    let authority = told.as_deref().unwrap_or(authority);
    append(fields, Name::XForwardedFor, b"X-Forwarded-For", &[address]);
    if !fields.has(Name::XForwardedProto) {
        fields.push_known(Name::XForwardedProto, b"X-Forwarded-Proto", proto);
    }
    if !fields.has(Name::XForwardedHost) && !authority.is_empty() {
        fields.push_known(Name::XForwardedHost, b"X-Forwarded-Host", authority);
    }
    // RFC 7239 section 4: an IPv6 address is quoted and bracketed, and so is a host with a port.
    let (open, shut): (&[u8], &[u8]) =
        if added.client.peer().is_ipv6() { (b"\"[", b"]\"") } else { (b"", b"") };
    let (host, quote): (&[u8], &[u8]) =
        if authority.is_empty() { (b"", b"") } else { (b";host=\"", b"\"") };
    let node = [b"for=", open, address, shut, host, authority, quote, b";proto=", proto];
    append(fields, Name::Forwarded, b"Forwarded", &node);
    // RFC 9110 section 7.6.3: the version that the request came in. A line of its own is the same
    // as another member of the list (section 5.3).
    let received: &[u8] = match version {
        Version::Http10 => b"1.0 ",
        Version::Http11 => b"1.1 ",
        Version::Http2 => b"2.0 ",
    };
    fields.push_parts(Name::Via, b"Via", &[received, added.via.as_bytes()]);
}

/// RFC 9110 section 7.6.3: Via lists all that the request went through.
fn check_loop(fields: &Fields, via: &[u8]) -> Result<()> {
    if !fields.has(Name::Via) {
        return Ok(());
    }
    let mut hops = 0;
    for hop in list(fields.values(Name::Via)) {
        hops += 1;
        let received_by = hop.split(|byte| matches!(byte, b' ' | b'\t')).nth(1).unwrap_or_default();
        if received_by.eq_ignore_ascii_case(via) || hops >= limits::VIA_HOPS_MAX {
            return Err(Kind::Loop);
        }
    }
    Ok(())
}

/// Adds a member to a list field, as a line of its own: the same thing (RFC 9110 section 5.3),
/// and nothing is rewritten. X-Forwarded-For is not always read like that, so it is joined.
fn append(fields: &mut Fields, known: Name, name: &[u8], parts: &[&[u8]]) {
    if known != Name::XForwardedFor || !fields.has(known) {
        return fields.push_parts(known, name, parts);
    }
    let mut joined = Vec::new();
    for value in fields.values(known) {
        joined.extend_from_slice(value);
        joined.extend_from_slice(b", ");
    }
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    fields.remove(known);
    fields.push_known(known, name, &joined);
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
mod tests {
    use super::*;

    fn head(lines: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_authority(b"a.example:80", 9);
        for (name, value) in lines {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn client(peer: &str, is_trusted: bool) -> Client {
        let address = SocketAddr::new(peer.parse().unwrap(), 1);
        Client { address, is_trusted, is_secure: false }
    }

    fn forward(head: &mut RequestHead, client: Client) {
        let added = Added { client: &client, via: "m", request_id: b"id" };
        forward_request(head, &added, &mut Kept::default()).unwrap();
    }

    fn value<'a>(head: &'a RequestHead, name: &'a str) -> Vec<&'a str> {
        let values = head.fields.values_named(name.as_bytes());
        values.map(|value| std::str::from_utf8(value).unwrap()).collect()
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
    fn forged_forwarding_fields_are_replaced() {
        let mut head = head(&[("X-Forwarded-For", "1.2.3.4"), ("X-Real-IP", "1.2.3.4")]);
        let client = client("9.9.9.9", false);
        distrust(&mut head);
        forward(&mut head, client);
        assert_eq!(value(&head, "x-forwarded-for"), ["9.9.9.9"]);
        assert!(value(&head, "x-real-ip").is_empty());
        assert_eq!(value(&head, "forwarded"), ["for=9.9.9.9;host=\"a.example:80\";proto=http"]);
        assert_eq!(value(&head, "via"), ["1.1 m"]);
        assert_eq!(value(&head, "x-request-id"), ["id"]);
    }

    #[test]
    fn a_trusted_peer_is_appended_to() {
        let mut head = head(&[("X-Forwarded-For", "1.2.3.4"), ("X-Request-Id", "theirs")]);
        let client = client("::1", true);
        forward(&mut head, client);
        assert_eq!(value(&head, "x-forwarded-for"), ["1.2.3.4, ::1"]);
        assert_eq!(value(&head, "x-request-id"), ["theirs"]);
        assert_eq!(value(&head, "forwarded"), ["for=\"[::1]\";host=\"a.example:80\";proto=http"]);
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
    fn loops_are_seen_in_via() {
        let mut there = head(&[("Via", "1.0 fred, 1.1 ME (comment)")]);
        let client = client("::1", false);
        let added = Added { client: &client, via: "me", request_id: b"" };
        let mut kept = Kept::default();
        assert_eq!(forward_request(&mut there, &added, &mut kept), Err(Kind::Loop));
        let mut far = head(&[("Via", &"1.1 x,".repeat(20))]);
        assert_eq!(forward_request(&mut far, &added, &mut kept), Err(Kind::Loop));
    }

    #[test]
    fn lines_are_kept_for_as_long_as_they_are_true() {
        let client = client("9.9.9.9", false);
        let added = Added { client: &client, via: "m", request_id: b"id" };
        let mut kept = Kept::default();
        let steps = [("a.example", Version::Http11), ("a.example", Version::Http11)];
        for (authority, version) in steps
            .into_iter()
            .chain([("b.example", Version::Http11), ("b.example", Version::Http10)])
        {
            let mut one = RequestHead::default();
            one.version = version;
            one.set_authority(authority.as_bytes(), authority.len());
            let mut other = one.clone();
            forward_request(&mut one, &added, &mut kept).unwrap();
            forward_request(&mut other, &added, &mut Kept::default()).unwrap();
            for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "via", "x-request-id"]
            {
                assert_eq!(value(&one, name), value(&other, name), "{name}");
            }
            assert_eq!(value(&one, "x-forwarded-host"), [authority]);
        }
    }

    #[test]
    fn trailers_cannot_carry_what_belongs_in_a_head() {
        assert!(is_trailer_allowed(b"grpc-status") && is_trailer_allowed(b"Server-Timing"));
        for name in ["Host", "Content-Length", "Set-Cookie", "Authorization", "X-Forwarded-For"] {
            assert!(!is_trailer_allowed(name.as_bytes()), "{name}");
        }
    }
}
