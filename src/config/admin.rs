//! `[admin]`: where the operator asks, and who may.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use super::model::Address;
use super::raw::ConfigTable;
use super::units;

/// The socket where `[admin]` names none.
pub const SOCKET: &str = "/run/millrace/admin.sock";

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: AdminAddress,
    /// Asked for on TCP: `Authorization: Bearer`.
    pub token: Option<Token>,
}

/// Where the admin listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A socket that only its owner may use.
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A secret. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    Text(String),
    /// The first line of a file.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// An address of an admin listener: `unix:/path`, or an IP address and a port.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn address(text: &str) -> Result<AdminAddress, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') && path.len() <= 107 => {
            Ok(AdminAddress::Unix(path.into()))
        }
        Some(_) => {
            Err("a unix socket is \"unix:\" and an absolute path of at most 107 octets".to_owned())
        }
        None => units::listen(text).map(AdminAddress::Tcp),
    }
}

pub(super) fn read(mut table: ConfigTable<'_>) -> Admin {
    let place = table.place_of("address");
    let address = table.parsed("address", address);
    let token_place = table.place_of("token");
    let token = table.string("token").map(|text| match text.value.strip_prefix("file:") {
        Some(path) => Token::File(path.into()),
        None => Token::Text(text.value),
    });
    if let Some(Token::Text(text)) = &token
        && text.len() < 16
    {
        table.error_secret(
            token_place,
            "a token has at least 16 letters: it is all that guards the process",
        );
    }
    if let Some(AdminAddress::Tcp(tcp)) = &address
        && !tcp.ip().to_canonical().is_loopback()
        && token.is_none()
    {
        let message = format!(
            "{tcp} can be reached from other machines: the admin listener wants a token there"
        );
        let help =
            "write token = \"file:/etc/millrace/admin.token\", or listen on 127.0.0.1".to_owned();
        table.error_with_help(place, message, help);
    }
    table.finish();
    Admin { address: address.unwrap_or_else(|| AdminAddress::Unix(SOCKET.into())), token }
}

/// What a configuration must not have beside an admin listener: a way to it through the proxy (exam K03, O04).
pub(super) fn check(
    root: &ConfigTable<'_>,
    place: Range<usize>,
    admin: &Admin,
    others: &Others<'_>,
) {
    let AdminAddress::Tcp(own) = &admin.address else {
        let sockets = others.endpoints.iter().filter_map(|one| match one {
            Address::Unix(path) => Some(path),
            _ => None,
        });
        let AdminAddress::Unix(own) = &admin.address else { return };
        if sockets.into_iter().any(|path| path == own) {
            root.error(
                place,
                "a cluster's endpoint is this very socket: clients would reach the admin listener",
            );
        }
        return;
    };
    let is_same = |other: &SocketAddr| {
        other.port() == own.port()
            && (other.ip().to_canonical() == own.ip().to_canonical()
                || own.ip().is_unspecified()
                || other.ip().is_unspecified())
    };
    if own.port() != 0 && others.listeners.iter().any(is_same) {
        root.error(place.clone(), format!("the admin listener and a [[listener]] both want {own}"));
    }
    let leads_there = |one: &&Address| match one {
        Address::Socket(socket) => is_same(socket),
        Address::Name { host, port, .. } => *port == own.port() && host == "localhost",
        Address::Unix(_) => false,
    };
    if own.port() != 0 && others.endpoints.iter().any(leads_there) {
        root.error(
            place,
            format!(
                "an endpoint is {own} too: clients would reach the admin listener through the proxy"
            ),
        );
    }
}

/// What else listens, and where requests go.
pub(super) struct Others<'a> {
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) endpoints: Vec<&'a Address>,
}
