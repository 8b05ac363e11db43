//! What the engine does now and then: sweeps, time-outs, counters; and how it ends.

use std::time::Instant;

use super::{Engine, HOUSEKEEPING, SHUTTING_DOWN, SWEEP_PACE, goodbye, not_started};
use crate::protocol::Refusal;
use crate::protocol::dedup::Terminal;
use crate::protocol::wire::Entry;
use crate::server::alarm::share;
use crate::server::queue::Waiting;

impl Engine {
    pub(super) fn keep_house(&mut self) {
        self.sweep();
        self.drop_overdue_handlers();
        self.newcomers.tidy(self.clock.moment());
        let dedup = self.replica.counters();
        self.counters.gate = self.port.counters();
        self.counters.connections = self.outbox.len();
        self.counters.unsent = self.outbox.refused();
        self.counters.sessions = dedup.sessions;
        self.counters.records = dedup.records;
        self.counters.record_bytes = dedup.bytes;
        self.counters.keyed_records = dedup.keyed;
        self.counters.keyed_bytes = dedup.keyed_bytes;
        self.warn_of_keyed_records();
        self.counters.joined = dedup.joined;
        self.counters.store_pending = self.replica.pending();
        self.counters.running = self.handlers.len();
        self.counters.queued = self.queue.len();
        self.publish.send_if_modified(|published| {
            let changed = *published != self.counters;
            published.clone_from(&self.counters);
            changed
        });
    }

    /// One round: the machine looks at a few sessions and keys at a time, so that no call waits for long.
    pub(super) fn sweep(&mut self) {
        let now = self.clock.now();
        let again = self.replica.sweep(now).map(|at| at.max(now.moment + SWEEP_PACE));
        // What is due later, the next housekeeping finds.
        self.sweep_again = again.filter(|at| *at < now.moment + HOUSEKEEPING);
    }

    fn warn_of_keyed_records(&mut self) {
        let (records, bytes) = (self.counters.keyed_records, self.counters.keyed_bytes);
        let limits = &self.settings.dedup;
        let shares = [share(records, limits.keyed), share(bytes, limits.keyed_bytes)];
        if self.keyed_alarm.goes_off(shares) {
            tracing::warn!(
                records,
                most_records = limits.keyed,
                bytes,
                most_bytes = limits.keyed_bytes,
                "the table of keyed records is four fifths full; once it is full, keyed calls and calls made within a request are refused as \
                 Overloaded: raise ServerBuilder::keyed_records and keyed_bytes, or lower the retention at the servers that call this one"
            );
        }
    }

    fn drop_overdue_handlers(&mut self) {
        let now = Instant::now();
        while let Some(execution) = self.handlers.drop_overdue(now) {
            self.shares.give(execution);
            let limit = self.settings.handler_timeout;
            let late = Terminal::Failed(format!("the handler ran longer than {limit:?}"));
            self.complete(execution, late, self.clock.now());
        }
        self.start_queued();
        self.answer_overdue_calls();
    }

    /// A queued call whose time is up is answered then, not when a handler becomes free.
    fn answer_overdue_calls(&mut self) {
        let now = Instant::now();
        while let Some(execution) = self.queue.pop_overdue(now) {
            self.shares.give(execution);
            let late = not_started(Refusal::Deadline, "its time was up before a handler was free");
            self.complete(execution, late, self.clock.now());
        }
    }

    pub(super) fn begin_drain(&mut self) {
        tracing::info!(running = self.handlers.len(), queued = self.queue.len(), "shutting down");
        self.drain_until = Some(Instant::now() + self.settings.drain);
        let told: Vec<_> = self.outbox.connections().collect();
        for to in told {
            self.say(to, Entry::Goodbye(goodbye()));
        }
        // What waits for a handler has not started, and can be retried elsewhere at once.
        while let Some(Waiting { execution, .. }) = self.queue.pop(|_| true) {
            self.shares.give(execution);
            let refused = not_started(Refusal::ShuttingDown, SHUTTING_DOWN);
            self.complete(execution, refused, self.clock.now());
        }
    }

    pub(super) fn drain_is_over(&self) -> bool {
        self.drain_until.is_some_and(|until| until <= Instant::now())
    }

    pub(super) async fn end(mut self) {
        if !self.handlers.is_empty() {
            tracing::warn!(
                running = self.handlers.len(),
                "shut down with handlers still running; their callers will see Unknown"
            );
        }
        self.keep_house();
        self.outbox.flush(&mut self.port);
        self.port.drain(self.settings.drain).await;
        if let Some(store) = self.store.take() {
            // Last: as long as this server is heard, no other has its store. Whoever opens it next finds it free. One that does not let go is not waited for.
            let _ = tokio::time::timeout(self.settings.drain, store.close()).await;
        }
    }
}
