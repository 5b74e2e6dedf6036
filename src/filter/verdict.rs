//! What a filter is told, and what it says.

use crate::base::error::Kind;

/// What is known of a request beside its head. What takes time to find out is found out before the filters.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client's forwarding fields are believed.
    pub is_trusted: bool,
    /// The client came by TLS.
    pub is_secure: bool,
    /// The connection may ask for this host.
    pub is_led_here: bool,
    /// What the client's certificate says, if it has shown one.
    pub certificate: Option<Certificate<'a>>,
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// RFC 4514; nothing if it is empty.
    pub subject: Option<&'a [u8]>,
    pub alternatives: Option<&'a [u8]>,
    /// SHA-256, in lower case.
    pub fingerprint: &'a [u8],
    /// RFC 9440.
    pub whole: &'a [u8],
}

/// What is known of an answer beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    /// What the cache has to say.
    pub cache_status: Option<&'a [u8]>,
    /// Its fields had the route's rules when they were stored.
    pub is_ruled: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It is answered with this error.
    Refuse(Kind),
    /// It ends here: it is an OPTIONS for this proxy.
    Options,
}
