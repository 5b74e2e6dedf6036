//! `[admin]`: where the operator asks, and who may.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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
