//! How many hellos each source may say: a session that was registered is kept for a while, and all of them together have a bound, so one peer that registers
//! without end would leave no place for anybody else.

use std::time::Duration;

use hashbrown::HashMap;

use super::shares::{Source, most};
use crate::protocol::Moment;
use crate::protocol::gate::{Bucket, Rate};

/// As many clients may come back at once to a server that was restarted, from one host or through one router.
const BURST: u64 = 8_000;
/// And so many a second at most afterwards: more take more time to serve than they are worth.
const FASTEST: u64 = 500;

pub(super) struct Newcomers {
    rate: Rate,
    /// Of sources whose bucket is not full: for those who are new, and for those who come back.
    buckets: HashMap<(Source, bool), Bucket>,
}

/// One call makes a session stay for the retention, so hellos come back at the rate at which a source has no more than its share of the sessions then: by default
/// 54 a second. At least one a second, which is more than the share if the sessions are few for the retention.
fn rate(sessions: usize, retention: Duration) -> Rate {
    let share = most(sessions) as u64;
    let burst = BURST.min(share.div_ceil(2));
    let in_time = u128::from(share - burst) * 1000 / retention.as_millis().max(1);
    let per_second = u64::try_from(in_time).unwrap_or(FASTEST).clamp(1, FASTEST);
    Rate { per_second, burst }
}

impl Newcomers {
    /// To a table of so many sessions, each of which is kept for so long once it was used.
    pub fn new(sessions: usize, retention: Duration) -> Newcomers {
        Newcomers { rate: rate(sessions, retention), buckets: HashMap::new() }
    }

    /// Whether a hello from there is heard. One that comes back to its session takes no place for another.
    pub fn may_greet(&mut self, source: Source, comes_back: bool, now: Moment) -> bool {
        let rate = if comes_back { Rate { per_second: FASTEST, burst: BURST } } else { self.rate };
        self.buckets.entry((source, comes_back)).or_insert_with(|| Bucket::new(rate, now)).take(now)
    }

    /// Forgets sources that have said nothing for long enough.
    pub fn tidy(&mut self, now: Moment) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ConnectionId;

    const SESSIONS: usize = 65_536;
    const RETENTION: Duration = Duration::from_secs(15 * 60);

    #[test]
    fn one_source_is_held_back_and_others_are_not() {
        let [ann, bob] = [1, 2].map(|id| Source::Connection(ConnectionId(id)));
        let mut newcomers = Newcomers::new(SESSIONS, RETENTION);
        let now = Duration::from_secs(1);
        let greeted = (0..10_000).filter(|_| newcomers.may_greet(ann, false, now)).count();
        assert_eq!(greeted, 8_000);
        assert!(newcomers.may_greet(bob, false, now));
        let later = now + Duration::from_secs(1);
        let greeted = (0..10_000).filter(|_| newcomers.may_greet(ann, false, later)).count();
        assert_eq!(greeted, 54);
        let back = (0..10_000).filter(|_| newcomers.may_greet(ann, true, later)).count();
        assert_eq!(back, 8_000, "who comes back to a session takes no place");
        newcomers.tidy(later);
        assert_eq!(newcomers.buckets.len(), 2, "bob's is full again");
        newcomers.tidy(later + Duration::from_secs(149));
        assert!(newcomers.buckets.is_empty());
    }

    #[test]
    fn what_a_source_registers_within_the_retention_is_no_more_than_its_share() {
        let ann = Source::Connection(ConnectionId(1));
        let mut newcomers = Newcomers::new(SESSIONS, RETENTION);
        let mut greeted = 0;
        for second in 0..=RETENTION.as_secs() {
            greeted +=
                (0..1_000).filter(|_| newcomers.may_greet(ann, false, Duration::from_secs(second))).count();
        }
        assert!(greeted > 50_000, "{greeted}");
        assert!(greeted <= most(SESSIONS), "{greeted}");
    }

    #[test]
    fn small_tables_and_retentions_of_any_length_have_a_rate() {
        let rates = |sessions, retention| {
            let Rate { per_second, burst } = rate(sessions, retention);
            (burst, per_second)
        };
        assert_eq!(rates(1, RETENTION), (1, 1));
        assert_eq!(rates(1_000, RETENTION), (438, 1));
        assert_eq!(rates(9_000, RETENTION), (3_938, 4));
        assert_eq!(rates(SESSIONS, Duration::ZERO), (8_000, 500));
        assert_eq!(rates(SESSIONS, Duration::MAX), (8_000, 1));
        assert_eq!(rates(usize::MAX, Duration::ZERO), (8_000, 500));
    }
}
