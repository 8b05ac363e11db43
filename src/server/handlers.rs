//! Executions that hold a handler's place: those that wait for the store to take them in, and those that run. Not those that wait for a place.

use std::collections::BTreeMap;
use std::time::Instant;

use hashbrown::HashMap;

use super::answer::Incoming;
use crate::protocol::dedup::Execution;
use crate::sabotage::planted;
use crate::sync::tasks::AbortHandle;

#[derive(Default)]
pub(super) struct Handlers {
    waiting: HashMap<Execution, Incoming>,
    running: HashMap<Execution, Running>,
    /// Running handlers by the moment at which they are dropped.
    timeouts: BTreeMap<(Instant, u64), Execution>,
    started: u64,
    /// Of the parameters of both.
    bytes: usize,
}

struct Running {
    abort: AbortHandle,
    /// Of its parameters.
    bytes: usize,
    timeout: (Instant, u64),
}

impl Handlers {
    /// Places taken.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the parameters of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a place for a call that waits for the store.
    pub fn wait(&mut self, execution: Execution, incoming: Incoming) {
        self.bytes += incoming.body.len();
        self.waiting.insert(execution, incoming);
    }

    /// The store has decided: the place is free, and the call is given back.
    pub fn take_waiting(&mut self, execution: Execution) -> Option<Incoming> {
        let incoming = self.waiting.remove(&execution)?;
        self.bytes -= incoming.body.len();
        Some(incoming)
    }

    /// Takes a place for a handler that was spawned and is to be dropped at `until`.
    pub fn run(&mut self, execution: Execution, abort: AbortHandle, bytes: usize, until: Instant) {
        self.started += 1;
        let timeout = (until, self.started);
        self.timeouts.insert(timeout, execution);
        self.running.insert(execution, Running { abort, bytes, timeout });
        self.bytes += bytes;
    }

    /// A spawned handler has answered. False if it was dropped before.
    pub fn ended(&mut self, execution: Execution) -> bool {
        let Some(running) = self.running.remove(&execution) else { return planted!(LateAnswerCounts) };
        self.timeouts.remove(&running.timeout);
        self.bytes -= running.bytes;
        true
    }

    /// Drops a handler whose time is up.
    pub fn drop_overdue(&mut self, now: Instant) -> Option<Execution> {
        let entry = self.timeouts.first_entry().filter(|entry| entry.key().0 <= now)?;
        let execution = entry.remove();
        let running = self.running.remove(&execution)?;
        running.abort.abort();
        self.bytes -= running.bytes;
        Some(execution)
    }
}
