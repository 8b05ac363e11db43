//! The engine: takes messages from the socket, asks the dedup machine what becomes of each call, runs handlers, sends what there is to send.
//!
//! It lives on the server's IO thread and does everything in one loop. It decides nothing about calls itself, except when a server is full.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::answer::Incoming;
use super::builder::Settings;
use super::counters::ServerCounters;
use super::intake::{digest, incoming};
use super::outbox::Outbox;
use super::queue::{Queue, Waiting};
use super::routes::Routes;
use super::work::{self, Answers, Started};
use crate::io::{Port, RouterEvent};
use crate::nonce::{self};
use crate::protocol::dedup::{Admission, Attempt, Dedup, Delivery, Execution, Minted, Now, Shed, Terminal};
use crate::protocol::wire::{self, BadEntry, Call, Entry, Goodbye, Hello, Reply, Subject};
use crate::protocol::{ConnectionId, Incarnation, Level, Principal, Refusal, Registration, Stamp, WallTime};

pub(super) struct Engine {
    port: Port,
    settings: Settings,
    routes: Routes,
    runtime: Handle,
    dedup: Dedup,
    clock: Clock,
    outbox: Outbox,
    queue: Queue,
    running: HashMap<Execution, Running>,
    /// Running handlers by the moment at which they are dropped.
    timeouts: BTreeMap<(Instant, u64), Execution>,
    started: u64,
    /// Bytes of the parameters of running calls.
    running_bytes: usize,
    answers: Answers,
    answered: mpsc::UnboundedReceiver<(Execution, Terminal)>,
    /// Kept for its memory.
    deliveries: Vec<Delivery>,
    counters: ServerCounters,
    publish: watch::Sender<ServerCounters>,
    /// Once set, no call is admitted any more, and what runs then is left behind.
    drain_until: Option<Instant>,
    incarnation: Incarnation,
}

struct Running {
    abort: AbortHandle,
    /// Of its parameters.
    bytes: usize,
    timeout: (Instant, u64),
}

/// One origin for the machine's moments.
struct Clock {
    origin: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        Now { moment: self.origin.elapsed(), wall: nonce::wall_time(SystemTime::now()) }
    }
}

/// Messages taken in one go before replies are flushed: enough to coalesce, few enough that the first reply does not wait for long.
const BATCH: usize = 64;
/// Rounds of sweeping in one go: some 4,000 sessions and keys, half a millisecond.
const SWEEPS: usize = 64;
/// How often housekeeping runs: sweeps, silent peers, counters.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn new(
        port: Port,
        settings: Settings,
        mut routes: Routes,
        runtime: Handle,
        publish: watch::Sender<ServerCounters>,
        born: WallTime,
    ) -> Self {
        if !settings.inline {
            routes.spawn_all();
        }
        let (answers, answered) = mpsc::unbounded_channel();
        let incarnation = crate::random::u64().max(1);
        let identity = crate::protocol::dedup::Identity {
            incarnation: Incarnation(incarnation),
            store: crate::random::u128(),
            // The memory store lives and dies with the process.
            generation: incarnation,
            level: Level::Memory,
            ordinal: 0,
            born,
        };
        Engine {
            dedup: Dedup::new(identity, settings.dedup.clone()),
            outbox: Outbox::new(settings.wire),
            port,
            settings,
            routes,
            runtime,
            clock: Clock { origin: Instant::now() },
            queue: Queue::default(),
            running: HashMap::new(),
            timeouts: BTreeMap::new(),
            started: 0,
            running_bytes: 0,
            answers,
            answered,
            deliveries: Vec::new(),
            counters: ServerCounters::default(),
            publish,
            drain_until: None,
            incarnation: identity.incarnation,
        }
    }

    /// Serves until `shutdown`, or until the port closes; then drains.
    pub(super) async fn run(mut self, mut shutdown: oneshot::Receiver<()>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.port.next() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                Some((execution, terminal)) = self.answered.recv() => self.finished(execution, terminal),
                // Dropping the sender shuts down too: the future of `serve_until` was dropped.
                _ = &mut shutdown, if self.drain_until.is_none() => self.begin_drain(),
                _ = housekeeping.tick() => self.keep_house(),
            }
            self.take_what_is_at_hand();
            self.outbox.flush(&mut self.port);
            if self.drain_until.is_some() && (self.running.is_empty() || self.drain_is_over()) {
                return self.end().await;
            }
        }
    }

    fn take_what_is_at_hand(&mut self) {
        for _ in 0..BATCH {
            let event = self.port.try_next();
            let answer = self.answered.try_recv().ok();
            if event.is_none() && answer.is_none() {
                break;
            }
            if let Some(event) = event {
                self.take(event);
            }
            if let Some((execution, terminal)) = answer {
                self.finished(execution, terminal);
            }
        }
    }

    fn take(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Opened(connection, ..) => self.outbox.open(connection),
            RouterEvent::Message(connection, frames) => self.message(connection, frames),
            RouterEvent::Closed(connection, _) => self.outbox.close(connection),
            RouterEvent::Writable(_) => {}
        }
    }

    fn message(&mut self, from: ConnectionId, mut frames: Vec<Bytes>) {
        if frames.len() > 1 && frames[0].is_empty() {
            self.outbox.use_envelope(from);
            frames.remove(0);
        }
        match wire::decode(&frames, &self.settings.wire) {
            Ok(decoded) => {
                for entry in decoded.entries {
                    match entry {
                        Ok(entry) => self.entry(from, entry),
                        Err(bad) => self.bad_entry(from, &bad),
                    }
                }
            }
            Err(error) => {
                self.counters.malformed += 1;
                tracing::warn!(%from, %error, "a message could not be decoded");
                self.say(from, Entry::Goodbye(error.goodbye()));
            }
        }
    }

    fn entry(&mut self, from: ConnectionId, entry: Entry) {
        let now = self.clock.now();
        match entry {
            Entry::Hello(hello) => self.hello(from, &hello, now),
            Entry::Call(call) => self.call(from, call, now),
            Entry::Cancel(cancel) => {
                if let Some(execution) = self.dedup.cancel(&cancel, Principal::ANYONE, now) {
                    self.forget_queued(execution);
                }
            }
            Entry::Ack(ack) => self.dedup.ack(&ack, Principal::ANYONE, now),
            Entry::Ping(number) => {
                if let Some(registration) = self.outbox.registration(from) {
                    self.dedup.touch(registration, Principal::ANYONE, now);
                }
                self.say(from, Entry::Pong(number));
            }
            Entry::Pong(_) | Entry::Goodbye(_) => {}
            Entry::Welcome(_) | Entry::Reply(_) | Entry::Event(_) | Entry::Numbers(_) => {
                // A server's entries: nothing that a client would send.
                self.counters.malformed += 1;
            }
        }
    }

    fn bad_entry(&mut self, from: ConnectionId, bad: &BadEntry) {
        self.counters.malformed += 1;
        tracing::warn!(%from, error = %bad, "an entry could not be decoded");
        let Some(mut answer) = bad.answer() else { return };
        if let (Subject::Call { incarnation, .. }, Entry::Reply(reply)) = (&bad.subject, &mut answer)
            && let wire::Answer::Refused(refused) = &mut reply.answer
            && *incarnation != self.incarnation
        {
            // An earlier life, with other limits, may have run this very attempt.
            refused.refusal = Refusal::HelloFirst;
            refused.ambiguous = true;
        }
        self.say(from, answer);
    }

    fn hello(&mut self, from: ConnectionId, hello: &Hello, now: Now) {
        if self.drain_until.is_some() {
            return self.say(from, Entry::Goodbye(goodbye()));
        }
        if !self.outbox.may_greet(from) {
            let reason = "too many hellos on one connection; resume the session instead".into();
            return self.say(from, Entry::Goodbye(Goodbye { reason, refusal: Some(Refusal::Overloaded) }));
        }
        let minted = Minted {
            registration: Registration(crate::random::u128().max(1)),
            stamp: Stamp(crate::random::u64().max(1)),
        };
        match self.dedup.hello(hello, Principal::ANYONE, minted, now) {
            Ok(welcome) => {
                self.outbox.welcomed(from, welcome.registration, hello.resume);
                // Only who says hello promised to be heard: a plain ZeroMQ peer may be silent for as long as it likes.
                self.port.set_idle_timeout(from, Some(3 * self.settings.heartbeat));
                let welcome = wire::Welcome {
                    heartbeat: self.settings.heartbeat,
                    body_limit: self.settings.wire.body,
                    contracts: self.routes.differing(&hello.contracts),
                    ..welcome
                };
                tracing::debug!(%from, session = %hello.session, registration = %welcome.registration, "welcome");
                self.say(from, Entry::Welcome(welcome));
            }
            Err(refused) => {
                self.counters.refused += 1;
                self.say(
                    from,
                    Entry::Goodbye(Goodbye { reason: refused.message, refusal: Some(refused.refusal) }),
                );
            }
        }
    }

    fn call(&mut self, from: ConnectionId, call: Call, now: Now) {
        // A method that this server does not have is refused by the machine too: it looks for a record first.
        let (class, name) = match self.routes.method(call.interface, call.method) {
            Some((_, method)) => (method.info.retry, Some(method.info.name)),
            None => (call.retry, None),
        };
        let (digest, malformed) = match digest(&call) {
            Ok(digest) => (digest, None),
            Err(error) => (0, Some(format!("the parameters are not a valid message: {error}"))),
        };
        let shed = self.shed(from, &call, name, malformed);
        let attempt = Attempt { call: &call, digest, class, principal: Principal::ANYONE, from };
        match self.dedup.admit(&attempt, shed, now) {
            Admission::Execute(execution) => self.execute(execution, call),
            Admission::Reply(reply) => {
                self.count_reply(&reply);
                self.say(from, Entry::Reply(reply));
            }
            Admission::Joined => {
                self.counters.joined += 1;
                tracing::debug!(method = name, call = ?call.id, attempt = call.attempt, "joined");
            }
        }
    }

    /// Why this call would not be run now, if it has to be run.
    fn shed(
        &self,
        from: ConnectionId,
        call: &Call,
        method: Option<&str>,
        malformed: Option<String>,
    ) -> Option<Shed> {
        let shed = |refusal, message: String| Some(Shed { refusal, retry_after: None, message });
        if let Some(message) = malformed {
            return shed(Refusal::Malformed, message);
        }
        if method.is_none() {
            let (method, interface) = (call.method, call.interface);
            return shed(
                Refusal::UnknownMethod,
                format!("no method {method} of interface {interface:#018x} here"),
            );
        }
        if self.drain_until.is_some() {
            return shed(Refusal::ShuttingDown, SHUTTING_DOWN.into());
        }
        if call.time_left.is_zero() {
            return shed(Refusal::Deadline, "its time was up when it arrived".into());
        }
        if self.running.len() >= self.settings.concurrency && self.queue.len() >= self.settings.queue {
            return shed(Refusal::Overloaded, "all handlers are busy and the queue is full".into());
        }
        if self.running_bytes + self.queue.bytes() + call.body.len() > self.settings.held {
            return shed(
                Refusal::Overloaded,
                "the parameters of open calls fill the memory set aside for them".into(),
            );
        }
        if self.port.outstanding(from) > self.settings.router.outstanding_limit / 2 {
            return shed(
                Refusal::Overloaded,
                "this connection's replies are not read as fast as they come".into(),
            );
        }
        None
    }

    /// Admitted: to a handler if one is free, else into the queue.
    fn execute(&mut self, execution: Execution, call: Call) {
        let Some((_, method)) = self.routes.method(call.interface, call.method) else { return };
        let incoming = incoming(call, method.info, self.settings.dedup.retention);
        tracing::debug!(method = method.info.name, nonce = %incoming.context.nonce(), "executes");
        let deadline = incoming.context.deadline();
        if self.running.len() < self.settings.concurrency {
            self.start(execution, incoming);
        } else {
            self.queue.push(Waiting { execution, incoming, deadline });
        }
    }

    fn start(&mut self, execution: Execution, incoming: Incoming) {
        self.dedup.started(execution);
        self.counters.executed += 1;
        let Some((service, method)) = self.routes.method(incoming.interface, incoming.ordinal) else {
            return;
        };
        let bytes = incoming.body.len();
        match work::start(service, method, incoming, execution, &self.runtime, &self.answers) {
            Started::Answered(terminal) => self.complete(execution, terminal),
            Started::Running(abort) => {
                self.started += 1;
                let timeout = (Instant::now() + self.settings.handler_timeout, self.started);
                self.timeouts.insert(timeout, execution);
                self.running.insert(execution, Running { abort, bytes, timeout });
                self.running_bytes += bytes;
            }
        }
    }

    /// A spawned handler has answered, or was dropped.
    fn finished(&mut self, execution: Execution, terminal: Terminal) {
        // Not running: it timed out, and was completed then.
        let Some(running) = self.running.remove(&execution) else { return };
        self.timeouts.remove(&running.timeout);
        self.running_bytes -= running.bytes;
        self.complete(execution, terminal);
        self.start_queued();
    }

    fn start_queued(&mut self) {
        while self.running.len() < self.settings.concurrency {
            let Some(Waiting { execution, incoming, deadline }) = self.queue.pop() else { return };
            if deadline <= Instant::now() {
                self.complete(
                    execution,
                    not_started(Refusal::Deadline, "its time was up before a handler was free"),
                );
            } else {
                self.start(execution, incoming);
            }
        }
    }

    fn complete(&mut self, execution: Execution, terminal: Terminal) {
        let terminal = self.within_limit(terminal);
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.dedup.complete(execution, terminal, self.clock.now(), &mut deliveries);
        for Delivery { to, reply } in deliveries.drain(..) {
            tracing::debug!(call = ?reply.id, attempt = reply.attempt, "replies");
            self.say(to, Entry::Reply(reply));
        }
        self.deliveries = deliveries;
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

    fn forget_queued(&mut self, execution: Execution) {
        if self.queue.remove(execution) {
            self.complete(execution, Terminal::Cancelled);
        }
    }

    fn count_reply(&mut self, reply: &Reply) {
        match &reply.answer {
            wire::Answer::Refused(refused) => {
                self.counters.refused += 1;
                if refused.refusal == Refusal::Overloaded {
                    self.counters.shed += 1;
                    tracing::debug!(call = ?reply.id, attempt = reply.attempt, "shed");
                }
            }
            _ if reply.replayed => self.counters.replayed += 1,
            _ => {}
        }
    }

    fn say(&mut self, to: ConnectionId, entry: Entry) {
        self.outbox.say(to, entry, &mut self.port);
    }

    fn keep_house(&mut self) {
        self.sweep();
        self.drop_overdue_handlers();
        let dedup = self.dedup.counters();
        self.counters.connections = self.outbox.len();
        self.counters.unsent = self.outbox.refused();
        self.counters.sessions = dedup.sessions;
        self.counters.records = dedup.records;
        self.counters.record_bytes = dedup.bytes;
        self.counters.running = self.running.len();
        self.counters.queued = self.queue.len();
        self.publish.send_if_modified(|published| {
            let changed = *published != self.counters;
            published.clone_from(&self.counters);
            changed
        });
    }

    /// The machine looks at a few sessions and keys at a time, so that no call waits for long.
    fn sweep(&mut self) {
        let now = self.clock.now();
        for _ in 0..SWEEPS {
            if self.dedup.sweep(now).is_none_or(|again| again > now.moment) {
                break;
            }
        }
    }

    fn drop_overdue_handlers(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.timeouts.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let execution = entry.remove();
            if let Some(running) = self.running.remove(&execution) {
                running.abort.abort();
                self.running_bytes -= running.bytes;
                let limit = self.settings.handler_timeout;
                self.complete(execution, Terminal::Failed(format!("the handler ran longer than {limit:?}")));
            }
        }
        self.start_queued();
        self.answer_overdue_calls();
    }

    /// A queued call whose time is up is answered then, not when a handler becomes free.
    fn answer_overdue_calls(&mut self) {
        let now = Instant::now();
        while let Some(execution) = self.queue.pop_overdue(now) {
            let late = not_started(Refusal::Deadline, "its time was up before a handler was free");
            self.complete(execution, late);
        }
    }

    fn begin_drain(&mut self) {
        tracing::info!(running = self.running.len(), queued = self.queue.len(), "shutting down");
        self.drain_until = Some(Instant::now() + self.settings.drain);
        let told: Vec<_> = self.outbox.connections().collect();
        for to in told {
            self.say(to, Entry::Goodbye(goodbye()));
        }
        // What waits for a handler has not started, and can be retried elsewhere at once.
        while let Some(Waiting { execution, .. }) = self.queue.pop() {
            self.complete(execution, not_started(Refusal::ShuttingDown, SHUTTING_DOWN));
        }
    }

    fn drain_is_over(&self) -> bool {
        self.drain_until.is_some_and(|until| until <= Instant::now())
    }

    async fn end(mut self) {
        if !self.running.is_empty() {
            tracing::warn!(
                running = self.running.len(),
                "shut down with handlers still running; their callers will see Unknown"
            );
        }
        self.keep_house();
        self.outbox.flush(&mut self.port);
        self.port.drain(self.settings.drain).await;
    }
}

fn goodbye() -> Goodbye {
    Goodbye { reason: SHUTTING_DOWN.into(), refusal: None }
}

const SHUTTING_DOWN: &str = "the server is shutting down";

fn not_started(refusal: Refusal, why: &str) -> Terminal {
    Terminal::NotStarted(Shed { refusal, retry_after: None, message: why.into() })
}
