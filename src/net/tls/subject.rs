//! What a client's certificate says of its owner, in the forms in which endpoints are told (exam R12):
//! the subject by RFC 4514, so that no two subjects look alike, the alternative names, the fingerprint, and
//! the certificate itself by RFC 9440.

use std::net::Ipv6Addr;

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// What a certificate says of its owner, as it is told to endpoints: values of fields, in printable
/// ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// RFC 4514; nothing if it is empty.
    pub subject: Option<Box<[u8]>>,
    pub alternatives: Option<Box<[u8]>>,
    /// SHA-256, in lower case.
    pub fingerprint: Box<[u8]>,
    /// RFC 9440.
    pub certificate: Box<[u8]>,
}

/// What a client's certificate says.
#[must_use]
pub fn told(certificate: &CertificateDer<'_>) -> Option<ClientIdentity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = subject(parsed.subject());
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|one| alternatives_text(&one.value.general_names));
    let hash = HEXLOWER.encode(&Sha256::digest(certificate));
    let whole = format!(":{}:", BASE64.encode(certificate));
    Some(ClientIdentity {
        subject: (!subject.is_empty()).then(|| subject.into()),
        alternatives: alternatives.map(|text| text.into_bytes().into()),
        fingerprint: hash.into_bytes().into(),
        certificate: whole.into_bytes().into(),
    })
}

/// A name by RFC 4514, in printable ASCII: no two names look alike, and none ends its line.
fn subject(name: &X509Name<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    // Section 2.1: the last part first.
    for (at, part) in parts.into_iter().rev().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push(b'+');
            }
            let value = attribute.attr_value();
            let tag = u8::try_from(value.tag().0).unwrap_or(0);
            put_attribute(&attribute.attr_type().to_id_string(), tag, value.data, &mut out);
        }
    }
    out
}

/// Attribute types that have names (RFC 4514 section 3).
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

fn put_attribute(kind: &str, tag: u8, data: &[u8], out: &mut Vec<u8>) {
    let name = TYPES.iter().find(|(id, _)| *id == kind).map(|(_, name)| *name);
    let text = match tag {
        // UTF8String, and what is ASCII: NumericString, PrintableString, IA5String, VisibleString.
        12 => std::str::from_utf8(data).ok().map(str::to_owned),
        18 | 19 | 22 | 26 => data.is_ascii().then(|| String::from_utf8_lossy(data).into_owned()),
        // BMPString.
        30 if data.len().is_multiple_of(2) => {
            let units = data.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    };
    out.extend_from_slice(name.unwrap_or(kind).as_bytes());
    out.push(b'=');
    match (name, text) {
        (Some(_), Some(text)) => put_escaped(&text, out),
        // Section 2.4: the octets of the value, with tag and length.
        _ => {
            let mut der = vec![tag];
            match data.len() {
                len @ 0..128 => der.push(u8::try_from(len).unwrap_or(0)),
                len => {
                    let bytes = len.to_be_bytes();
                    let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
                    der.push(0x80 | u8::try_from(bytes.len() - from).unwrap_or(0));
                    der.extend_from_slice(&bytes[from..]);
                }
            }
            der.extend_from_slice(data);
            out.push(b'#');
            out.extend_from_slice(HEXUPPER.encode(&der).as_bytes());
        }
    }
}

fn put_escaped(text: &str, out: &mut Vec<u8>) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.extend_from_slice(&[b'\\', byte])
            }
            b'#' if at == 0 => out.extend_from_slice(b"\\#"),
            b' ' if at != 0 && at != last => out.push(b' '),
            0x21..0x7f => out.push(byte),
            _ => out.extend_from_slice(format!("\\{byte:02X}").as_bytes()),
        }
    }
}

fn alternatives_text(names: &[GeneralName<'_>]) -> String {
    let escaped = |text: &[u8]| {
        let mut out = String::new();
        for byte in text {
            match byte {
                b'%' | b',' | b'"' | b'\\' | b';' | 0..=0x20 | 0x7f.. => {
                    out.push_str(&format!("%{byte:02X}"));
                }
                byte => out.push(char::from(*byte)),
            }
        }
        out
    };
    let mut all = Vec::new();
    for name in names {
        all.push(match name {
            GeneralName::DNSName(text) => format!("DNS:{}", escaped(text.as_bytes())),
            GeneralName::URI(text) => format!("URI:{}", escaped(text.as_bytes())),
            GeneralName::RFC822Name(text) => format!("email:{}", escaped(text.as_bytes())),
            GeneralName::IPAddress([a, b, c, d]) => format!("IP:{a}.{b}.{c}.{d}"),
            GeneralName::IPAddress(bytes) if bytes.len() == 16 => {
                let octets: [u8; 16] = (*bytes).try_into().unwrap_or_default();
                format!("IP:{}", Ipv6Addr::from(octets))
            }
            _ => continue,
        });
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: &str, tag: u8, data: &[u8]) -> String {
        let mut out = Vec::new();
        put_attribute(kind, tag, data, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_escaped_so_that_no_two_look_alike() {
        const CN: &str = "2.5.4.3";
        for (tag, data, expected) in [
            (12, &b"plain"[..], "CN=plain"),
            (12, b"x, CN=admin", r"CN=x\, CN=admin"),
            (19, b"x + CN=admin", r"CN=x \+ CN=admin"),
            (12, b"#1", r"CN=\#1"),
            (12, b" a ", r"CN=\20a\20"),
            (12, b" ", r"CN=\20"),
            (12, b"a\0b\r\nc", r"CN=a\00b\0D\0Ac"),
            (12, b"\"\\<>;=", r#"CN=\"\\\<\>\;="#),
            (12, "ü".as_bytes(), r"CN=\C3\BC"),
            (30, &[0, b'a', 0, 0xfc], r"CN=a\C3\BC"),
            (12, b"\xff", "CN=#0C01FF"),
            (20, b"T61", "CN=#1403543631"),
            (12, b"", "CN="),
        ] {
            assert_eq!(attribute(CN, tag, data), expected, "{}", data.escape_ascii());
        }
        assert_eq!(attribute("1.2.3", 12, b"a"), "1.2.3=#0C0161");
        let long = attribute("1.2.3", 12, &[b'a'; 200]);
        assert!(long.starts_with("1.2.3=#0C81C861"), "{long}");
    }

    #[test]
    fn alternatives_cannot_run_into_each_other() {
        let names = [
            GeneralName::DNSName("a.example"),
            GeneralName::URI("spiffe://a/b, DNS:c"),
            GeneralName::RFC822Name("a@b.example"),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ];
        let expected = "DNS:a.example, URI:spiffe://a/b%2C%20DNS:c, email:a@b.example, \
                        IP:127.0.0.1, IP:::1";
        assert_eq!(alternatives_text(&names), expected);
    }
}
