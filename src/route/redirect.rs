//! Where a redirect leads.

use crate::config::model::Redirect;
use crate::message::head::RequestHead;

/// Where a redirect leads. Path and query are those of the request in normal form, which never
/// holds a control character (exam C13).
#[must_use]
pub fn location(head: &RequestHead, redirect: &Redirect, is_secure: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    // HTTP/1.0 without Host: there is no name to lead to but the redirect's own.
    let has_name = redirect.host.is_some() || !head.authority().is_empty();
    if has_name && (redirect.scheme.is_some() || redirect.host.is_some()) {
        let own = if is_secure { "https" } else { "http" };
        out.extend_from_slice(redirect.scheme.as_deref().unwrap_or(own).as_bytes());
        out.extend_from_slice(b"://");
        match &redirect.host {
            Some(host) => out.extend_from_slice(host.as_bytes()),
            // Another scheme has another port: the name goes along, the port does not.
            None if redirect.scheme.as_deref() == Some(own) => {
                out.extend_from_slice(head.authority());
            }
            None => out.extend_from_slice(head.host()),
        }
    }
    match &redirect.path {
        Some(path) => out.extend_from_slice(path.as_bytes()),
        // "//evil.example/" alone would be a reference to another host.
        None if out.is_empty() && head.path().starts_with(b"//") => {
            out.extend_from_slice(b"/.");
            out.extend_from_slice(head.path());
        }
        None => out.extend_from_slice(head.path()),
    }
    if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_what_they_do_not_change() {
        let mut head = RequestHead::default();
        head.set_target(b"//evil", Some(b"q=1"));
        head.set_authority(b"a.example:8080", 9);
        let to = |scheme: Option<&str>, path: Option<&str>| Redirect {
            status: 308,
            scheme: scheme.map(Into::into),
            host: None,
            path: path.map(Into::into),
        };
        let show = |redirect| String::from_utf8(location(&head, &redirect, false)).unwrap();
        assert_eq!(show(to(Some("https"), None)), "https://a.example//evil?q=1");
        assert_eq!(show(to(None, Some("/new"))), "/new?q=1");
        assert_eq!(show(to(None, None)), "/.//evil?q=1");
    }
}
