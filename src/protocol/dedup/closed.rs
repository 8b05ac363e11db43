//! The numbers that a client has closed: all below a watermark, and ranges above it. A set that only grows; not a record of anything
//! that ran.

use crate::sabotage::planted;
use std::collections::BTreeMap;

/// A growing set of call numbers, as small as its holes are few.
#[derive(Clone, Debug)]
pub struct Closed {
    /// All numbers below are closed.
    below: u64,
    /// First to last, inclusive; apart from one another and from `below` by at least one open number.
    above: BTreeMap<u64, u64>,
}

impl Closed {
    /// Numbers count from 1, so 0 is closed from the start.
    #[allow(clippy::new_without_default)] // Empty is not what it is.
    pub fn new() -> Self {
        Closed { below: 1, above: BTreeMap::new() }
    }

    /// Whether the number is closed. `u64::MAX` always is: so the watermark can pass every number.
    pub fn contains(&self, number: u64) -> bool {
        number < self.below
            || number == u64::MAX
            || self.above.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    /// All numbers below are closed.
    pub fn below(&self) -> u64 {
        self.below
    }

    /// How many ranges lie above the watermark: what the set costs.
    pub fn ranges(&self) -> usize {
        self.above.len()
    }

    /// The ranges above the watermark, first to last, inclusive.
    pub fn above(&self) -> impl Iterator<Item = (u64, u64)> {
        self.above.iter().map(|(&first, &last)| (first, last))
    }

    /// Closes all numbers below. True if the watermark rose.
    pub fn raise(&mut self, below: u64) -> bool {
        if planted!(WatermarkFalls) && (1..self.below).contains(&below) {
            self.below = below;
        }
        if below <= self.below {
            return false;
        }
        self.below = below;
        while let Some(range) = self.above.first_entry()
            && *range.key() <= self.below
        {
            self.below = self.below.max(range.remove().saturating_add(1));
        }
        true
    }

    /// Closes `first..=last`. False, and nothing is closed, if the range is empty, or if it would need a range of its own when there are
    /// `limit` already: its records stay until a later acknowledgement, which is safe.
    pub fn close(&mut self, first: u64, last: u64, limit: usize) -> bool {
        let mut first = first.max(self.below);
        if first > last {
            return false;
        }
        if first == self.below {
            return self.raise(last.saturating_add(1));
        }
        let mut last = last;
        let mut merged = false;
        if let Some((&before, &until)) = self.above.range(..=first).next_back()
            && until.saturating_add(1) >= first
        {
            (first, last, merged) = (before, last.max(until), true);
        }
        while let Some((&after, &until)) = self.above.range(first..=last.saturating_add(1)).next() {
            self.above.remove(&after);
            (last, merged) = (last.max(until), true);
        }
        if !merged && self.above.len() >= limit {
            return false;
        }
        self.above.insert(first, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_merge_and_are_absorbed() {
        let mut closed = Closed::new();
        assert!(closed.close(3, 4, 8) && closed.close(8, 9, 8) && closed.close(5, 7, 8));
        assert_eq!(closed.ranges(), 1);
        assert!(closed.raise(3));
        assert_eq!((closed.below(), closed.ranges()), (10, 0));
        assert!(!closed.raise(5), "it only rises");
    }

    #[test]
    fn hostile_numbers_neither_loop_nor_overflow() {
        let mut closed = Closed::new();
        assert!(closed.contains(0) && closed.contains(u64::MAX) && !closed.contains(1));
        assert!(!closed.close(9, 3, 8), "an inverted range is empty");
        assert!(closed.close(5, u64::MAX, 8) && closed.contains(u64::MAX - 1) && !closed.contains(4));
        assert!(closed.close(2, u64::MAX, 8));
        assert!(closed.close(0, u64::MAX, 8) && closed.contains(1));
        assert_eq!((closed.below(), closed.ranges()), (u64::MAX, 0));
    }

    #[test]
    fn at_the_limit_a_lone_range_is_left_open() {
        let mut closed = Closed::new();
        assert!(closed.close(3, 3, 1));
        assert!(!closed.close(5, 5, 1) && !closed.contains(5));
        assert!(closed.close(4, 5, 1), "one that merges costs nothing");
    }

    proptest! {
        #[test]
        fn it_is_the_union_of_what_was_closed(steps in prop::collection::vec((0u64..40, 0u64..8, any::<bool>()), 0..40)) {
            let mut closed = Closed::new();
            let mut reference = BTreeSet::from([0]);
            for (first, length, raise) in steps {
                if raise {
                    closed.raise(first);
                    reference.extend(0..first);
                } else {
                    closed.close(first, first + length, usize::MAX);
                    reference.extend(first..=first + length);
                }
                for number in 0..60 {
                    prop_assert_eq!(closed.contains(number), reference.contains(&number), "number {}", number);
                }
                let mut previous = closed.below();
                for (&first, &last) in &closed.above {
                    prop_assert!(first > previous && first <= last, "ranges lie apart");
                    previous = last + 1;
                }
            }
        }
    }
}
