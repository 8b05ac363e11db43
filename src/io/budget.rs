//! What all connections of a bound socket may hold together: a bound for each of them, times the connections, would be no bound on memory.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A sum over connections, and its limit. Clones share the sum, also between threads.
#[derive(Clone)]
pub(crate) struct Budget {
    limit: usize,
    sum: Arc<AtomicUsize>,
}

/// One connection's part of it.
pub(crate) struct Part {
    bytes: Cell<usize>,
    since: Cell<Instant>,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget { limit, sum: Arc::default() }
    }

    /// The connection holds so much now. Returns whether that made it too much in all.
    pub fn set(&self, part: &Part, bytes: usize) -> bool {
        let before = part.bytes.replace(bytes);
        if before == bytes {
            return false;
        }
        if before == 0 {
            part.since.set(Instant::now());
        }
        if bytes < before {
            self.sum.fetch_sub(before - bytes, Ordering::Relaxed);
            return false;
        }
        self.sum.fetch_add(bytes - before, Ordering::Relaxed);
        self.is_exceeded()
    }

    pub fn is_exceeded(&self) -> bool {
        self.sum.load(Ordering::Relaxed) > self.limit
    }
}

impl Part {
    pub fn new(now: Instant) -> Part {
        Part { bytes: Cell::new(0), since: Cell::new(now) }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// When it began to hold anything, or was last in use.
    pub fn since(&self) -> Instant {
        self.since.get()
    }

    /// What it holds is in use.
    pub fn used(&self) {
        self.since.set(Instant::now());
    }
}

/// Who weighs most goes first. Bytes alone would send an honest upload away before hostile ones of a byte less that never end, so time counts too.
pub(crate) fn weight(bytes: usize, since: Instant, now: Instant) -> u128 {
    bytes as u128 * (now.saturating_duration_since(since) + Duration::from_millis(1)).as_micros()
}
