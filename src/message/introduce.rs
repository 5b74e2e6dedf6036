//! What a proxy adds to a request: Via, X-Forwarded-*, Forwarded, X-Request-Id. What an untrusted client forged was
//! taken out before (`hop`; exam, rule 8).

use std::io::Write;
use std::net::IpAddr;

use super::forwarded;
use super::hop::Client;
use crate::base::error::{Kind, Result};
use crate::base::limits;
use crate::message::fields::{Fields, list};
use crate::message::head::{RequestHead, Version};
use crate::message::name::Name;

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

/// The lines that requests get, for the clients that asked last: a slot for many clients, of which the last one has it.
/// They are made anew when the authority or the version changes.
#[derive(Debug)]
pub struct Introductions {
    slots: Box<[Introduction]>,
}

impl Default for Introductions {
    fn default() -> Self {
        let slots = (0..limits::INTRODUCTIONS).map(|_| Introduction::default());
        Self { slots: slots.collect() }
    }
}

impl Introductions {
    /// The lines for this request.
    fn of(&mut self, head: &RequestHead, added: &Added<'_>) -> &Fields {
        let at = slot(added.client.peer());
        let one = &mut self.slots[at];
        one.suit(head, added);
        &one.lines
    }
}

/// The slot of a client: neighbours have different ones.
fn slot(client: IpAddr) -> usize {
    let bits = match client {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            u64::try_from((bits >> 64) ^ (bits & u128::from(u64::MAX))).unwrap_or(0)
        }
    };
    // Fibonacci hashing (Knuth, volume 3, section 6.4): the upper bits of the product depend on all of the address.
    let spread = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    spread as usize % limits::INTRODUCTIONS
}

/// What one client's requests get.
#[derive(Debug, Default)]
struct Introduction {
    client: Option<IpAddr>,
    is_secure: bool,
    version: Version,
    authority: Vec<u8>,
    lines: Fields,
}

/// Adds what a proxy adds; what an untrusted client forged was taken out by `distrust`.
///
/// # Errors
/// `Loop` if Via says that the request was here before, or was in too many places.
pub fn forward_request(
    head: &mut RequestHead,
    added: &Added<'_>,
    kept: &mut Introductions,
) -> Result<()> {
    check_loop(&head.fields, added.via.as_bytes())?;
    if head.fields.has_any(forwarded::BOTH) {
        // What is there already is part of what is added.
        let authority = head.authority().to_vec();
        add(&mut head.fields, &authority, head.version, added);
    } else {
        let lines = kept.of(head, added);
        head.fields.append(lines);
    }
    if !head.fields.has(Name::XRequestId) {
        head.fields.push_known(Name::XRequestId, b"X-Request-Id", added.request_id);
    }
    Ok(())
}

impl Introduction {
    /// Makes sure that the lines are the ones for this request.
    fn suit(&mut self, head: &RequestHead, added: &Added<'_>) {
        let client = added.client.peer();
        let is_same = self.client == Some(client)
            && self.is_secure == added.client.is_secure
            && self.version == head.version
            && self.authority == head.authority();
        if is_same {
            return;
        }
        (self.client, self.is_secure) = (Some(client), added.client.is_secure);
        self.version = head.version;
        self.authority.clear();
        self.authority.extend_from_slice(head.authority());
        self.lines.clear(limits::BUFFER_SMALL);
        add(&mut self.lines, &self.authority, head.version, added);
    }
}

fn add(fields: &mut Fields, authority: &[u8], version: Version, added: &Added<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::hop::tests::{client, head};

    fn forward(head: &mut RequestHead, client: Client) {
        let added = Added { client: &client, via: "m", request_id: b"id" };
        forward_request(head, &added, &mut Introductions::default()).unwrap();
    }

    fn value<'a>(head: &'a RequestHead, name: &'a str) -> Vec<&'a str> {
        let values = head.fields.values_named(name.as_bytes());
        values.map(|value| std::str::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn forged_forwarding_fields_are_replaced() {
        let mut head = head(&[("X-Forwarded-For", "1.2.3.4"), ("X-Real-IP", "1.2.3.4")]);
        let client = client("9.9.9.9", false);
        crate::message::hop::distrust(&mut head);
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
    fn loops_are_seen_in_via() {
        let mut there = head(&[("Via", "1.0 fred, 1.1 ME (comment)")]);
        let client = client("::1", false);
        let added = Added { client: &client, via: "me", request_id: b"" };
        let mut kept = Introductions::default();
        assert_eq!(forward_request(&mut there, &added, &mut kept), Err(Kind::Loop));
        let mut far = head(&[("Via", &"1.1 x,".repeat(20))]);
        assert_eq!(forward_request(&mut far, &added, &mut kept), Err(Kind::Loop));
    }

    #[test]
    fn lines_are_kept_for_as_long_as_they_are_true() {
        let client = client("9.9.9.9", false);
        let added = Added { client: &client, via: "m", request_id: b"id" };
        let mut kept = Introductions::default();
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
            forward_request(&mut other, &added, &mut Introductions::default()).unwrap();
            for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "via", "x-request-id"]
            {
                assert_eq!(value(&one, name), value(&other, name), "{name}");
            }
            assert_eq!(value(&one, "x-forwarded-host"), [authority]);
        }
    }

    #[test]
    fn no_client_gets_the_lines_of_another() {
        let mut kept = Introductions::default();
        // More than there are slots, twice, by clear text and by TLS.
        let clients = u32::try_from(limits::INTRODUCTIONS).unwrap();
        for round in 0..2 * clients {
            let number = round % (clients + 7);
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number * 31));
            let mut client = client(&address.to_string(), false);
            client.is_secure = round % 3 == 0;
            let mut request = head(&[]);
            let added = Added { client: &client, via: "m", request_id: b"id" };
            forward_request(&mut request, &added, &mut kept).unwrap();
            assert_eq!(value(&request, "x-forwarded-for"), [address.to_string()]);
            let proto = if client.is_secure { "https" } else { "http" };
            assert_eq!(value(&request, "x-forwarded-proto"), [proto]);
        }
    }
}
