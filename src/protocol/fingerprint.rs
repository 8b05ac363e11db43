//! Fingerprints of the machines, for the search that visits every state once: two states of one fingerprint go on in the same way. Not an identity and not
//! a wire format: it is stable within one build only, and compiled only under the feature `sabotage`.
//!
//! Left out is what only counts (statistics, the pace of retries) and what only time decides. Moments count from now. Moments that lie a heartbeat, a
//! retention or a deadline away do not count at all: whoever explores keeps these so long that nothing else takes as long, and lets them pass by a step of
//! their own. Each fingerprint takes its machine apart by name, so that a new field has to be thought about.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::hash::Hasher;

thread_local! {
    /// One text at a time, since hashing it in one piece is many times faster than in its parts.
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Adds a value by its `Debug` text: for parts that are pure values, without moments and counters.
pub(super) fn shown(value: &impl Debug, hasher: &mut impl Hasher) {
    TEXT.with_borrow_mut(|text| {
        text.clear();
        // A string takes every text.
        let _ = write!(text, "{value:?};");
        hasher.write(text.as_bytes());
    });
}
