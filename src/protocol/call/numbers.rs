//! The sequence numbers of one registration: which are open, and which closed ones the server has not been told.
//!
//! Memory follows the open calls, not the span of their numbers: a call that stays open while a million
//! others pass costs one entry.

use crate::sabotage::planted;
use std::collections::VecDeque;

/// Numbers from 1, each open from the moment it is taken until it is closed.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    next: u64,
    /// Ascending, for numbers are given out in order; a closed one stays as `None` until it is in front or
    /// the dead outweigh the living.
    open: VecDeque<(u64, Option<u32>)>,
    live: usize,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Numbers { next: 1, open: VecDeque::new(), live: 0 }
    }

    /// Takes the next number for the call in `slot`.
    pub(super) fn take(&mut self, slot: u32) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.push_back((number, Some(slot)));
        self.live += 1;
        number
    }

    /// Where the open call of this number is.
    pub(super) fn slot(&self, number: u64) -> Option<u32> {
        let at = self.open.binary_search_by_key(&number, |entry| entry.0).ok()?;
        self.open[at].1
    }

    pub(super) fn close(&mut self, number: u64) {
        let Ok(at) = self.open.binary_search_by_key(&number, |entry| entry.0) else { return };
        if self.open[at].1.take().is_none() {
            return;
        }
        self.live -= 1;
        if planted!(NumberReused) && number + 1 == self.next {
            self.next = number;
        }
        while self.open.front().is_some_and(|entry| entry.1.is_none()) {
            self.open.pop_front();
        }
        // Sweeping half of them for as many closings: constant work a closing, and a bounded number of dead ones.
        if self.open.len() > 2 * self.live + 32 {
            self.open.retain(|entry| entry.1.is_some());
        }
    }

    /// The lowest open number: all below it are closed. It never passes an open call.
    pub(super) fn below(&self) -> u64 {
        self.open.front().map_or(self.next, |entry| entry.0)
    }

    /// Whether numbers above [`below`](Numbers::below) are closed, which `acked-below` cannot tell.
    pub(super) fn has_holes(&self) -> bool {
        self.next - self.below() != self.live as u64
    }

    /// The closed numbers above [`below`](Numbers::below), as inclusive ranges: one more than there are open
    /// numbers, at most.
    pub(super) fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut expected = self.below();
        let open = self.open.iter().filter(|entry| entry.1.is_some()).map(|entry| entry.0);
        for number in open.chain([self.next]) {
            if expected < number {
                holes.push((expected, number - 1));
            }
            expected = number + 1;
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn one_slow_call_costs_one_entry() {
        let mut numbers = Numbers::new();
        let slow = numbers.take(0);
        for _ in 0..100_000 {
            let number = numbers.take(1);
            numbers.close(number);
        }
        assert!(numbers.open.len() <= 40, "{}", numbers.open.len());
        assert_eq!((numbers.below(), numbers.holes()), (slow, vec![(2, 100_001)]));
        numbers.close(slow);
        assert_eq!((numbers.below(), numbers.has_holes(), numbers.holes()), (100_002, false, vec![]));
    }

    proptest! {
        /// Against the obvious implementation: every number below the watermark or in a hole is closed, every
        /// other one is open.
        #[test]
        fn closed_is_what_is_below_or_in_a_hole(choices in proptest::collection::vec(0u64..40, 0..80)) {
            let mut numbers = Numbers::new();
            let mut model = BTreeMap::new();
            for choice in choices {
                if choice < 20 {
                    model.insert(numbers.take(choice as u32), choice as u32);
                } else {
                    let number = numbers.next.saturating_sub(choice - 19);
                    numbers.close(number);
                    model.remove(&number);
                }
                prop_assert_eq!(numbers.live, model.len());
                prop_assert_eq!(numbers.below(), model.keys().next().copied().unwrap_or(numbers.next));
                let holes = numbers.holes();
                prop_assert_eq!(numbers.has_holes(), !holes.is_empty());
                prop_assert!(holes.len() <= model.len() + 1);
                for number in 1..numbers.next {
                    let closed = number < numbers.below() || holes.iter().any(|h| (h.0..=h.1).contains(&number));
                    prop_assert_eq!(closed, !model.contains_key(&number));
                    prop_assert_eq!(numbers.slot(number), model.get(&number).copied());
                }
            }
        }
    }
}
