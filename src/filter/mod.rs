//! Floor 3: what is decided about a request and its answer beside where they go: a closed list of pure decisions. A
//! listener has a chain of them for what its clients may say, a route one for what it changes and refuses. To add one:
//! a file, a variant, its place in `Chain`.

pub mod fields;
pub mod identity;
pub mod limits;
pub mod path;
pub mod trust;
pub mod verdict;

use crate::config::model::{Action, Config, HeaderRules, Listener, Rewrite, Route};
use crate::message::fields::Fields;
use crate::message::head::RequestHead;
pub use verdict::{Answering, Facts, Verdict};

/// One decision. In the order in which they stand in a chain.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Forwarding fields are believed of trusted proxies only.
    Trust,
    /// Fields that say which client it is by its certificate are ours alone.
    Identity(identity::IdentityNames),
    /// A body that says it is longer than this is refused. One that says nothing is counted as it comes.
    Body(u64),
    /// OPTIONS whose Max-Forwards is used up is answered here.
    MaxForwards,
    /// An extended CONNECT asks for one of these protocols, or is refused.
    Protocols(Box<[Box<str>]>),
    /// The path that is forwarded.
    Path(Rewrite, path::PathForm),
    /// Fields of what an upstream gets.
    RequestFields(HeaderRules),
    /// The Cache-Status field (RFC 9211).
    CacheStatus,
    /// Fields of what the client gets.
    ResponseFields(HeaderRules),
}

impl Filter {
    fn on_request(&self, request: &mut RequestHead, facts: &Facts<'_>) -> Verdict {
        match self {
            Self::Trust => trust::judge(request, facts),
            Self::Identity(names) => identity::judge(names, request, facts),
            Self::Body(most) => limits::body(*most, request),
            Self::MaxForwards => limits::max_forwards(request),
            Self::Protocols(allowed) => limits::protocol(allowed, request),
            Self::Path(rules, form) => path::rewrite(rules, *form, request),
            Self::RequestFields(_) | Self::CacheStatus | Self::ResponseFields(_) => Verdict::Go,
        }
    }
}

/// What one listener or route decides, in its order.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Asked once: before the request is routed (a listener's), or right after that (a route's).
    requests: Box<[Filter]>,
    /// Changes what an upstream gets.
    forwards: Box<[Filter]>,
    /// Changes what the client gets.
    answers: Box<[Filter]>,
}

impl Chain {
    /// What a listener decides of its clients' requests.
    #[must_use]
    pub fn of_listener(config: &Config, listener: &Listener) -> Self {
        let mut requests = vec![Filter::Trust];
        if listener.tls.is_some() || !config.reserved.is_empty() {
            requests.push(Filter::Identity(identity::IdentityNames::of(config, listener)));
        }
        Self { requests: requests.into(), ..Self::default() }
    }

    /// What a route decides of the requests that it takes, and of their answers.
    #[must_use]
    pub fn of_route(route: &Route) -> Self {
        let is_forwarded = matches!(route.action, Action::Forward(_));
        let mut requests = Vec::new();
        requests.extend(route.body.map(Filter::Body));
        requests.push(Filter::MaxForwards);
        if is_forwarded {
            requests.push(Filter::Protocols(route.upgrade.clone().into()));
        }
        let as_received = is_forwarded && route.path_as_received;
        if as_received || !path::is_plain(&route.rewrite) {
            let form =
                if as_received { path::PathForm::AsReceived } else { path::PathForm::Normal };
            requests.push(Filter::Path(route.rewrite.clone(), form));
        }
        let rules = |rules: &HeaderRules| (!rules.is_empty()).then(|| rules.clone());
        let forwards: Vec<_> =
            rules(&route.request_headers).map(Filter::RequestFields).into_iter().collect();
        let status = route.cache.as_ref().map(|_| Filter::CacheStatus);
        let own = rules(&route.response_headers).map(Filter::ResponseFields);
        let answers: Vec<_> = status.into_iter().chain(own).collect();
        Self { requests: requests.into(), forwards: forwards.into(), answers: answers.into() }
    }

    /// Asks every filter until one does not let the request go.
    #[must_use]
    pub fn on_request(&self, request: &mut RequestHead, facts: &Facts<'_>) -> Verdict {
        for filter in &self.requests {
            let verdict = filter.on_request(request, facts);
            if verdict != Verdict::Go {
                return verdict;
            }
        }
        Verdict::Go
    }

    /// Changes the fields of a request into those that an upstream gets.
    pub fn on_forward(&self, request: &mut Fields) {
        for filter in &self.forwards {
            if let Filter::RequestFields(rules) = filter {
                fields::change(request, rules);
            }
        }
    }

    /// Changes the fields of an answer into those that the client gets.
    pub fn on_response(&self, response: &mut Fields, facts: &Answering<'_>) {
        for filter in &self.answers {
            match filter {
                Filter::CacheStatus => fields::add_cache_status(response, facts),
                Filter::ResponseFields(rules) if !facts.is_ruled => fields::change(response, rules),
                _ => {}
            }
        }
    }
}
