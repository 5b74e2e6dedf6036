//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): which client really connected,
//! told before the first byte.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::error::{Kind, Result};
use crate::base::limits::{PROXY_V1_MAX, PROXY_V2_MAX};
use crate::message::target::parse_port;

/// Which version to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadHeader {
    /// Octets of the header.
    pub len: usize,
    /// The client; `None` for `UNKNOWN` and `LOCAL`: then the peer itself counts.
    pub source: Option<SocketAddr>,
    /// The client came by TLS, as far as that is said.
    pub is_secure: Option<bool>,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads a header from the beginning of a connection; `None` if more bytes are needed.
///
/// # Errors
/// `ProxyProtocol` if these bytes can be no header.
pub fn parse(bytes: &[u8]) -> Result<Option<ReadHeader>> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return if known < SIGNATURE.len() { Ok(None) } else { parse_v2(bytes) };
    }
    let known = bytes.len().min(6);
    if bytes[..known] != b"PROXY "[..known] {
        return Err(Kind::ProxyProtocol);
    }
    let window = &bytes[..bytes.len().min(PROXY_V1_MAX)];
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => parse_v1(&window[6..end], end + 2).map(Some),
        None if bytes.len() >= PROXY_V1_MAX => Err(Kind::ProxyProtocol),
        None => Ok(None),
    }
}

fn parse_v1(line: &[u8], len: usize) -> Result<ReadHeader> {
    let text = std::str::from_utf8(line).map_err(|_| Kind::ProxyProtocol)?;
    let parts: Vec<&str> = text.split(' ').collect();
    let source = match parts.as_slice() {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, target, from, to] => {
            target.parse::<Ipv4Addr>().map_err(|_| Kind::ProxyProtocol)?;
            let ip: Ipv4Addr = source.parse().map_err(|_| Kind::ProxyProtocol)?;
            Some(SocketAddr::new(IpAddr::V4(ip), check_ports(from, to)?))
        }
        ["TCP6", source, target, from, to] => {
            target.parse::<Ipv6Addr>().map_err(|_| Kind::ProxyProtocol)?;
            let ip: Ipv6Addr = source.parse().map_err(|_| Kind::ProxyProtocol)?;
            Some(SocketAddr::new(IpAddr::V6(ip), check_ports(from, to)?))
        }
        _ => return Err(Kind::ProxyProtocol),
    };
    Ok(ReadHeader { len, source, is_secure: None })
}

fn check_ports(from: &str, to: &str) -> Result<u16> {
    parse_port(to.as_bytes()).ok_or(Kind::ProxyProtocol)?;
    parse_port(from.as_bytes()).ok_or(Kind::ProxyProtocol)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ReadHeader>> {
    let Some(fixed) = bytes.get(12..16) else { return Ok(None) };
    let len = 16 + usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if fixed[0] >> 4 != 2 || len > PROXY_V2_MAX {
        return Err(Kind::ProxyProtocol);
    }
    let Some(body) = bytes.get(16..len) else { return Ok(None) };
    let source = match (fixed[0] & 15, fixed[1]) {
        (0, _) => None, // LOCAL: a health check of the sender's own
        (1, 0x11) => Some(address_v4(body)?),
        (1, 0x21) => Some(address_v6(body)?),
        (1, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        _ => return Err(Kind::ProxyProtocol),
    };
    let addresses = match fixed[1] >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let is_secure = source.and_then(|_| came_by_tls(body.get(addresses..).unwrap_or_default()));
    Ok(Some(ReadHeader { len, source, is_secure }))
}

/// Whether the client came by TLS, if the header says so (section 2.2.6: PP2_TYPE_SSL, PP2_CLIENT_SSL).
fn came_by_tls(mut vectors: &[u8]) -> Option<bool> {
    const SSL: u8 = 0x20;
    const CLIENT_SSL: u8 = 1;
    while let [kind, high, low, rest @ ..] = vectors {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..len)?;
        if *kind == SSL {
            return value.first().map(|client| client & CLIENT_SSL != 0);
        }
        vectors = &rest[len..];
    }
    None
}

fn address_v4(body: &[u8]) -> Result<SocketAddr> {
    let address = body.get(..12).ok_or(Kind::ProxyProtocol)?;
    let ip = Ipv4Addr::new(address[0], address[1], address[2], address[3]);
    Ok(SocketAddr::new(IpAddr::V4(ip), u16::from_be_bytes([address[8], address[9]])))
}

fn address_v6(body: &[u8]) -> Result<SocketAddr> {
    let address = body.get(..36).ok_or(Kind::ProxyProtocol)?;
    let octets: [u8; 16] = address[..16].try_into().map_err(|_| Kind::ProxyProtocol)?;
    let port = u16::from_be_bytes([address[32], address[33]]);
    Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), port))
}

/// The header of a connection that is made for no client, such as a check's.
pub const LOCAL_V1: &[u8] = b"PROXY UNKNOWN\r\n";
/// The same in version 2.
pub const LOCAL_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Writes a header: `source` connected, `target` is where we connect to.
#[must_use]
pub fn write(version: ProxyVersion, source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    // Both addresses must be of one family: an IPv4 address becomes its IPv6 form if need be.
    let is_v4 = source.is_ipv4() && target.is_ipv4();
    let mut out = Vec::with_capacity(64);
    match version {
        ProxyVersion::V1 => {
            let family = if is_v4 { "TCP4" } else { "TCP6" };
            let (from, to) = (unified(source.ip(), is_v4), unified(target.ip(), is_v4));
            let ports = (source.port(), target.port());
            let _ = write!(out, "PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1);
        }
        ProxyVersion::V2 => {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(if is_v4 { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
            for address in [source, target] {
                match unified(address.ip(), is_v4) {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&target.port().to_be_bytes());
        }
    }
    out
}

fn unified(ip: IpAddr, is_v4: bool) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if !is_v4 => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (source, target) in
            [("1.2.3.4:5", "6.7.8.9:10"), ("[::1]:5", "[::2]:6"), ("1.2.3.4:5", "[::2]:6")]
        {
            let (source, target): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), target.parse().unwrap());
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let bytes = write(version, source, target);
                for len in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..len]), Ok(None), "cut at {len}");
                }
                let found = parse(&bytes).unwrap().unwrap();
                assert_eq!(found.len, bytes.len());
                let found = found.source.unwrap();
                assert_eq!(found.port(), source.port());
                assert_eq!(found.ip().to_canonical(), source.ip());
            }
        }
    }

    #[test]
    fn what_is_said_of_no_client_names_none() {
        for local in [LOCAL_V1, LOCAL_V2] {
            let found = parse(local).unwrap().unwrap();
            assert_eq!((found.len, found.source), (local.len(), None));
        }
    }

    #[test]
    fn noise_is_refused() {
        let oversize = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 120]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            &oversize,
            &long,
        ] {
            assert_eq!(parse(bytes), Err(Kind::ProxyProtocol), "{}", bytes.escape_ascii());
        }
    }
}
