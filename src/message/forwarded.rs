//! What a trusted proxy says of its client, in either of the two families of fields: X-Forwarded-* and
//! Forwarded (RFC 7239). Most proxies set one; from here on both say the same, and so do the log and the
//! cache, which read one of them (exam R30).

use crate::message::fields::Fields;
use crate::message::head::RequestHead;
use crate::message::name::{Name, NameSet};
use crate::message::target::check_authority;

const BY_X: NameSet =
    NameSet::of(&[Name::XForwardedFor, Name::XForwardedProto, Name::XForwardedHost]);
/// The fields of both families that proxies agree on.
pub(super) const BOTH: NameSet = BY_X.and(Name::Forwarded);

/// Makes both families say the same. Where they differ X-Forwarded-* counts: balancers that know neither of
/// them pass on what clients send as Forwarded.
pub fn unify(head: &mut RequestHead, is_secure: bool) {
    if !head.fields.has_any(BOTH) {
        return;
    }
    let is_x = head.fields.has_any(BY_X);
    let mut said = if is_x { by_x_forwarded(&head.fields) } else { by_forwarded(&head.fields) };
    said.proto = said.proto.or(Some(if is_secure { "https" } else { "http" }));
    let authority = head.authority().to_vec();
    write(&mut head.fields, &said, &authority, is_x);
}

/// What is said of the client.
#[derive(Debug, Default, PartialEq, Eq)]
struct ForwardedSaid {
    /// From the client on: addresses, or words that stand for them.
    nodes: Vec<Vec<u8>>,
    proto: Option<&'static str>,
    host: Option<Vec<u8>>,
}

fn by_x_forwarded(fields: &Fields) -> ForwardedSaid {
    let members = |name: Name| {
        let all = fields.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        all.map(<[u8]>::trim_ascii).filter(|one| !one.is_empty())
    };
    ForwardedSaid {
        nodes: members(Name::XForwardedFor).map(<[u8]>::to_vec).collect(),
        proto: members(Name::XForwardedProto).next().and_then(scheme),
        host: members(Name::XForwardedHost).next().and_then(host),
    }
}

fn by_forwarded(fields: &Fields) -> ForwardedSaid {
    let mut said = ForwardedSaid::default();
    let mut is_first = true;
    for value in fields.values(Name::Forwarded) {
        for element in split(value, b',') {
            for pair in split(element, b';') {
                let Some(at) = memchr::memchr(b'=', pair) else { continue };
                let (name, value) = (pair[..at].trim_ascii(), unquoted(&pair[at + 1..]));
                if name.eq_ignore_ascii_case(b"for") {
                    said.nodes.push(without_port(&value).to_vec());
                } else if is_first && name.eq_ignore_ascii_case(b"proto") {
                    said.proto = scheme(&value);
                } else if is_first && name.eq_ignore_ascii_case(b"host") {
                    said.host = host(&value);
                }
            }
            is_first = false;
        }
    }
    said
}

/// Parts of a value, but for what stands in quotes.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            _ if was_escaped => false,
            b'"' => {
                is_quoted = !is_quoted;
                false
            }
            b'\\' if is_quoted => {
                is_escaped = true;
                false
            }
            byte => *byte == separator && !is_quoted,
        }
    });
    parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value).iter().filter(|byte| **byte != b'\\').copied().collect()
}

/// `[v6]:port`, `[v6]`, `v4:port` or a word.
fn without_port(node: &[u8]) -> &[u8] {
    if let Some(rest) = node.strip_prefix(b"[") {
        return rest.split(|byte| *byte == b']').next().unwrap_or(rest);
    }
    node.split(|byte| *byte == b':').next().unwrap_or(node)
}

fn scheme(text: &[u8]) -> Option<&'static str> {
    ["https", "http"].into_iter().find(|one| text.eq_ignore_ascii_case(one.as_bytes()))
}

fn host(text: &[u8]) -> Option<Vec<u8>> {
    check_authority(text).is_ok().then(|| text.to_vec())
}

/// Writes both families. X-Forwarded-For stays as it came, where it came.
fn write(fields: &mut Fields, said: &ForwardedSaid, authority: &[u8], is_x: bool) {
    let ForwardedSaid { nodes, proto, host: told_host } = said;
    // What nothing was said of is added later, as for any client: it is no part of a cache's key.
    let host = told_host.as_deref().or(Some(authority)).filter(|host| !host.is_empty());
    if !is_x && !nodes.is_empty() {
        fields.remove(Name::XForwardedFor);
        fields.push_known(Name::XForwardedFor, b"X-Forwarded-For", &nodes.join(&b", "[..]));
    }
    fields.remove_all(NameSet::of(&[Name::XForwardedProto, Name::XForwardedHost, Name::Forwarded]));
    let proto = proto.unwrap_or("http").as_bytes();
    fields.push_known(Name::XForwardedProto, b"X-Forwarded-Proto", proto);
    if let Some(host) = told_host {
        fields.push_known(Name::XForwardedHost, b"X-Forwarded-Host", host);
    }
    let mut line = Vec::new();
    for node in nodes {
        line.extend_from_slice(if line.is_empty() { b"for=" } else { b", for=" });
        push_node(node, &mut line);
        if node.as_ptr() == nodes[0].as_ptr() {
            if let Some(host) = host {
                line.extend_from_slice(b";host=\"");
                line.extend_from_slice(host);
                line.push(b'"');
            }
            line.extend_from_slice(b";proto=");
            line.extend_from_slice(proto);
        }
    }
    if !line.is_empty() {
        fields.push_known(Name::Forwarded, b"Forwarded", &line);
    }
}

/// RFC 7239 section 6: an address of version 6 in quotes and brackets; what is neither an address nor a word
/// of the allowed kind is not known.
fn push_node(node: &[u8], line: &mut Vec<u8>) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let text = std::str::from_utf8(node).unwrap_or_default();
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        line.extend_from_slice(b"\"[");
        line.extend_from_slice(node);
        line.extend_from_slice(b"]\"");
    } else if node.iter().all(is_word) {
        line.extend_from_slice(node);
    } else {
        line.extend_from_slice(b"unknown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(lines: &[(&str, &str)], is_secure: bool) -> Vec<String> {
        let mut head = RequestHead::default();
        head.set_authority(b"a.example", 9);
        lines.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        unify(&mut head, is_secure);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let names =
            [Name::XForwardedFor, Name::XForwardedProto, Name::XForwardedHost, Name::Forwarded];
        let joined = |name| head.fields.values(name).map(text).collect::<Vec<_>>().join(" | ");
        names.into_iter().map(joined).collect()
    }

    #[test]
    fn both_families_say_the_same() {
        for (lines, expected) in [
            (&[][..], ["", "", "", ""]),
            (
                &[("X-Forwarded-For", "1.2.3.4, ::1"), ("X-Forwarded-Proto", "HTTPS")][..],
                [
                    "1.2.3.4, ::1",
                    "https",
                    "",
                    "for=1.2.3.4;host=\"a.example\";proto=https, for=\"[::1]\"",
                ],
            ),
            (
                &[(
                    "Forwarded",
                    "For=\"[2001:db8::1]:4711\";Proto=https;host=\"b:1\", for=1.2.3.4:9",
                )],
                [
                    "2001:db8::1, 1.2.3.4",
                    "https",
                    "b:1",
                    "for=\"[2001:db8::1]\";host=\"b:1\";proto=https, for=1.2.3.4",
                ],
            ),
            (
                &[("Forwarded", "for=\"a,b\\\";c\";proto=x"), ("Forwarded", "for=_hidden")],
                [
                    "a,b\";c, _hidden",
                    "http",
                    "",
                    "for=unknown;host=\"a.example\";proto=http, for=_hidden",
                ],
            ),
            (&[("X-Forwarded-Proto", "evil")], ["", "http", "", ""]),
            (
                &[("X-Forwarded-For", "9.9.9.9"), ("Forwarded", "for=5.6.7.8;proto=https")],
                ["9.9.9.9", "http", "", "for=9.9.9.9;host=\"a.example\";proto=http"],
            ),
        ] {
            assert_eq!(unified(lines, false), expected, "{lines:?}");
        }
        assert_eq!(unified(&[("X-Forwarded-For", "9.9.9.9")], true)[1], "https");
    }
}
