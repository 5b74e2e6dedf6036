//! How old a stored response is and how long it may be served (RFC 9111 section 4.2), with what
//! RFC 5861 adds for stale ones.

use super::directive::Directives;
use crate::base::clock::Moment;

/// What of a stored response decides whether it is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// When the response came.
    pub received: Moment,
    /// How old it was then, in seconds (section 4.2.3, `corrected_initial_age`).
    pub initial_age: u32,
    /// For how many seconds of its age it is fresh (section 4.2.1).
    pub lifetime: u32,
    /// Seconds beyond that in which it may be served while it is fetched anew.
    pub while_revalidating: u32,
    /// Seconds beyond that in which it may be served instead of an error.
    pub if_error: u32,
    pub stale: Stale,
}

/// Whether a response may be served stale without its own leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// If the client or the route wants it.
    #[default]
    Asked,
    /// Only in the windows that the response grants (`s-maxage`, section 5.2.2.10).
    Granted,
    /// Never (`must-revalidate`, `proxy-revalidate`).
    Never,
    /// Not even when it is fresh (`no-cache`).
    Always,
}

/// What may be done with a stored response, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredUse {
    /// Serve it.
    Fresh,
    /// Serve it: the client takes stale ones.
    Stale,
    /// Serve it, and fetch it anew meanwhile.
    WhileRevalidating,
    /// Ask the origin first.
    Validate,
}

impl Freshness {
    /// Its age in milliseconds (section 4.2.3, `current_age`).
    fn age_millis(&self, now: Moment) -> u64 {
        u64::from(self.initial_age) * 1000 + now.0.saturating_sub(self.received.0)
    }

    /// Its age in seconds.
    #[must_use]
    pub fn age(&self, now: Moment) -> u64 {
        self.age_millis(now) / 1000
    }

    /// Seconds for which it is still fresh; negative once it is stale.
    #[must_use]
    pub fn ttl(&self, now: Moment) -> i64 {
        i64::from(self.lifetime) - i64::try_from(self.age(now)).unwrap_or(i64::MAX)
    }

    /// What may be done with it for a request that says `wants`, on a route that serves for
    /// `grace` seconds beyond the end (section 4).
    #[must_use]
    pub fn judge(&self, wants: &Directives, grace: u32, now: Moment) -> StoredUse {
        let (age, lifetime) = (self.age_millis(now), u64::from(self.lifetime) * 1000);
        // Section 5.2.1: no-cache, max-age and min-fresh of the request.
        let is_refused = self.stale == Stale::Always
            || wants.no_cache
            || wants.max_age.is_some_and(|most| age > u64::from(most) * 1000 || most == 0);
        if is_refused {
            return StoredUse::Validate;
        }
        let margin = u64::from(wants.min_fresh.unwrap_or(0)) * 1000;
        if lifetime > age && lifetime - age >= margin {
            return StoredUse::Fresh;
        }
        if margin > 0 {
            return StoredUse::Validate;
        }
        let over = age - lifetime;
        if self.stale == Stale::Asked
            && wants.max_stale.is_some_and(|most| over <= u64::from(most) * 1000)
        {
            return StoredUse::Stale;
        }
        let window = self.window(self.while_revalidating, grace);
        // An explicit max-age of the client's was met above, but it asks for a fresh one.
        let is_allowed = over < window && wants.max_age.is_none();
        if is_allowed { StoredUse::WhileRevalidating } else { StoredUse::Validate }
    }

    /// Whether it may be served instead of an error (RFC 5861 section 4).
    #[must_use]
    pub fn serves_errors(&self, wants: &Directives, grace: u32, now: Moment) -> bool {
        let granted = match (self.stale, wants.stale_if_error) {
            (Stale::Asked, Some(asked)) => self.if_error.max(asked),
            _ => self.if_error,
        };
        let over = self.age_millis(now).saturating_sub(u64::from(self.lifetime) * 1000);
        !wants.no_cache && over < self.window(granted, grace)
    }

    /// Whether it may be served because no server can be asked (RFC 9111 section 4.2.4: "unless
    /// disconnected"), for `down` seconds beyond its end. Not where the origin has set a bound itself.
    #[must_use]
    pub fn serves_cut_off(&self, wants: &Directives, down: u32, now: Moment) -> bool {
        let over = self.age_millis(now).saturating_sub(u64::from(self.lifetime) * 1000);
        let is_bound = self.stale != Stale::Asked || self.if_error > 0;
        !is_bound && !wants.no_cache && over < u64::from(down) * 1000
    }

    /// Whether a request might still be answered by it, some day, without asking the origin first.
    #[must_use]
    pub fn is_of_use(&self, grace: u32) -> bool {
        let longest = self.window(self.while_revalidating.max(self.if_error), grace);
        u64::from(self.lifetime) * 1000 + longest > u64::from(self.initial_age) * 1000
    }

    /// Milliseconds.
    fn window(&self, granted: u32, grace: u32) -> u64 {
        let seconds = match self.stale {
            Stale::Asked => granted.max(grace),
            Stale::Granted => granted,
            Stale::Never | Stale::Always => 0,
        };
        u64::from(seconds) * 1000
    }
}

/// Facts of a response that has just come.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseFacts {
    /// Its Date, in seconds since 1970.
    pub date: Option<u64>,
    /// The first member of its Age.
    pub age: Option<u32>,
    pub last_modified: Option<u64>,
    /// `Some(None)` for a field that cannot be read.
    pub expires: Option<Option<u64>>,
    /// Seconds since 1970.
    pub wall: u64,
    /// Milliseconds that the answer took.
    pub delay: u64,
}

impl ResponseFacts {
    /// Section 4.2.3, `corrected_initial_age`.
    #[must_use]
    pub fn initial_age(&self) -> u32 {
        let apparent = self.date.map_or(0, |date| self.wall.saturating_sub(date));
        let corrected = u64::from(self.age.unwrap_or(0)) + self.delay / 1000;
        u32::try_from(apparent.max(corrected)).unwrap_or(u32::MAX)
    }

    /// Section 4.2.1: the lifetime that the origin gave; `None` if it gave none.
    #[must_use]
    pub fn explicit_lifetime(&self, directives: &Directives, is_targeted: bool) -> Option<u32> {
        let told = directives.s_maxage.or(directives.max_age);
        if told.is_some() || is_targeted {
            return told;
        }
        let expires = self.expires?;
        let date = self.date.unwrap_or(self.wall);
        let length = expires.unwrap_or(0).saturating_sub(date);
        Some(u32::try_from(length).unwrap_or(u32::MAX).min(crate::base::limits::SECONDS_MAX))
    }

    /// Section 4.2.2: a tenth of the time since the last change, and no more than `most` seconds.
    #[must_use]
    pub fn heuristic_lifetime(&self, most: u32) -> Option<u32> {
        let date = self.date.unwrap_or(self.wall);
        let since = date.checked_sub(self.last_modified?)?;
        Some(u32::try_from(since / 10).unwrap_or(u32::MAX).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::directive::parse;

    fn wants(text: &str) -> Directives {
        parse(std::iter::once(text.as_bytes()))
    }

    const BASE: Freshness = Freshness {
        received: Moment(1_000_000),
        initial_age: 10,
        lifetime: 60,
        while_revalidating: 0,
        if_error: 0,
        stale: Stale::Asked,
    };

    #[test]
    fn clients_say_how_fresh_it_must_be() {
        // RFC 9111 sections 4.2 and 5.2.1: so many seconds after it came, what may be done.
        let cases: &[(u64, &str, StoredUse)] = &[
            (0, "", StoredUse::Fresh),
            (49, "", StoredUse::Fresh),
            (50, "", StoredUse::Validate),
            (0, "no-cache", StoredUse::Validate),
            (0, "max-age=0", StoredUse::Validate),
            (0, "max-age=10", StoredUse::Fresh),
            (1, "max-age=10", StoredUse::Validate),
            (10, "min-fresh=40", StoredUse::Fresh),
            (11, "min-fresh=40", StoredUse::Validate),
            (50, "max-stale=0", StoredUse::Stale),
            (55, "max-stale=5", StoredUse::Stale),
            (56, "max-stale=5", StoredUse::Validate),
            (100_000, "max-stale", StoredUse::Stale),
        ];
        for (seconds, text, expected) in cases {
            let now = Moment(1_000_000 + seconds * 1000);
            assert_eq!(BASE.judge(&wants(text), 0, now), *expected, "{seconds} {text}");
        }
        // A clock that goes back makes nothing younger than it came.
        assert_eq!(BASE.age(Moment(0)), 10);
    }

    #[test]
    fn stale_ones_need_leave() {
        // RFC 9111 section 4.2.4, RFC 5861. 20 seconds after its end:
        let now = Moment(1_000_000 + 70_000);
        let granted = Freshness { while_revalidating: 30, if_error: 30, ..BASE };
        let cases: &[(Stale, &str, u32, StoredUse, bool)] = &[
            (Stale::Asked, "", 0, StoredUse::WhileRevalidating, true),
            (Stale::Asked, "max-age=1000", 0, StoredUse::Validate, true),
            (Stale::Asked, "no-cache", 0, StoredUse::Validate, false),
            (Stale::Granted, "max-stale", 0, StoredUse::WhileRevalidating, true),
            (Stale::Never, "max-stale", 60, StoredUse::Validate, false),
            (Stale::Always, "max-stale", 60, StoredUse::Validate, false),
        ];
        for (stale, text, grace, expected, on_error) in cases {
            let one = Freshness { stale: *stale, ..granted };
            assert_eq!(one.judge(&wants(text), *grace, now), *expected, "{stale:?} {text}");
            assert_eq!(one.serves_errors(&wants(text), *grace, now), *on_error, "{stale:?} {text}");
        }
        assert!(!BASE.serves_errors(&wants(""), 0, now));
        assert!(BASE.serves_errors(&wants("stale-if-error=21"), 0, now));
        assert!(!BASE.serves_errors(&wants("stale-if-error=20"), 0, now));
        assert!(BASE.serves_errors(&wants(""), 21, now));
        assert_eq!(BASE.judge(&wants(""), 21, now), StoredUse::WhileRevalidating);
        assert!(BASE.serves_cut_off(&wants("max-age=0"), 21, now));
        assert!(
            !BASE.serves_cut_off(&wants(""), 20, now)
                && !BASE.serves_cut_off(&wants("no-cache"), 99, now)
        );
        for bound in [Freshness { stale: Stale::Never, ..BASE }, Freshness { if_error: 9, ..BASE }]
        {
            assert!(!bound.serves_cut_off(&wants(""), 99, now));
        }
        let once = Freshness { stale: Stale::Granted, ..BASE };
        assert!(!once.serves_errors(&wants("stale-if-error=99"), 99, now));
    }

    #[test]
    fn ages_and_lifetimes_add_up() {
        // Section 4.2.3: the larger of what Date and Age say.
        let facts = ResponseFacts { wall: 1000, delay: 2500, ..ResponseFacts::default() };
        assert_eq!(
            ResponseFacts { date: Some(1005), ..facts }.initial_age(),
            2,
            "a clock ahead of ours"
        );
        assert_eq!(ResponseFacts { date: Some(900), ..facts }.initial_age(), 100);
        assert_eq!(ResponseFacts { date: Some(990), age: Some(30), ..facts }.initial_age(), 32);
        let huge = ResponseFacts { age: Some(u32::MAX), ..facts };
        assert_eq!(huge.initial_age(), u32::MAX);
        // Section 4.2.1: s-maxage before max-age before Expires; what cannot be read has expired.
        let dated = ResponseFacts { date: Some(1000), expires: Some(Some(1090)), ..facts };
        let cases: &[(&str, bool, Option<u32>)] = &[
            ("", false, Some(90)),
            ("max-age=7", false, Some(7)),
            ("max-age=7, s-maxage=8", false, Some(8)),
            ("", true, None),
        ];
        for (text, is_targeted, expected) in cases {
            assert_eq!(dated.explicit_lifetime(&wants(text), *is_targeted), *expected, "{text}");
        }
        let invalid = ResponseFacts { expires: Some(None), ..dated };
        assert_eq!(invalid.explicit_lifetime(&wants(""), false), Some(0));
        // Section 4.2.2.
        let old = ResponseFacts { date: Some(1000), last_modified: Some(0), ..facts };
        assert_eq!(old.heuristic_lifetime(3600), Some(100));
        assert_eq!(old.heuristic_lifetime(50), Some(50));
        assert_eq!(ResponseFacts { last_modified: Some(2000), ..old }.heuristic_lifetime(50), None);
    }
}
