//! Answers that the proxy writes itself: errors, in the form that the client prefers.

use crate::base::error::Kind;

/// Form of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    Html,
    Json,
    Text,
}

impl ErrorForm {
    /// What the client prefers (RFC 9110 section 12.5.1), roughly: the first of the three types
    /// that its Accept names without refusing it; text for all others, curl among them.
    pub fn preferred<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
        let members = accept.flat_map(|value| value.split(|byte| *byte == b','));
        for member in members {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            let is_refused =
                parts.any(|part| part.eq_ignore_ascii_case(b"q=0") || part.starts_with(b"q=0.000"));
            if is_refused {
                continue;
            }
            let media = media.to_ascii_lowercase();
            match media.as_slice() {
                b"text/html" | b"application/xhtml+xml" => return Self::Html,
                b"application/json" | b"application/problem+json" => return Self::Json,
                b"text/plain" => return Self::Text,
                other if other.ends_with(b"+json") => return Self::Json,
                _ => {}
            }
        }
        Self::Text
    }

    /// The media type of the body.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/problem+json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// The body of an error answer, with the id of its request where that is said.
#[must_use]
pub fn body(kind: Kind, form: ErrorForm, id: Option<&str>) -> String {
    let id = id.map_or_else(String::new, |id| match form {
        ErrorForm::Html => format!(" · request {id}"),
        ErrorForm::Json => format!(",\"request_id\":\"{id}\""),
        ErrorForm::Text => format!("request {id}\n"),
    });
    let row = kind.row();
    let (status, reason, sentence) = (row.status, reason(row.status), row.sentence);
    match form {
        ErrorForm::Html => format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{status} {reason}</title>\
             <style>body{{font:16px/1.5 system-ui;margin:15vh auto;max-width:36em;padding:0 1em}}\
             small{{color:#777}}</style><h1>{status} {reason}</h1><p>{sentence}</p>\
             <small>millrace{id}</small></html>\n"
        ),
        // RFC 9457 section 3.
        ErrorForm::Json => format!(
            "{{\"status\":{status},\"title\":\"{reason}\",\"detail\":\"{sentence}\",\
             \"error\":\"{}\"{id}}}\n",
            row.flag
        ),
        ErrorForm::Text => format!("{status} {reason}\n{sentence}\n{id}"),
    }
}

/// Our reason phrase for a status.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        412 => "Precondition Failed",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_form() {
        let form = |accept: &str| ErrorForm::preferred(std::iter::once(accept.as_bytes()));
        assert_eq!(form("text/html,application/xhtml+xml,*/*;q=0.8"), ErrorForm::Html);
        assert_eq!(form("application/json"), ErrorForm::Json);
        assert_eq!(form("application/vnd.api+json"), ErrorForm::Json);
        assert_eq!(form("text/html;q=0, text/plain"), ErrorForm::Text);
        assert_eq!(form("*/*"), ErrorForm::Text);
    }

    #[test]
    fn bodies_are_valid_json_and_name_the_status() {
        let json: serde_json::Value =
            serde_json::from_str(&body(Kind::NoEndpoint, ErrorForm::Json, Some("1-a"))).unwrap();
        assert_eq!((&json["status"], &json["request_id"]), (&503.into(), &"1-a".into()));
        assert!(body(Kind::NoEndpoint, ErrorForm::Html, None).contains("503 Service Unavailable"));
    }
}
