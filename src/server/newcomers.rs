//! How many hellos each source may say: a session that was registered is kept for a while, and all of them together have a bound, so one peer that registers
//! without end would leave no place for anybody else.

use hashbrown::HashMap;

use super::shares::Source;
use crate::protocol::Moment;
use crate::protocol::gate::{Bucket, Rate};

/// As many clients may come back at once to a server that was restarted, from one host or through one router, and then so many a second. A session that is not used
/// is given up after a minute, so one source has some 38,000 at most, of the 65,536 that there may be by default.
const HELLOS: Rate = Rate { per_second: 500, burst: 8_000 };

#[derive(Default)]
pub(super) struct Newcomers {
    /// Of sources whose bucket is not full: as many as have said hello within the last sixteen seconds.
    buckets: HashMap<Source, Bucket>,
}

impl Newcomers {
    /// Whether a hello from there is heard.
    pub fn may_greet(&mut self, source: Source, now: Moment) -> bool {
        self.buckets.entry(source).or_insert_with(|| Bucket::new(HELLOS, now)).take(now)
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
    use std::time::Duration;

    #[test]
    fn one_source_is_held_back_and_others_are_not() {
        let [ann, bob] = [1, 2].map(|id| Source::Connection(ConnectionId(id)));
        let mut newcomers = Newcomers::default();
        let now = Duration::from_secs(1);
        let greeted = (0..10_000).filter(|_| newcomers.may_greet(ann, now)).count();
        assert_eq!(greeted as u64, HELLOS.burst);
        assert!(newcomers.may_greet(bob, now));
        let later = now + Duration::from_secs(1);
        let greeted = (0..10_000).filter(|_| newcomers.may_greet(ann, later)).count();
        assert_eq!(greeted as u64, HELLOS.per_second);
        newcomers.tidy(later);
        assert_eq!(newcomers.buckets.len(), 1, "bob's is full again");
        newcomers.tidy(later + Duration::from_secs(60));
        assert!(newcomers.buckets.is_empty());
    }
}
