//! How full a bounded memory is, and what is given up first: connections that idle, then requests
//! that need a server, then connections at all (Envoy's overload manager does it in such stages).

/// What is given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Nothing.
    #[default]
    Calm = 0,
    /// From 80 %: connections end after their answer.
    Close = 1,
    /// From 90 %: requests that would be forwarded are refused.
    Shed = 2,
    /// From all of it: connections are refused.
    Refuse = 3,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Calm, Self::Close, Self::Shed, Self::Refuse];
    /// Names for the operator.
    pub const SAYS: [&'static str; 4] = [
        "enough again",
        "80 %: connections end after their answer",
        "90 %: requests are refused",
        "all of it: connections are refused",
    ];

    /// The stage with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        Self::ALL[number as usize % Self::ALL.len()]
    }

    /// The stage at so many octets of so many.
    #[must_use]
    pub const fn of(used: u64, most: u64) -> Self {
        match used.saturating_mul(100).checked_div(most) {
            None | Some(0..80) => Self::Calm,
            Some(80..90) => Self::Close,
            Some(90..100) => Self::Shed,
            Some(_) => Self::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_share() {
        let stages = [0, 79, 80, 89, 90, 99, 100, 5000].map(|used| Stage::of(used, 100) as u8);
        assert_eq!(stages, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(Stage::of(5, 0), Stage::Calm, "no bound");
        assert!(stages.iter().all(|one| Stage::from_number(*one) as u8 == *one));
    }
}
