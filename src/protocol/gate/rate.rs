//! How often something may happen: a token bucket that may go into debt.

use std::time::Duration;

use crate::protocol::Moment;

/// So many a second on average, and so many at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a second. At least 1.
    pub per_second: u64,
    /// Tokens there are at most, and at first. At least 1.
    pub burst: u64,
}

/// Parts of a token, so that nothing is lost to rounding at any rate: what comes back in a nanosecond at one token a second.
const PARTS: i128 = 1_000_000_000;

/// A token bucket.
///
/// It is charged for what has happened, be it more than is left: bytes are counted after they were read. Whoever charges it waits until it is out of
/// debt, so the average rate holds however large one charge is.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Negative while in debt.
    level: i128,
    since: Moment,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Moment) -> Bucket {
        let rate = Rate { per_second: rate.per_second.max(1), burst: rate.burst.max(1) };
        Bucket { rate, level: full(rate), since: now }
    }

    /// Takes `tokens`, which may be more than there are.
    pub fn charge(&mut self, tokens: u64, now: Moment) {
        self.refill(now);
        self.level = self.level.saturating_sub(i128::from(tokens).saturating_mul(PARTS));
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Moment) -> bool {
        self.refill(now);
        let there = self.level >= PARTS;
        if there {
            self.level -= PARTS;
        }
        there
    }

    /// How long until it is out of debt; nothing if it is in none.
    pub fn debt(&mut self, now: Moment) -> Option<Duration> {
        self.refill(now);
        if self.level >= 0 {
            return None;
        }
        let per_second = i128::from(self.rate.per_second);
        let nanoseconds = (-self.level + per_second - 1) / per_second; // up, or whoever waits comes back too early for ever
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// Whether nothing was taken for long enough that it might as well be a new one.
    pub fn is_full(&mut self, now: Moment) -> bool {
        self.refill(now);
        self.level == full(self.rate)
    }

    fn refill(&mut self, now: Moment) {
        let passed = i128::try_from(now.saturating_sub(self.since).as_nanos()).unwrap_or(i128::MAX);
        self.since = self.since.max(now);
        let come = passed.saturating_mul(i128::from(self.rate.per_second));
        self.level = self.level.saturating_add(come).min(full(self.rate));
    }
}

fn full(rate: Rate) -> i128 {
    i128::from(rate.burst) * PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Duration::from_secs(7);

    fn bucket(per_second: u64, burst: u64) -> Bucket {
        Bucket::new(Rate { per_second, burst }, START)
    }

    #[test]
    fn a_burst_is_free_and_one_more_is_not() {
        let mut bucket = bucket(10, 3);
        assert_eq!([(); 4].map(|()| bucket.take(START)), [true, true, true, false]);
        assert!(!bucket.take(START + Duration::from_nanos(99_999_999)));
        assert!(bucket.take(START + Duration::from_millis(100)));
        assert!(!bucket.take(START + Duration::from_millis(100)));
    }

    #[test]
    fn a_rest_gives_back_no_more_than_a_burst() {
        let mut bucket = bucket(10, 3);
        let later = START + Duration::from_secs(1000);
        bucket.charge(3, later);
        assert_eq!(bucket.debt(later), None);
        bucket.charge(1, later);
        assert_eq!(bucket.debt(later), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_debt_of_any_size_is_paid_in_its_time_and_not_before() {
        let mut bucket = bucket(3, 1);
        bucket.charge(8, START);
        let wait = bucket.debt(START).unwrap();
        assert_eq!(wait, Duration::from_nanos(2_333_333_334));
        assert!(bucket.debt(START + wait - Duration::from_nanos(1)).is_some());
        assert_eq!(bucket.debt(START + wait), None);
    }

    #[test]
    fn extremes_do_no_harm() {
        let mut bucket = bucket(u64::MAX, u64::MAX);
        (0..100).for_each(|_| bucket.charge(u64::MAX, Duration::MAX));
        assert!(bucket.debt(Duration::MAX).is_some());
        assert!(bucket.debt(Duration::ZERO).is_some(), "a clock that goes back gives nothing");
        let mut none = Bucket::new(Rate { per_second: 0, burst: 0 }, START);
        assert!(none.take(START) && !none.take(START), "it is one a second");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_the_time_gives(
            per_second in 1..10_000_u64,
            burst in 1..100_u64,
            steps in prop::collection::vec((0..50_000_000_u64, 1..20_u64), 1..100),
        ) {
            let (mut bucket, mut now, mut charged) = (bucket(per_second, burst), START, 0);
            for (pause, tokens) in steps {
                now += Duration::from_nanos(pause);
                if let Some(wait) = bucket.debt(now) {
                    now += wait;
                }
                prop_assert_eq!(bucket.debt(now), None);
                let given = u128::from(burst) * 1_000_000_000 + (now - START).as_nanos() * u128::from(per_second);
                prop_assert!(u128::from(charged) * 1_000_000_000 <= given);
                bucket.charge(tokens, now);
                charged += tokens;
            }
        }
    }
}
