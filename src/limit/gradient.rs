//! How many requests a cluster bears at a time, found out by how long they take: while answers take
//! about as long as they do without a crowd, a few more are let in; when they take longer, they wait
//! for each other, and fewer are (after Envoy's adaptive concurrency and Netflix's Gradient2). How
//! long answers take without a crowd is measured anew now and then, with few let in meanwhile.

use crate::base::clock::Moment;
use crate::base::limits::GRADIENT_MEASURED;
use crate::config::resilience::Adaptive;

/// So many answers make a measurement.
const ENOUGH: u32 = 20;
/// With fewer answers since the last look nothing is concluded.
const SOME: u32 = 5;
/// Answers may take so many times as long as without a crowd.
const TOLERANCE: f64 = 1.5;
/// A conclusion counts for one part in so many.
const WEIGHT: f64 = 0.2;

/// One shard's limit.
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// Microseconds of an answer without a crowd.
    alone: Option<f64>,
    measured: Moment,
    sum: f64,
    count: u32,
    most: u32,
}

impl Gradient {
    /// For one of so many shards. Begins with a measurement.
    #[must_use]
    pub fn new(policy: Adaptive, shards: usize) -> Self {
        let share = |all: u32| (f64::from(all) / f64::from(wide(shards))).max(1.0).ceil();
        let (min, max) = (share(policy.min), share(policy.max));
        let limit = (min * 4.0).min(max);
        let measured = Moment(0);
        Self { min, max, limit, alone: None, measured, sum: 0.0, count: 0, most: 0 }
    }

    /// How many requests may be under way now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let limit = if self.alone.is_none() { self.min } else { self.limit };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to max")]
        let limit = limit as u32;
        limit
    }

    /// A request began, as one of so many.
    pub fn began(&mut self, under_way: u32) {
        self.most = self.most.max(under_way);
    }

    /// An answer took so many microseconds.
    pub fn sample(&mut self, took: u64) {
        self.sum += f64::from(u32::try_from(took).unwrap_or(u32::MAX));
        self.count += 1;
    }

    /// Ten times a second.
    pub fn tick(&mut self, now: Moment) {
        let mean = self.sum / f64::from(self.count.max(1));
        match self.alone {
            None if self.count < ENOUGH => return,
            None => {
                self.alone = Some(mean);
                self.measured = now;
            }
            Some(_) if now.since(self.measured) >= GRADIENT_MEASURED => self.alone = None,
            Some(_) if self.count < SOME => return,
            Some(alone) => self.conclude(alone, mean),
        }
        (self.sum, self.count, self.most) = (0.0, 0, 0);
    }

    fn conclude(&mut self, alone: f64, mean: f64) {
        let gradient = (TOLERANCE * alone / mean.max(1.0)).clamp(0.5, 1.0);
        // Room to grow, which is also the queue that keeps servers busy.
        let wanted = self.limit * gradient + self.limit.sqrt();
        // Nothing is learned about more requests than there were.
        if wanted > self.limit && f64::from(self.most) < self.limit / 2.0 {
            return;
        }
        let next = self.limit * (1.0 - WEIGHT) + wanted * WEIGHT;
        self.limit = next.clamp(self.min, self.max);
    }
}

fn wide(shards: usize) -> u32 {
    u32::try_from(shards.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of so many slots that takes 10 ms, under as many requests as are let in.
    fn settle(gradient: &mut Gradient, slots: u32, from: u64, ticks: u64) {
        for tick in 0..ticks {
            let under_way = gradient.limit();
            for _ in 0..under_way.max(ENOUGH) {
                gradient.began(under_way);
                gradient.sample(10_000 * u64::from(under_way.max(slots)) / u64::from(slots));
            }
            gradient.tick(Moment(from + tick * 100));
        }
    }

    const POLICY: Adaptive = Adaptive { min: 4, max: 1000 };

    #[test]
    fn the_limit_finds_what_a_server_bears_and_follows_it() {
        let mut gradient = Gradient::new(POLICY, 1);
        settle(&mut gradient, 50, 1000, 300);
        // Half as many again is what the tolerance allows, and a little.
        assert!((50..110).contains(&gradient.limit()), "{gradient:?}");
        settle(&mut gradient, 10, 31_000, 250);
        assert!((10..30).contains(&gradient.limit()), "{gradient:?}");
        settle(&mut gradient, 200, 60_000, 500);
        assert!(gradient.limit() > 150, "{gradient:?}");
    }

    #[test]
    fn few_requests_teach_nothing_and_bounds_hold() {
        let mut gradient = Gradient::new(POLICY, 2);
        assert_eq!(gradient.limit(), 2);
        settle(&mut gradient, 10_000, 1000, 500);
        assert_eq!(gradient.limit(), 500, "its share of the most");
        let before = gradient.limit;
        for tick in 0..50 {
            (0..10).for_each(|_| gradient.sample(10_000));
            gradient.tick(Moment(52_000 + tick * 100));
        }
        assert!((gradient.limit - before).abs() < 1.0, "idle");
    }
}
