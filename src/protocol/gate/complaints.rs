//! Which violations are told and which are only counted: a flood of them must not become a flood of log lines.

use super::rate::{Bucket, Rate};
use crate::protocol::Moment;

/// Ten lines a second, and thirty at once: a person can follow that, and no disk is filled by it.
const RATE: Rate = Rate { per_second: 10, burst: 30 };

/// Tells up to a rate, and counts what it did not tell.
#[derive(Debug)]
pub struct Complaints {
    bucket: Bucket,
    suppressed: u64,
}

impl Complaints {
    /// Nothing told yet.
    pub fn new(now: Moment) -> Complaints {
        Complaints { bucket: Bucket::new(RATE, now), suppressed: 0 }
    }

    /// Whether the next one may be told: then with the number of those that were not told before it.
    pub fn tell(&mut self, now: Moment) -> Option<u64> {
        if self.bucket.take(now) {
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }

    /// The number of those that were not told, if there are any and it may be told by itself: after a flood, nothing else may follow.
    pub fn remainder(&mut self, now: Moment) -> Option<u64> {
        (self.suppressed > 0 && self.bucket.take(now)).then(|| std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_told_up_to_the_rate_and_counted_beyond_it() {
        let mut complaints = Complaints::new(Duration::ZERO);
        let told: Vec<_> = (0..1000).map(|_| complaints.tell(Duration::ZERO)).collect();
        assert_eq!(told.iter().flatten().count(), 30);
        assert!(told[..30].iter().all(|told| *told == Some(0)));
        assert_eq!(complaints.remainder(Duration::ZERO), None, "not yet");
        assert_eq!(complaints.tell(Duration::from_millis(100)), Some(970));
        assert_eq!(complaints.tell(Duration::from_millis(100)), None);
        assert_eq!(complaints.remainder(Duration::from_millis(200)), Some(1));
        assert_eq!(complaints.remainder(Duration::from_secs(9)), None, "nothing was kept back since");
    }
}
