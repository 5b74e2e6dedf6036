//! Expressions that match the same paths: which of two routes is asked first is then a matter of their
//! length, which few expect (exam R44).

use regex_syntax::hir::{Class, Hir, HirKind};

use super::{RouteId, numbered, rule};
use crate::base::limits::SAMPLE_MAX;
use crate::config::model::{Config, PathMatch, Route};

/// Two routes with expressions that match one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    pub one: RouteId,
    /// The earlier one in the file.
    pub other: RouteId,
    /// A path that both match.
    pub path: String,
}

/// Routes whose expressions match the same paths, as far as that is easy to see. Only the first other one of each
/// route is told.
#[must_use]
pub fn contested(config: &Config) -> Vec<Contested> {
    let expressions: Vec<(RouteId, &Route, regex::bytes::Regex, String)> = numbered(&config.routes)
        .filter_map(|(id, route)| {
            let PathMatch::Regex(pattern) = &route.path else { return None };
            let sample = sample(pattern)?;
            Some((id, route, regex::bytes::Regex::new(pattern).ok()?, sample))
        })
        .collect();
    let mut found = Vec::new();
    for (at, (one, route, expression, text)) in expressions.iter().enumerate() {
        let path = expressions[..at].iter().find_map(|(other, earlier, theirs, their_text)| {
            let is_same_place = route.host == earlier.host
                && route.listener == earlier.listener
                && rule::asks_the_same(route, earlier)
                && route.path != earlier.path;
            let path = [text, their_text].into_iter().find(|path| {
                expression.is_match(path.as_bytes()) && theirs.is_match(path.as_bytes())
            })?;
            is_same_place.then(|| (*other, path.clone()))
        });
        found.extend(path.map(|(other, path)| Contested { one: *one, other, path }));
    }
    found
}

/// A text that an expression matches.
fn sample(pattern: &str) -> Option<String> {
    let parsed = regex_syntax::Parser::new().parse(pattern).ok()?;
    let mut out = Vec::new();
    write(&parsed, &mut out);
    let text = String::from_utf8(out).ok()?;
    Some(if text.starts_with('/') { text } else { format!("/{text}") })
}

fn write(part: &Hir, out: &mut Vec<u8>) {
    if out.len() > SAMPLE_MAX {
        return;
    }
    match part.kind() {
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(class) => out.push(letter(class)),
        // One is more telling than none.
        HirKind::Repetition(again) => {
            let most = again.max.unwrap_or(u32::MAX);
            (0..again.min.clamp(1.min(most), most)).for_each(|_| write(&again.sub, out));
        }
        HirKind::Capture(inner) => write(&inner.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, out)),
        HirKind::Alternation(parts) => parts.iter().take(1).for_each(|part| write(part, out)),
        HirKind::Empty | HirKind::Look(_) => {}
    }
}

/// A printable letter of a class; a small one or a digit if there is one.
fn letter(class: &Class) -> u8 {
    let has = |byte: u8| match class {
        Class::Unicode(class) => class.iter().any(|range| {
            (u32::from(range.start())..=u32::from(range.end())).contains(&u32::from(byte))
        }),
        Class::Bytes(class) => {
            class.iter().any(|range| (range.start()..=range.end()).contains(&byte))
        }
    };
    let all = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'!'..=b'~');
    all.into_iter().find(|byte| has(*byte)).unwrap_or(b'a')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_matches_its_expression() {
        for pattern in [
            "^/user/[0-9]+$",
            "^/user/.*",
            "/(a|b)/c?",
            "^/[A-Z]{2}/x{3,}$",
            "\\.(png|jpe?g)$",
            "^/\\d+/\\w*$",
        ] {
            let text = sample(pattern).unwrap();
            assert!(regex::Regex::new(pattern).unwrap().is_match(&text), "{pattern}: {text}");
        }
    }
}
