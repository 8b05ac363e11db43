//! A call's way through the engine: refused, queued, taken in by the store, run, completed. What each step means is the replica's business.

use super::{Engine, SHUTTING_DOWN, TURN, not_started};
use crate::io::spin::{self, Cause};
use crate::principal::Principal;
use crate::protocol::dedup::{Attempt, Execution, Now, Shed, Terminal};
use crate::protocol::replica::Begun;
use crate::protocol::wire::Call;
use crate::protocol::{ConnectionId, Refusal};
use crate::sabotage::kill_point;
use crate::server::answer::Incoming;
use crate::server::intake::{digest, incoming};
use crate::server::queue::Waiting;
use crate::server::shares::{Source, most};
use crate::server::work::{self, Started};

impl Engine {
    pub(super) fn call(&mut self, from: ConnectionId, principal: &Principal, call: Call, now: Now) {
        kill_point!("received");
        let Some(source) = self.outbox.source(from) else { return };
        // A method that this server does not have is refused by the machine too: it looks for a record first.
        let (class, name) = match self.routes.method(call.interface, call.method) {
            Some((_, method)) => (method.info.retry, Some(method.info.name)),
            None => (call.retry, None),
        };
        // Of a call that is refused in any case nothing else is looked at: it may be long.
        let foreign = call.incarnation != self.incarnation;
        let (digest, malformed) = match if foreign { Ok(0) } else { digest(&call) } {
            Ok(digest) => (digest, None),
            Err(error) => (0, Some(format!("the parameters are not a valid message: {error}"))),
        };
        let shed = self.shed(from, source, principal, &call, name, malformed);
        let attempt = Attempt { call: &call, digest, class, principal: principal.id(), from };
        if let Some(execution) = self.replica.call(&attempt, shed, now) {
            self.execute(execution, principal.clone(), source, call, now);
        }
    }

    /// Why this call would not be run now, if it has to be run.
    fn shed(
        &self,
        from: ConnectionId,
        source: Source,
        principal: &Principal,
        call: &Call,
        method: Option<&str>,
        malformed: Option<String>,
    ) -> Option<Shed> {
        let shed = |refusal, message: String| Some(Shed { refusal, retry_after: None, message });
        if let Some(message) = malformed {
            return shed(Refusal::Malformed, message);
        }
        let Some(method) = method else {
            let (method, interface) = (call.method, call.interface);
            return shed(
                Refusal::UnknownMethod,
                format!("no method {method} of interface {interface:#018x} here"),
            );
        };
        if !self.routes.rules.allow(principal, method) {
            let why = format!("the server does not allow {principal} to call {method}");
            self.port.complain("a call was denied", from, &why);
            return shed(Refusal::Denied, why);
        }
        if self.drain_until.is_some() {
            return shed(Refusal::ShuttingDown, SHUTTING_DOWN.into());
        }
        if call.time_left.is_zero() {
            return shed(Refusal::Deadline, "its time was up when it arrived".into());
        }
        if self.handlers.len() >= self.settings.concurrency && self.queue.len() >= self.settings.queue {
            return shed(Refusal::Overloaded, "all handlers are busy and the queue is full".into());
        }
        if self.handlers.bytes() + self.queue.bytes() + call.body.len() > self.settings.held {
            return shed(
                Refusal::Overloaded,
                "the parameters of open calls fill the memory set aside for them".into(),
            );
        }
        let (share, all) = (self.shares.of(source), &self.settings);
        let room = most(all.held).saturating_sub(call.body.len());
        if share.running + share.queued >= most(all.concurrency) + most(all.queue) || share.bytes > room {
            return shed(
                Refusal::Overloaded,
                "this client has as many calls open as one may; the rest is for others".into(),
            );
        }
        if self.port.is_behind(from) {
            return shed(
                Refusal::Overloaded,
                "this connection's replies are not read as fast as they come".into(),
            );
        }
        None
    }

    /// Admitted: to a handler if one is free, else into the queue.
    fn execute(&mut self, execution: Execution, principal: Principal, source: Source, call: Call, now: Now) {
        let Some((_, method)) = self.routes.method(call.interface, call.method) else { return };
        let (retention, arrived) = (self.settings.dedup.retention, self.clock.instant(now.moment));
        let incoming = incoming(call, method.info, principal, source, retention, arrived);
        let context = &incoming.context;
        tracing::debug!(method = method.info.name, principal = %context.principal(), nonce = %context.nonce(), "executes");
        if self.handlers.len() < self.settings.concurrency
            && self.shares.may_run(source, self.settings.concurrency)
        {
            self.begin(execution, incoming, now);
        } else {
            let deadline = incoming.context.deadline();
            self.shares.take(execution, source, incoming.body.len(), false);
            self.queue.push(Waiting { execution, incoming, deadline });
        }
    }

    /// A handler's place is free: its handler runs, if need be when the store has taken the call in.
    fn begin(&mut self, execution: Execution, incoming: Incoming, now: Now) {
        match self.replica.begin(execution) {
            Begun::Run => self.start(execution, incoming, now),
            Begun::Wait => {
                self.shares.take(execution, incoming.source, incoming.body.len(), true);
                self.handlers.wait(execution, incoming);
            }
            Begun::Over => {}
        }
    }

    /// The store has taken the call in.
    pub(super) fn run_or_drop(&mut self, execution: Execution, incoming: Incoming) {
        let now = self.clock.now();
        if incoming.context.deadline() <= self.clock.instant(now.moment) {
            let late = not_started(Refusal::Deadline, "its time was up when the store had taken it in");
            self.replica.complete(execution, late, now);
        } else {
            self.start(execution, incoming, now);
        }
    }

    #[cfg_attr(not(feature = "postgres"), allow(unused_mut))]
    fn start(&mut self, execution: Execution, mut incoming: Incoming, now: Now) {
        #[cfg(feature = "postgres")]
        if let Some(transactions) = &self.transactions {
            let claim = self.replica.claim(execution);
            incoming.context.set_transaction(claim.and_then(|claim| transactions.of(claim)));
        }
        self.counters.executed += 1;
        let Some((service, method)) = self.routes.method(incoming.interface, incoming.ordinal) else {
            return;
        };
        kill_point!("handler-entered");
        let (source, bytes) = (incoming.source, incoming.body.len());
        let began = self.clock.instant(now.moment);
        match work::start(service, method, incoming, execution, began, &self.runtime, &self.answers) {
            Started::Answered(terminal) => self.complete(execution, terminal, now),
            Started::Running(task, abort) => {
                let until = began + self.settings.handler_timeout;
                self.shares.take(execution, source, bytes, true);
                self.handlers.run(execution, abort, bytes, until);
                self.spawning.push(task);
                if self.spawning.len() >= TURN {
                    work::spawn(&mut self.spawning, &self.runtime); // a long message does not hold them up
                }
            }
        }
    }

    /// A spawned handler has answered, or was dropped.
    pub(super) fn finished(&mut self, execution: Execution, terminal: Terminal) {
        spin::note(Cause::Asked);
        // Not running: it timed out, and was completed then.
        if self.handlers.ended(execution) {
            self.shares.give(execution);
            self.complete(execution, terminal, self.clock.now());
            self.start_queued();
        }
    }

    pub(super) fn start_queued(&mut self) {
        while self.handlers.len() < self.settings.concurrency {
            let may = |source| self.shares.may_run(source, self.settings.concurrency);
            let Some(Waiting { execution, incoming, deadline }) = self.queue.pop(may) else { return };
            self.shares.give(execution);
            let now = self.clock.now();
            if deadline <= self.clock.instant(now.moment) {
                let late = not_started(Refusal::Deadline, "its time was up before a handler was free");
                self.complete(execution, late, now);
            } else {
                self.begin(execution, incoming, now);
            }
        }
    }

    pub(super) fn complete(&mut self, execution: Execution, terminal: Terminal, now: Now) {
        let terminal = self.within_limit(terminal);
        self.replica.complete(execution, terminal, now);
    }

    /// A reply that no client would take is the handler's mistake, and said to be.
    fn within_limit(&self, terminal: Terminal) -> Terminal {
        let limit = self.settings.wire.body;
        match terminal {
            Terminal::Ok(body) | Terminal::Declined { body, .. } if body.len() > limit as usize => {
                Terminal::Failed(format!(
                    "the reply has {} bytes, more than the limit of {limit}",
                    body.len()
                ))
            }
            terminal => terminal,
        }
    }

    pub(super) fn forget_queued(&mut self, execution: Execution, now: Now) {
        if self.queue.remove(execution) {
            self.shares.give(execution);
            self.complete(execution, Terminal::Cancelled, now);
        }
    }
}
