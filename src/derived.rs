//! The keys that the calls of one request have derived, so that no two of them are one call. Not how a key comes about.

use std::collections::HashSet;

use crate::sabotage::planted;
use crate::sync::threads::{Mutex, MutexGuard, PoisonError};

/// Shared by all clones of a request's context, in whatever threads they are.
#[derive(Debug, Default)]
pub(crate) struct Derived(Mutex<HashSet<u128>>);

impl Derived {
    /// Whether the key is new. Of those who claim the same one, one is told that it is.
    pub fn claim(&self, key: u128) -> bool {
        if planted!(DerivedTwice) && self.keys().contains(&key) {
            return false;
        } else if planted!(DerivedTwice) {
            self.keys().insert(key);
            return true;
        }
        self.keys().insert(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<u128>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
