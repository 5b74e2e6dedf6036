//! What a route asks for besides host and path: method, header fields, query parameters.

use regex::bytes::Regex;

use crate::config::model::{Route, ValueMatch};
use crate::message::head::RequestHead;

/// The demands of one route.
#[derive(Debug)]
pub struct Rule {
    methods: Vec<Box<[u8]>>,
    headers: Vec<(Box<[u8]>, WantedValue)>,
    query: Vec<(Box<[u8]>, WantedValue)>,
    text: String,
    has_listener: bool,
}

#[derive(Debug)]
enum WantedValue {
    Present,
    Exact(Box<[u8]>),
    Regex(Regex),
}

/// How a request meets a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// It does.
    Matches,
    /// All but the method.
    WrongMethod,
    /// It does not.
    Differs,
}

impl Rule {
    /// The demands of a route.
    #[must_use]
    pub fn new(route: &Route) -> Self {
        let lower = |pairs: &[(String, ValueMatch)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.as_bytes().into(), WantedValue::new(value)))
                .collect()
        };
        Self {
            methods: route.methods.iter().map(|method| method.as_bytes().into()).collect(),
            headers: lower(&route.headers),
            query: lower(&route.query),
            text: format!("{:?} {:?} {:?}", route.methods, route.headers, route.query),
            has_listener: route.listener.is_some(),
        }
    }

    /// More demands rank higher, then a listener of its own; the text makes the order total.
    #[must_use]
    pub fn rank(&self) -> (usize, bool, String) {
        let methods = usize::from(!self.methods.is_empty());
        let demands = methods + self.headers.len() + self.query.len();
        (demands, self.has_listener, self.text.clone())
    }

    /// The methods it asks for; none for any.
    pub fn methods(&self) -> impl Iterator<Item = &[u8]> {
        self.methods.iter().map(|method| &**method)
    }

    /// Does this request meet the demands?
    #[must_use]
    pub fn check(&self, head: &RequestHead) -> RuleMatch {
        let headers = self.headers.iter().all(|(name, wanted)| {
            head.fields.values_named(name).any(|value| wanted.accepts(value))
        });
        let query = self.query.iter().all(|(name, wanted)| {
            parameters(head.query().unwrap_or_default())
                .any(|(key, value)| key == &**name && wanted.accepts(value))
        });
        if !headers || !query {
            return RuleMatch::Differs;
        }
        let method = head.method_text();
        if self.methods.is_empty() || self.methods.iter().any(|one| &**one == method) {
            RuleMatch::Matches
        } else {
            RuleMatch::WrongMethod
        }
    }
}

/// Whether two routes ask for the same things.
#[must_use]
pub fn asks_the_same(one: &Route, other: &Route) -> bool {
    (&one.methods, &one.headers, &one.query) == (&other.methods, &other.headers, &other.query)
}

/// Whether a route asks for nothing but a host and a path.
#[must_use]
pub fn asks_nothing(route: &Route) -> bool {
    route.methods.is_empty() && route.headers.is_empty() && route.query.is_empty()
}

/// Names and values of a query, as they are written.
fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    })
}

impl WantedValue {
    fn new(value: &ValueMatch) -> Self {
        match value {
            ValueMatch::Present => Self::Present,
            ValueMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            ValueMatch::Regex(text) => {
                Self::Regex(Regex::new(text).expect("config::lower compiled it already"))
            }
        }
    }

    fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => value == &**exact,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}
