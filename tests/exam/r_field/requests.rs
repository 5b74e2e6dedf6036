//! Group R, rows R25, R26 and R28 to R33: requests as they come, what reaches the origin of them, and what
//! stands in the log.

mod forwarded;
mod handshakes;
mod lines;
mod noted;
mod preface;
mod targets;

use crate::Row;
use crate::support::tls::Pair;

pub fn rows() -> Vec<Row> {
    let all = [
        targets::rows(),
        lines::rows(),
        forwarded::rows(),
        preface::rows(),
        handshakes::rows(),
        noted::rows(),
    ];
    all.into_iter().flatten().collect()
}

/// A listener that speaks TLS with this certificate; `more` are lines of its TLS.
fn secure(pair: &Pair, more: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n{more}\ncertificates = [{{ \
         certificate = \"{}\", key = \"{}\" }}]\n",
        pair.certificate.display(),
        pair.key.display()
    )
}
