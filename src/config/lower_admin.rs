//! `[admin]` to plan.

use std::net::SocketAddr;
use std::ops::Range;

use super::admin::{Admin, AdminAddress, SOCKET, Token};
use super::model::Address;
use super::raw::ConfigTable;
use super::units;

pub(super) fn read(mut table: ConfigTable<'_>) -> Admin {
    let place = table.place_of("address");
    let address = table.parsed("address", units::admin_address);
    let token_place = table.place_of("token");
    let token = table.string("token").map(|text| match text.value.strip_prefix("file:") {
        Some(path) => Token::File(table.path_at(&text.span, path)),
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
