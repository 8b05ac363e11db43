//! What unfinished messages take, over all connections of a bound socket. The bound on one message times the connections would be no bound on memory.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The sum over connections, and its limit. Clones share the sum, also between threads.
#[derive(Clone)]
pub(crate) struct Unfinished {
    limit: usize,
    sum: Arc<AtomicUsize>,
}

/// One connection's part of it.
pub(crate) struct Part {
    bytes: Cell<usize>,
    since: Cell<Instant>,
}

impl Unfinished {
    pub fn new(limit: usize) -> Unfinished {
        Unfinished { limit, sum: Arc::default() }
    }

    /// The connection holds so much now. Returns whether it is too much in all.
    pub fn set(&self, part: &Part, bytes: usize) -> bool {
        let before = part.bytes.replace(bytes);
        if before == bytes {
            return false;
        }
        if before == 0 {
            part.since.set(Instant::now());
        }
        let sum = match bytes.checked_sub(before) {
            Some(more) => self.sum.fetch_add(more, Ordering::Relaxed) + more,
            None => self.sum.fetch_sub(before - bytes, Ordering::Relaxed) - (before - bytes),
        };
        bytes > before && sum > self.limit
    }

    pub fn is_too_much(&self) -> bool {
        self.sum.load(Ordering::Relaxed) > self.limit
    }
}

impl Part {
    pub fn new(now: Instant) -> Part {
        Part { bytes: Cell::new(0), since: Cell::new(now) }
    }

    /// Who weighs most goes first: by bytes alone an honest upload would go before hostile ones of a byte less that never end, so time counts too.
    pub fn weight(&self, now: Instant) -> u128 {
        let held = now.saturating_duration_since(self.since.get()) + Duration::from_millis(1);
        self.bytes.get() as u128 * held.as_millis()
    }
}
