//! Floor 11, but no part of the proxy: three small origins on loopback that say their names, and a page for
//! browsers, so that a newcomer sees something within one command. Plain blocking sockets, a thread for each
//! connection; the proxy must not depend on how well they are written.

mod answer;
mod desk;
mod origin;

use std::net::SocketAddr;

/// Names of the three origins.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// What runs behind the proxy.
pub struct Servers {
    pub origins: Vec<SocketAddr>,
    /// Serves the page, and takes its orders.
    pub page: SocketAddr,
}

/// Starts the servers; they run until the process ends.
///
/// # Errors
/// A port or a thread could not be had.
pub fn start() -> std::io::Result<Servers> {
    let origins: std::io::Result<Vec<_>> =
        NAMES.iter().map(|name| origin::start(name, answer::answer)).collect();
    let origins = origins?;
    let page = desk::start(&origins)?;
    Ok(Servers { origins: origins.iter().map(|origin| origin.address).collect(), page })
}

/// The configuration of the proxy in front of them.
#[must_use]
pub fn configuration(listen: &str, secure: Option<&str>, admin: &str, servers: &Servers) -> String {
    // On one core the three take turns, as a newcomer expects; each core goes its own round.
    let mut text =
        format!("[server]\ncores = 1\n\n[[listener]]\nname = \"demo\"\naddress = \"{listen}\"\n\n");
    if admin != "off" {
        text.push_str(&format!("[admin]\naddress = \"{admin}\"\n\n"));
    }
    if let Some(secure) = secure {
        text.push_str(&format!(
            "[[listener]]\nname = \"secure\"\naddress = \"{secure}\"\n\
             tls = {{ self_signed = [\"localhost\", \"127.0.0.1\", \"::1\"] }}\n\n"
        ));
    }
    text.push_str("[[cluster]]\nname = \"origins\"\nbalance = \"round_robin\"\n");
    for origin in &servers.origins {
        text.push_str(&format!("[[cluster.endpoint]]\naddress = \"{origin}\"\n"));
    }
    text.push_str(&format!(
        "\n[[cluster]]\nname = \"page\"\n[[cluster.endpoint]]\naddress = \"{}\"\n\n\
         [[route]]\npath = \"/\"\ncluster = \"origins\"\ncache = true\n\n\
         [[route]]                               # what browsers ask for\npath = \"=/\"\n\
         headers = {{ accept = \"~text/html\" }}\ncluster = \"page\"\n\n\
         [[route]]\npath = \"/demo\"\ncluster = \"page\"\n",
        servers.page
    ));
    text
}
