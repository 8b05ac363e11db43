//! Fingerprints of the machines, for the search that visits every state once: two states of one fingerprint go on in the same way. Not an identity and not
//! a wire format: it is stable within one build only, and compiled only under the feature `sabotage`.
//!
//! Left out is what only counts (statistics, the pace of retries) and what only time decides. Moments count from now. Moments that lie a heartbeat, a
//! retention or a deadline away do not count at all: whoever explores keeps these so long that nothing else takes as long, and lets them pass by a step of
//! their own. Each fingerprint takes its machine apart by name, so that a new field has to be thought about.

use std::fmt::{Debug, Write};
use std::hash::Hasher;

/// Adds a value by its `Debug` text: for parts that are pure values, without moments and counters.
pub(super) fn shown(value: &impl Debug, hasher: &mut impl Hasher) {
    struct Text<'a, H>(&'a mut H);
    impl<H: Hasher> Write for Text<'_, H> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    // A hasher takes every text.
    let _ = write!(Text(hasher), "{value:?};");
}
