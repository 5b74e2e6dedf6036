//! Floor 10, but no part of the proxy: three small origins on loopback that say who they are, so
//! that a newcomer sees something within one command. Plain blocking sockets, a thread for each
//! connection; the proxy must not depend on how well they are written.

mod answer;
mod origin;

use std::net::SocketAddr;

/// Names of the three origins.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Starts the origins; they run until the process ends.
///
/// # Errors
/// A port or a thread could not be had.
pub fn start() -> std::io::Result<Vec<SocketAddr>> {
    NAMES.iter().map(|name| origin::start(name)).collect()
}

/// The configuration of the proxy in front of them.
#[must_use]
pub fn configuration(listen: &str, secure: Option<&str>, origins: &[SocketAddr]) -> String {
    // On one core the three take turns, as a newcomer expects; each core goes its own round.
    let mut text =
        format!("[server]\ncores = 1\n\n[[listener]]\nname = \"demo\"\naddress = \"{listen}\"\n\n");
    if let Some(secure) = secure {
        text.push_str(&format!(
            "[[listener]]\nname = \"secure\"\naddress = \"{secure}\"\n\
             tls = {{ self_signed = [\"localhost\", \"127.0.0.1\", \"::1\"] }}\n\n"
        ));
    }
    text.push_str("[[cluster]]\nname = \"origins\"\nbalance = \"round_robin\"\n");
    for origin in origins {
        text.push_str(&format!("[[cluster.endpoint]]\naddress = \"{origin}\"\n"));
    }
    text.push_str("\n[[route]]\npath = \"/\"\ncluster = \"origins\"\ncache = true\n");
    text
}
