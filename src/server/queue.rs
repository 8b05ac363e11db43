//! Calls that wait for a handler, in the order in which they came.

use std::collections::VecDeque;
use std::time::Instant;

use super::answer::Incoming;
use crate::protocol::dedup::Execution;

/// A call that waits.
pub(super) struct Waiting {
    pub execution: Execution,
    pub incoming: Incoming,
    pub deadline: Instant,
}

#[derive(Default)]
pub(super) struct Queue {
    calls: VecDeque<Waiting>,
    /// Of their parameters.
    bytes: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Bytes of the parameters of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.incoming.body.len();
        self.calls.push_back(waiting);
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.calls.pop_front()?;
        self.bytes -= waiting.incoming.body.len();
        Some(waiting)
    }

    /// Takes one out of turn. True if it was there.
    pub fn remove(&mut self, execution: Execution) -> bool {
        self.take_if(|waiting| waiting.execution == execution).is_some()
    }

    /// Takes one whose time is up.
    pub fn pop_overdue(&mut self, now: Instant) -> Option<Execution> {
        self.take_if(|waiting| waiting.deadline <= now).map(|waiting| waiting.execution)
    }

    fn take_if(&mut self, which: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let at = self.calls.iter().position(which)?;
        let waiting = self.calls.remove(at)?;
        self.bytes -= waiting.incoming.body.len();
        Some(waiting)
    }
}
