//! `[access_log]`: where lines go, what they look like, and how many are written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[access_log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub to: LogTarget,
    pub format: LogFormat,
    /// Of exchanges without a fault so many in 65,536 are written.
    pub sample: u32,
}

/// What is written when all are.
pub const ALL: u32 = 1 << 16;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Standard,
    File(PathBuf),
    /// The machine's own syslog.
    Syslog,
    /// Another machine's, over UDP (RFC 5426).
    SyslogAt(SocketAddr),
    Journal,
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Syslog => f.write_str("syslog"),
            Self::SyslogAt(address) => write!(f, "syslog:{address}"),
            Self::Journal => f.write_str("journald"),
        }
    }
}

/// How a line looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Combined,
    Own(Vec<LogPiece>),
}

/// A piece of a format of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPiece {
    Text(String),
    /// One of `LOG_FIELDS`.
    Field(&'static str),
}

/// What is known of an exchange, by the names in JSON.
pub const LOG_FIELDS: [&str; 33] = [
    "time",
    "client",
    "scheme",
    "tls_version",
    "tls_cipher",
    "method",
    "host",
    "target",
    "version",
    "status",
    "flag",
    "detail",
    "bytes_in",
    "bytes_out",
    "duration_us",
    "upstream_us",
    "connect_us",
    "queue_us",
    "upstream_version",
    "listener",
    "route",
    "cluster",
    "endpoint",
    "choice",
    "address",
    "cache",
    "attempts",
    "reused",
    "request_id",
    "traceparent",
    "referer",
    "user_agent",
    "worker",
];

/// Reads `"{client} {status}"`; `{{` and `}}` stand for braces.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn template(text: &str) -> Result<LogFormat, String> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        plain.push_str(before);
        if found.starts_with("{{") || found.starts_with("}}") {
            plain.push_str(&found[..1]);
            rest = &found[2..];
            continue;
        }
        let name = found.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after)) = name else {
            return Err(format!(
                "\"{text}\" has a brace that is alone: write {{{{ or }}}} for one"
            ));
        };
        let Some(field) = LOG_FIELDS.iter().find(|one| **one == name) else {
            return Err(format!("a log has no field \"{name}\"; known: {}", LOG_FIELDS.join(", ")));
        };
        if !plain.is_empty() {
            pieces.push(LogPiece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(LogPiece::Field(field));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(LogPiece::Text(plain));
    }
    if text.contains('\n') {
        return Err("a format is one line".to_owned());
    }
    match pieces.iter().any(|piece| matches!(piece, LogPiece::Field(_))) {
        true => Ok(LogFormat::Own(pieces)),
        false => Err(format!("\"{text}\" is none of \"json\", \"combined\", and has no {{field}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read() {
        let told = template("{client} {{{status}}}").unwrap();
        let text = |text: &str| LogPiece::Text(text.to_owned());
        let wanted =
            vec![LogPiece::Field("client"), text(" {"), LogPiece::Field("status"), text("}")];
        assert_eq!(told, LogFormat::Own(wanted));
        for (bad, says) in [
            ("jsno", "none of"),
            ("{statsu}", "no field"),
            ("{status", "alone"),
            ("a}", "alone"),
            ("{status}\n", "one line"),
        ] {
            assert!(template(bad).unwrap_err().contains(says), "{bad}");
        }
    }
}
