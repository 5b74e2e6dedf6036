//! A quantile of a stream of times, in a few octets: each sample moves the estimate up or down by a
//! part of itself, so that the wanted share of samples lies below it (stochastic approximation, as
//! in Ma, Muthukrishnan, Sandler: "Frugal Streaming for Estimating Quantiles", 2013).

use std::time::Duration;

/// With fewer samples nothing is known.
const ENOUGH: u32 = 50;
/// A sample moves the estimate by so much of it: first quickly, then finely.
const STEPS: (f64, f64) = (0.2, 0.05);

/// An estimate.
#[derive(Clone, Copy, Debug)]
pub struct Quantile {
    share: f64,
    micros: f64,
    count: u32,
}

impl Quantile {
    /// So many percent of the samples lie below it.
    #[must_use]
    pub fn new(percent: u32) -> Self {
        Self { share: f64::from(percent) / 100.0, micros: 0.0, count: 0 }
    }

    /// Something took so many microseconds.
    pub fn sample(&mut self, micros: u64) {
        let sample = f64::from(u32::try_from(micros).unwrap_or(u32::MAX)).max(1.0);
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            self.micros = sample;
        }
        let step = self.micros * if self.count < 2 * ENOUGH { STEPS.0 } else { STEPS.1 };
        if sample > self.micros {
            self.micros += step * self.share;
        } else {
            self.micros -= step * (1.0 - self.share);
        }
    }

    /// The estimate, if there is one yet.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        (self.count >= ENOUGH).then(|| Duration::from_secs_f64(self.micros / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn it_finds_the_share_and_follows_changes() {
        let (mut quantile, mut random) = (Quantile::new(95), Random::new(1));
        assert_eq!(quantile.get(), None);
        for scale in [1, 20, 3] {
            (0..3000).for_each(|_| quantile.sample(u64::from(random.below(10_000)) * scale));
            let found = quantile.get().unwrap().as_secs_f64() * 1e6;
            let wanted = 9500.0 * f64::from(u32::try_from(scale).unwrap());
            assert!((0.85..1.2).contains(&(found / wanted)), "{found} instead of {wanted}");
        }
    }
}
