//! An endpoint that comes back is cold: its weight grows to its full value over a while, so that
//! no herd meets empty caches.

use std::time::Duration;

/// It begins with so many percent of its weight.
const FIRST: u64 = 10;

/// The percentage of its weight that an endpoint has so long after it came back: in a straight line
/// from a tenth to all of it.
#[must_use]
pub fn percent(since: Duration, slow_start: Duration) -> u32 {
    let (since, whole) = (since.as_millis(), slow_start.as_millis());
    if since >= whole {
        return 100;
    }
    let grown = u64::try_from(since * u128::from(100 - FIRST) / whole).unwrap_or(0);
    u32::try_from(FIRST + grown).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_tenth_to_all_in_a_straight_line() {
        let whole = Duration::from_secs(10);
        let shares = [0, 5, 10, 99].map(|since| percent(Duration::from_secs(since), whole));
        assert_eq!(shares, [10, 55, 100, 100]);
        assert_eq!(percent(Duration::ZERO, Duration::ZERO), 100, "none was asked for");
    }
}
