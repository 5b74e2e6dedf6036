//! An HTTP check: what is asked, and what the answer is worth. Only a whole, well-formed head of
//! HTTP/1 with a status that is expected passes; of the body no more is looked at than a page.

use regex::bytes::Regex;

use crate::base::error::Kind;
use crate::base::limits::PROBE_BYTES;
use crate::config::model::HttpProbe;
use crate::message::head::{Method, ResponseHead};
use crate::message::limits::HeadLimits;
use crate::wire::http1::parse;
use crate::wire::http1::scan::Scan;

/// The request. `host` is what the endpoint is called if the check does not say.
#[must_use]
pub fn request(probe: &HttpProbe, host: &str) -> Vec<u8> {
    let HttpProbe { method, path, host: own, headers, .. } = probe;
    let host = own.as_deref().unwrap_or(host);
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: millrace-health\r\nAccept: */*\r\n\
         Connection: close\r\n"
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}

/// The same in HTTP/2.
#[must_use]
pub fn call(probe: &HttpProbe, host: &str, is_secure: bool) -> Option<::http::Request<()>> {
    let HttpProbe { method, path, host: own, headers, .. } = probe;
    let (scheme, host) = (if is_secure { "https" } else { "http" }, own.as_deref().unwrap_or(host));
    let mut request = ::http::Request::builder()
        .method(method.as_str())
        .uri(format!("{scheme}://{host}{path}"))
        .header("user-agent", "millrace-health")
        .header("accept", "*/*");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(()).ok()
}

/// Judges an answer of HTTP/2, which is here as a whole.
///
/// # Errors
/// Why it is not good enough, as the end of a sentence.
pub fn judge_call(
    probe: &HttpProbe,
    pattern: Option<&Regex>,
    status: u16,
    body: &[u8],
) -> Result<(), String> {
    if !probe.expect.iter().any(|range| range.contains(&status)) {
        return Err(format!("it answered {status}"));
    }
    if pattern.is_none_or(|pattern| pattern.is_match(body)) {
        return Ok(());
    }
    let wanted = probe.body.as_deref().unwrap_or_default();
    Err(format!("\"{wanted}\" is not in its body"))
}

/// What is looked for in the body, if anything is. The configuration has compiled it once already.
#[must_use]
pub fn pattern(probe: &HttpProbe) -> Option<Regex> {
    let text = probe.body.as_deref()?;
    let pattern = text.strip_prefix('~').map_or_else(|| regex::escape(text), str::to_owned);
    Regex::new(&pattern).ok()
}

/// Judges what has come so far; `None` if more is needed.
#[must_use]
pub fn judge(
    probe: &HttpProbe,
    pattern: Option<&Regex>,
    bytes: &[u8],
    is_end: bool,
) -> Option<Result<(), String>> {
    let malformed = || Some(Err("what it answers is no HTTP/1 response".to_owned()));
    let asked = if probe.method == "HEAD" { Method::Head } else { Method::Get };
    let mut at = 0;
    let status = loop {
        let rest = &bytes[at..];
        let end = match Scan::default().response(rest, &HeadLimits::RESPONSE) {
            Ok(Some(found)) => found.end,
            Ok(None) if is_end && bytes.is_empty() => {
                return Some(Err("it closed the connection without an answer".to_owned()));
            }
            Ok(None) if is_end => return Some(Err("it answered half a head".to_owned())),
            Ok(None) => return None,
            Err(Kind::HeadTooLarge) => return Some(Err("its head is too large".to_owned())),
            Err(_) => return malformed(),
        };
        let mut head = ResponseHead::default();
        if parse::response(&rest[..end], asked, &mut head).is_err() {
            return malformed();
        }
        at += end;
        if head.status >= 200 {
            break head.status;
        }
    };
    if !probe.expect.iter().any(|range| range.contains(&status)) {
        return Some(Err(format!("it answered {status}")));
    }
    let Some(pattern) = pattern else { return Some(Ok(())) };
    if pattern.is_match(&bytes[at..]) {
        return Some(Ok(()));
    }
    let is_over = is_end || bytes.len() >= PROBE_BYTES;
    let wanted = probe.body.as_deref().unwrap_or_default();
    is_over.then(|| Err(format!("\"{wanted}\" is not in its body")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(body: Option<&str>) -> HttpProbe {
        HttpProbe { body: body.map(str::to_owned), ..HttpProbe::new("/up") }
    }

    #[test]
    fn the_request_is_whole() {
        let mut probe = probe(None);
        probe.headers.push(("X-Check".to_owned(), "1".to_owned()));
        let text = String::from_utf8(request(&probe, "a:80")).unwrap();
        assert!(text.starts_with("GET /up HTTP/1.1\r\nHost: a:80\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\nX-Check: 1\r\n\r\n"), "{text}");
    }

    #[test]
    fn only_a_good_answer_passes() {
        let good = b"HTTP/1.1 204 No Content\r\n\r\n";
        let passes =
            |bytes: &[u8], is_end| judge(&probe(None), None, bytes, is_end).map(|it| it.is_ok());
        assert_eq!(passes(good, false), Some(true));
        assert_eq!(passes(&good[..20], false), None);
        assert_eq!(passes(&good[..20], true), Some(false));
        assert_eq!(passes(b"", true), Some(false));
        assert_eq!(passes(b"HTTP/1.1 503 No\r\n\r\n", false), Some(false));
        assert_eq!(passes(b"SSH-2.0-OpenSSH\r\n\r\n", false), Some(false));
        assert_eq!(
            passes(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false),
            Some(true)
        );
    }

    #[test]
    fn the_body_is_searched_up_to_a_page() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let judge_for = |wanted: &'static str, body: &[u8], is_end| {
            let probe = probe(Some(wanted));
            let pattern = pattern(&probe);
            let bytes = [&head[..], body].concat();
            judge(&probe, pattern.as_ref(), &bytes, is_end).map(|it| it.is_ok())
        };
        let judge = |body: &[u8], is_end| judge_for("ready", body, is_end);
        assert_eq!(judge_for("~^v[0-9]+ ok", b"v12 ok", false), Some(true));
        assert_eq!(judge_for("~^v[0-9]+ ok", b"v ok", true), Some(false));
        assert_eq!(judge_for("a.c", b"abc", true), Some(false), "a text is no pattern");
        assert_eq!(judge(b"al", false), None);
        assert_eq!(judge(b"already", false), Some(true));
        assert_eq!(judge(b"not yet", true), Some(false));
        assert_eq!(judge(&vec![b'a'; PROBE_BYTES], false), Some(false));
    }
}
