//! Rise and fall: how many checks in a row change a verdict, and when the next one is due.

use std::time::Duration;

use super::CheckVerdict;
use crate::base::random::Random;
use crate::config::model::Health;

/// How much of the interval passes before a first failure is looked into: a dead endpoint is known
/// soon, and a single lost packet has a second chance.
const LOOK_AGAIN: u32 = 10;

/// Checks of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub verdict: CheckVerdict,
    /// Results in a row that contradict the verdict.
    against: u32,
}

impl Checked {
    /// Checks that go on where others have ended.
    #[must_use]
    pub const fn known(verdict: CheckVerdict) -> Self {
        Self { verdict, against: 0 }
    }

    /// Takes a result. `Some` if it changes the verdict. The first result is the first verdict.
    pub fn result(&mut self, passed: bool, policy: &Health) -> Option<CheckVerdict> {
        let says = if passed { CheckVerdict::Up } else { CheckVerdict::Down };
        if says == self.verdict {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = match self.verdict {
            CheckVerdict::Unknown => 1,
            CheckVerdict::Up => policy.fall,
            CheckVerdict::Down => policy.rise,
        };
        if self.against < enough {
            return None;
        }
        (self.verdict, self.against) = (says, 0);
        Some(says)
    }

    /// How long until the next check: the interval, give or take a tenth, so that the checks of
    /// many endpoints do not march in step; sooner while there is doubt, and while it is down.
    #[must_use]
    pub fn wait(&self, policy: &Health, random: &mut Random) -> Duration {
        if self.against > 0 {
            return policy.interval / LOOK_AGAIN;
        }
        let base =
            if self.verdict == CheckVerdict::Down { policy.interval / 2 } else { policy.interval };
        base * 9 / 10 + base * random.below(200) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Probe;

    fn policy() -> Health {
        Health { rise: 2, fall: 3, ..Health::new(Probe::Tcp) }
    }

    #[test]
    fn rise_and_fall() {
        let policy = policy();
        let mut checked = Checked::default();
        assert_eq!(checked.result(true, &policy), Some(CheckVerdict::Up));
        // A flap shorter than the fall is none (exam I04).
        for passed in [false, false, true, false, false, true] {
            assert_eq!(checked.result(passed, &policy), None);
        }
        let fall: Vec<_> = (0..4).map(|_| checked.result(false, &policy)).collect();
        assert_eq!(fall, [None, None, Some(CheckVerdict::Down), None]);
        assert_eq!(checked.result(true, &policy), None);
        assert_eq!(checked.result(false, &policy), None);
        assert_eq!(checked.result(true, &policy), None);
        assert_eq!(checked.result(true, &policy), Some(CheckVerdict::Up));
    }

    #[test]
    fn waits_are_jittered_by_a_tenth_and_short_in_doubt() {
        let policy = policy();
        let mut random = Random::new(1);
        let mut checked = Checked::default();
        checked.result(true, &policy);
        let waits: Vec<_> = (0..100).map(|_| checked.wait(&policy, &mut random)).collect();
        let (least, most) = (policy.interval * 9 / 10, policy.interval * 11 / 10);
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)));
        assert!(waits.iter().max() > waits.iter().min());
        checked.result(false, &policy);
        assert_eq!(checked.wait(&policy, &mut random), policy.interval / 10);
    }
}
