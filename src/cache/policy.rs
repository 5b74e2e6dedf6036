//! Which responses may be stored (RFC 9111 section 3), and what they are worth.

use super::directive::{self, Directives};
use super::freshness::{Freshness, ResponseFacts, Stale};
use super::vary::{self, Selecting};
use crate::base::clock::Moment;
use crate::base::limits::HEURISTIC_MAX;
use crate::config::cache::CacheRule;
use crate::message::date;
use crate::message::fields::{Fields, list};
use crate::message::framing::Framing;
use crate::message::head::ResponseHead;
use crate::message::name::Name;

/// A request whose head is larger than this, or that has a field larger than that, may get an error
/// that others would not (cache poisoned denial of service).
const ODD_HEAD: usize = 8 * 1024;
const ODD_FIELD: usize = 2 * 1024;

/// What of a request matters for storing its response.
#[derive(Clone, Debug, Default)]
pub struct StorableRequest {
    /// Its fields, as far as they may select (before ours were added).
    pub fields: Fields,
    pub directives: Directives,
    pub has_authorization: bool,
    pub has_cookie: bool,
    /// Something about it may be the reason for an error.
    pub is_odd: bool,
}

impl StorableRequest {
    /// Of a request as the client sent it.
    #[must_use]
    pub fn of(fields: &Fields, rule: &CacheRule) -> Self {
        let directives =
            if rule.ignore_clients { Directives::default() } else { directive::of_request(fields) };
        let has_large = || fields.iter().any(|field| field.value.len() > ODD_FIELD);
        Self {
            directives,
            has_authorization: fields.has(Name::Authorization),
            has_cookie: fields.has(Name::Cookie),
            is_odd: fields.wire_len() > ODD_HEAD || has_large(),
            fields: fields.clone(),
        }
    }
}

/// Why a response is not stored. Said in Cache-Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    Method,
    /// The cache was not asked.
    Bypassed,
    Status,
    NotUnderstood,
    NoStore,
    Private,
    Authorization,
    Cookie,
    Vary,
    /// Nothing says that it may be, or for how long.
    NoFreshness,
    TooLarge,
    OddRequest,
    /// Its framing had more than one reading.
    Faulty,
}

impl NotStored {
    /// In Cache-Status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Bypassed => "bypass",
            Self::Status => "status",
            Self::NotUnderstood => "must-understand",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Vary => "vary",
            Self::NoFreshness => "no-freshness",
            Self::TooLarge => "too-large",
            Self::OddRequest => "odd-request",
            Self::Faulty => "faulty",
        }
    }
}

/// What is stored of a response that may be.
#[derive(Debug)]
pub struct Storable {
    pub freshness: Freshness,
    pub selecting: Selecting,
    /// Fields that are not stored.
    pub withheld: Vec<Box<[u8]>>,
    pub modified: Option<u64>,
}

/// The clocks, and how long the answer took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub now: Moment,
    /// Milliseconds since 1970.
    pub wall: u64,
    /// When the request was sent.
    pub asked: Moment,
}

/// Whether the response to a GET may be stored, and how.
///
/// # Errors
/// Why not.
pub fn may_store(
    asked: &StorableRequest,
    response: &ResponseHead,
    rule: &CacheRule,
    times: Times,
) -> Result<Storable, NotStored> {
    let fields = &response.fields;
    let (says, is_targeted) = directive::of_response(fields);
    let status = response.status;
    let ends_by_close = response.framing == Framing::UntilClose;
    if response.tainted && !ends_by_close {
        return Err(NotStored::Faulty);
    }
    // Section 3: the status is final, and if it must be understood, it is.
    if says.must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    if matches!(status, 0..200 | 304 | 412 | 416) {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.3: must-understand puts no-store aside where the status is understood.
    if (says.no_store && !says.must_understand) || asked.directives.no_store {
        return Err(NotStored::NoStore);
    }
    if says.private {
        return Err(NotStored::Private);
    }
    // Section 3.5: shared with others only by explicit leave; and the same for cookies, which
    // servers forget to mention (exam E07).
    let is_shared = says.public || says.s_maxage.is_some() || says.must_revalidate;
    if asked.has_authorization && !is_shared {
        return Err(NotStored::Authorization);
    }
    let is_withheld = says.withheld.iter().any(|name| name.eq_ignore_ascii_case(b"set-cookie"));
    let has_cookie = asked.has_cookie || (fields.has(Name::SetCookie) && !is_withheld);
    if has_cookie && !rule.cookies && !is_shared {
        return Err(NotStored::Cookie);
    }
    if asked.is_odd && status >= 400 {
        return Err(NotStored::OddRequest);
    }
    let selecting = vary::selecting(fields, &asked.fields).ok_or(NotStored::Vary)?;
    let facts = facts(fields, times);
    let freshness = freshness(&says, is_targeted, status, &facts, rule, times.now)?;
    // A body that ends with its connection may lack its end: it takes the word of a length (B03).
    let is_explicit = facts.explicit_lifetime(&says, is_targeted).is_some();
    if ends_by_close && !is_explicit && rule.default_ttl.is_none() {
        return Err(NotStored::NoFreshness);
    }
    let can_validate = fields.has(Name::Etag) || facts.last_modified.is_some();
    let is_of_use = freshness.is_of_use(rule.grace) && freshness.stale != Stale::Always;
    if !is_of_use && !can_validate {
        return Err(NotStored::NoFreshness);
    }
    let mut withheld = says.withheld;
    if !rule.cookies {
        withheld.push(Box::from(&b"set-cookie"[..]));
    }
    Ok(Storable { freshness, selecting, withheld, modified: facts.last_modified })
}

fn freshness(
    says: &Directives,
    is_targeted: bool,
    status: u16,
    facts: &ResponseFacts,
    rule: &CacheRule,
    now: Moment,
) -> Result<Freshness, NotStored> {
    let explicit = facts.explicit_lifetime(says, is_targeted);
    let is_default = is_heuristic(status);
    // Section 4.2.2.
    let guessed =
        if is_default || says.public { facts.heuristic_lifetime(HEURISTIC_MAX) } else { None };
    let ttl = match status {
        200..400 if is_default => rule.default_ttl,
        404 | 405 | 410 | 414 | 451 | 500..=504 => rule.negative_ttl,
        _ => None,
    };
    let lifetime = explicit.or(ttl).or(guessed);
    // Section 3: without anything of this it may not be stored.
    if lifetime.is_none() && !is_default && !says.public {
        return Err(NotStored::NoFreshness);
    }
    let stale = if says.no_cache {
        Stale::Always
    } else if says.must_revalidate || says.proxy_revalidate {
        Stale::Never
    } else if says.s_maxage.is_some() {
        Stale::Granted
    } else {
        Stale::Asked
    };
    Ok(Freshness {
        received: now,
        initial_age: facts.initial_age(),
        lifetime: lifetime.unwrap_or(0),
        while_revalidating: says.stale_while_revalidate.unwrap_or(0),
        if_error: says.stale_if_error.unwrap_or(0),
        stale,
    })
}

/// Whether the origin says itself how long a response is fresh.
#[must_use]
pub fn is_explicit(fields: &Fields) -> bool {
    let (says, is_targeted) = directive::of_response(fields);
    facts(fields, Times::default()).explicit_lifetime(&says, is_targeted).is_some()
}

/// The facts of a response.
#[must_use]
pub fn facts(fields: &Fields, times: Times) -> ResponseFacts {
    let parsed = |name| fields.values(name).next().and_then(date::parse);
    // Section 5.3: a list of dates is none.
    let expires =
        fields.has(Name::Expires).then(|| fields.only(Name::Expires).and_then(date::parse));
    // Section 5.1: the first member counts; what is no number does not.
    let age = list(fields.values(Name::Age)).next().and_then(directive::seconds);
    ResponseFacts {
        date: parsed(Name::Date),
        age,
        last_modified: parsed(Name::LastModified),
        expires,
        wall: times.wall / 1000,
        delay: times.now.0.saturating_sub(times.asked.0),
    }
}

/// RFC 9110 section 15.1: may be stored without explicit freshness. 206 is for `range`.
const fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The statuses of RFC 9110 section 15 and its kin, whose meaning for caches we know.
const fn is_understood(status: u16) -> bool {
    matches!(
        status,
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 425 | 426 | 428 | 429
            | 431 | 451 | 500..=505 | 511
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(5_000_000);
    const TIMES: Times = Times { now: NOW, wall: 784_111_777_000, asked: NOW };
    const DATE: (&str, &str) = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    const WEEK_OLD: (&str, &str) = ("Last-Modified", "Sun, 30 Oct 1994 08:49:37 GMT");

    fn judge_with(
        rule: &CacheRule,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<u32, NotStored> {
        let mut fields = Fields::default();
        request.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        let mut head = ResponseHead::default();
        head.status = status;
        for (name, value) in response {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        may_store(&StorableRequest::of(&fields, rule), &head, rule, TIMES)
            .map(|one| one.freshness.lifetime)
    }

    fn judge(
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<u32, NotStored> {
        judge_with(&CacheRule::default(), request, status, response)
    }

    fn cc(text: &str) -> (&str, &str) {
        ("Cache-Control", text)
    }

    #[test]
    fn directives_decide() {
        // RFC 9111 sections 3 and 5.2.2.
        let cases: &[(u16, &str, Result<u32, NotStored>)] = &[
            (200, "max-age=60", Ok(60)),
            (200, "no-store, max-age=60", Err(NotStored::NoStore)),
            (200, "private, max-age=60", Err(NotStored::Private)),
            (200, "private=\"x\", max-age=60", Ok(60)),
            (200, "no-store, must-understand, max-age=60", Ok(60)),
            (599, "must-understand, max-age=60", Err(NotStored::NotUnderstood)),
            (599, "max-age=60", Ok(60)),
            (599, "", Err(NotStored::NoFreshness)),
            (200, "", Err(NotStored::NoFreshness)),
            (200, "max-age=0", Err(NotStored::NoFreshness)),
            (200, "max-age=0, stale-while-revalidate=9", Ok(0)),
            (304, "max-age=60", Err(NotStored::Status)),
            (500, "max-age=60", Ok(60)),
        ];
        for (status, text, expected) in cases {
            assert_eq!(judge(&[], *status, &[cc(text), DATE]), *expected, "{status} {text}");
        }
    }

    #[test]
    fn what_is_somebodys_own_needs_leave() {
        // RFC 9111 section 3.5; exam E07.
        for own in [("Authorization", "Basic x"), ("Cookie", "a=b")] {
            let refused =
                if own.0 == "Cookie" { NotStored::Cookie } else { NotStored::Authorization };
            assert_eq!(judge(&[own], 200, &[cc("max-age=60")]), Err(refused));
            for leave in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
                assert_eq!(judge(&[own], 200, &[cc(leave)]), Ok(60), "{leave}");
            }
        }
        let set = ("Set-Cookie", "a=b");
        assert_eq!(judge(&[], 200, &[cc("max-age=60"), set]), Err(NotStored::Cookie));
        let named = cc("max-age=60, no-cache=\"Set-Cookie\"");
        assert_eq!(judge(&[], 200, &[named, set]), Ok(60), "it says itself what is not for others");
        let rule = CacheRule { cookies: true, ..CacheRule::default() };
        assert_eq!(judge_with(&rule, &[("Cookie", "x")], 200, &[cc("max-age=60"), set]), Ok(60));
    }

    #[test]
    fn guesses_are_for_some_statuses_only() {
        // RFC 9111 section 4.2.2.
        for status in [200, 203, 204, 404, 405, 410, 414, 501] {
            assert_eq!(judge(&[], status, &[DATE, WEEK_OLD]), Ok(60_480), "{status}");
        }
        for status in [201, 202, 403, 502, 503, 504, 599] {
            let refused = judge(&[], status, &[DATE, WEEK_OLD]);
            assert_eq!(refused, Err(NotStored::NoFreshness), "{status}");
            assert_eq!(judge(&[], status, &[DATE, WEEK_OLD, cc("public")]), Ok(60_480));
        }
        let rule =
            CacheRule { default_ttl: Some(7), negative_ttl: Some(3), ..CacheRule::default() };
        assert_eq!(judge_with(&rule, &[], 200, &[DATE, WEEK_OLD]), Ok(7));
        assert_eq!(judge_with(&rule, &[], 404, &[]), Ok(3));
        assert_eq!(judge_with(&rule, &[], 503, &[]), Ok(3));
        assert_eq!(judge_with(&rule, &[], 200, &[cc("max-age=1")]), Ok(1));
        assert_eq!(judge_with(&rule, &[], 401, &[]), Err(NotStored::NoFreshness));
    }

    #[test]
    fn validators_are_reason_enough() {
        assert_eq!(judge(&[], 200, &[("ETag", "\"a\"")]), Ok(0));
        assert_eq!(judge(&[], 200, &[("ETag", "\"a\""), cc("no-cache")]), Ok(0));
        assert_eq!(judge(&[], 200, &[cc("max-age=9"), ("Vary", "*")]), Err(NotStored::Vary));
        let odd = "x".repeat(3000);
        assert_eq!(judge(&[("X", &odd)], 400, &[cc("max-age=9")]), Err(NotStored::OddRequest));
        assert_eq!(judge(&[("X", &odd)], 200, &[cc("max-age=9")]), Ok(9));
    }
}
