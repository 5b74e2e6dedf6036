//! The path that is forwarded: a prefix goes off, another on; or octet for octet as it came.

use super::verdict::Verdict;
use crate::config::model::Rewrite;
use crate::message::head::RequestHead;

/// Which form of a path is forwarded. Routes and cache keys see its normal form either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    Normal,
    AsReceived,
}

/// It changes nothing.
pub(super) fn is_plain(rules: &Rewrite) -> bool {
    rules.strip_prefix.is_empty() && rules.add_prefix.is_empty()
}

/// Takes the prefix off and puts one on. A path without the prefix keeps all of itself.
pub(super) fn rewrite(rules: &Rewrite, form: PathForm, request: &mut RequestHead) -> Verdict {
    if form == PathForm::AsReceived {
        request.send_as_received();
    }
    if !is_plain(rules) {
        change(rules, request);
    }
    Verdict::Go
}

fn change(rules: &Rewrite, request: &mut RequestHead) {
    if request.path() == b"*" {
        return;
    }
    let rest = match request.path().strip_prefix(rules.strip_prefix.as_bytes()) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => request.path(),
    };
    let mut path = Vec::with_capacity(rules.add_prefix.len() + rest.len() + 1);
    path.extend_from_slice(rules.add_prefix.as_bytes());
    path.extend_from_slice(rest);
    if path.is_empty() {
        path.push(b'/');
    }
    request.set_path(&path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(path_text: &str, strip: &str, add: &str) -> String {
        let mut head = RequestHead::default();
        head.set_target(path_text.as_bytes(), None);
        let rules = Rewrite { strip_prefix: strip.into(), add_prefix: add.into() };
        rewrite(&rules, PathForm::Normal, &mut head);
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
}
