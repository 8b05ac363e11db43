//! Which keyed records expire when, in buckets of some seconds: so that noting one costs the same however many there are. Not the records, and not
//! whether a nonce has expired: that goes by its own expiry, to the millisecond.

use std::collections::BTreeMap;

use super::super::{PrincipalId, WallTime};

/// How long a record may outstay its expiry, in milliseconds; a power of two. Seven days of it are 150,000 buckets at most, whose index fits a cache.
const BUCKET: u64 = 4_096;

/// A keyed record and its expiry.
pub(super) type Expiring = (WallTime, PrincipalId, u128);

#[derive(Clone, Debug, Default)]
pub(super) struct Expiries {
    /// By the first millisecond after the bucket. None is empty.
    buckets: BTreeMap<u64, Vec<Expiring>>,
}

impl Expiries {
    pub fn insert(&mut self, expiring: Expiring) {
        // The last bucket has no end.
        let end = (expiring.0.0 / BUCKET).saturating_add(1).saturating_mul(BUCKET);
        self.buckets.entry(end).or_default().push(expiring);
    }

    /// Takes one whose whole bucket has expired.
    pub fn pop(&mut self, wall: WallTime) -> Option<Expiring> {
        let mut bucket = self.buckets.first_entry().filter(|bucket| *bucket.key() <= wall.0)?;
        let expiring = bucket.get_mut().pop();
        if bucket.get().is_empty() {
            bucket.remove();
        }
        expiring
    }

    /// When [`pop`](Expiries::pop) has something to give.
    pub fn next(&self) -> Option<WallTime> {
        self.buckets.first_key_value().map(|(&end, _)| WallTime(end))
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &Expiring> {
        self.buckets.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn none_comes_early_and_all_come_within_a_bucket(expiries in prop::collection::vec(0u64..100_000, 0..60), wall in 0u64..120_000) {
            let mut all = Expiries::default();
            for (key, &expiry) in expiries.iter().enumerate() {
                all.insert((WallTime(expiry), PrincipalId(1), key as u128));
            }
            let mut popped = Vec::new();
            while let Some((expiry, _, key)) = all.pop(WallTime(wall)) {
                prop_assert!(expiry.0 < wall && expiries[key as usize] == expiry.0);
                popped.push(key);
            }
            for (key, &expiry) in expiries.iter().enumerate() {
                prop_assert!(popped.contains(&(key as u128)) || expiry + BUCKET > wall);
            }
            prop_assert!(all.next().is_none_or(|next| next.0 > wall));
            popped.sort();
            popped.dedup();
            prop_assert_eq!(popped.len() + all.iter().count(), expiries.len());
        }
    }

    #[test]
    fn the_end_of_time_is_an_expiry_like_another() {
        let mut all = Expiries::default();
        all.insert((WallTime(u64::MAX), PrincipalId(1), 1));
        assert_eq!(all.pop(WallTime(u64::MAX - BUCKET)), None);
        assert!(all.next().is_some());
    }
}
