//! What a route changes about messages: path prefixes, header fields, and where a redirect goes.

use crate::config::model::{HeaderRules, Redirect, Rewrite};
use crate::message::fields::Fields;
use crate::message::head::RequestHead;

/// Takes the prefix off and puts one on. A path without the prefix keeps all of itself.
pub fn path(head: &mut RequestHead, rewrite: &Rewrite) {
    if rewrite.strip_prefix.is_empty() && rewrite.add_prefix.is_empty() {
        return;
    }
    if head.path() == b"*" {
        return;
    }
    let rest = match head.path().strip_prefix(rewrite.strip_prefix.as_bytes()) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => head.path(),
    };
    let mut path = Vec::with_capacity(rewrite.add_prefix.len() + rest.len() + 1);
    path.extend_from_slice(rewrite.add_prefix.as_bytes());
    path.extend_from_slice(rest);
    if path.is_empty() {
        path.push(b'/');
    }
    head.set_path(&path);
}

/// Removes, then sets, then adds.
#[inline]
pub fn fields(fields: &mut Fields, rules: &HeaderRules) {
    // Most routes have none.
    if !rules.is_empty() {
        change(fields, rules);
    }
}

fn change(fields: &mut Fields, rules: &HeaderRules) {
    rules.remove.iter().for_each(|name| fields.remove_named(name.as_bytes()));
    rules.set.iter().for_each(|(name, value)| fields.set(name.as_bytes(), value.as_bytes()));
    rules.add.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
}

/// Where a redirect leads. Path and query are those of the request in normal form, which never
/// holds a control character (RELIABILITY C13).
#[must_use]
pub fn location(head: &RequestHead, redirect: &Redirect, is_secure: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    // HTTP/1.0 without Host: there is no name to send anybody to but the redirect's own.
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

    fn rewritten(path_text: &str, strip: &str, add: &str) -> String {
        let mut head = RequestHead::default();
        head.set_target(path_text.as_bytes(), None);
        let rewrite = Rewrite { strip_prefix: strip.into(), add_prefix: add.into() };
        path(&mut head, &rewrite);
        String::from_utf8(head.path().to_vec()).unwrap()
    }

    #[test]
    fn prefixes_go_off_and_on_at_segments() {
        assert_eq!(rewritten("/api/x", "/api", ""), "/x");
        assert_eq!(rewritten("/api", "/api", ""), "/");
        assert_eq!(rewritten("/apix", "/api", ""), "/apix");
        assert_eq!(rewritten("/api/x", "/api", "/v2"), "/v2/x");
        assert_eq!(rewritten("/x", "", "/v2"), "/v2/x");
    }

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
