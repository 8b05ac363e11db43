//! The engine: takes messages from the socket, asks the replica what becomes of each call, runs handlers, asks the store, sends what there is to send.
//!
//! It lives on the server's IO thread and does everything in one loop. It decides nothing about calls itself, except when a server is full.

mod calls;
mod upkeep;

use std::future::ready;
use std::time::{Duration, Instant, SystemTime};
use std::vec;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;

use super::alarm::Alarm;
use super::builder::Settings;
use super::counters::ServerCounters;
use super::guard::Answers;
use super::handlers::Handlers;
use super::newcomers::Newcomers;
use super::outbox::{Outbox, USELESS_MESSAGE};
use super::queue::Queue;
use super::routes::Routes;
use super::shares::Shares;
use super::work::{self, Task};
use crate::io::spin::{self, Cause};
use crate::io::{Port, RouterEvent};
use crate::nonce;
use crate::principal::Principal;
use crate::protocol::dedup::{Execution, Minted, Now, Shed, Terminal};
use crate::protocol::replica::{Action, Replica};
use crate::protocol::store::StoreEvent;
use crate::protocol::wire::{self, BadEntry, Entry, Goodbye, Hello, Refused, Reply, Subject, Welcome};
use crate::protocol::{ConnectionId, Incarnation, Moment, Refusal, Registration, Stamp, WallTime};
use crate::store::Link;
#[cfg(feature = "postgres")]
use crate::store::postgres::Transactions;

pub(super) struct Engine {
    port: Port,
    settings: Settings,
    routes: Routes,
    runtime: Handle,
    replica: Replica,
    /// None: records live in the replica alone.
    store: Option<Link>,
    /// Of calls that run, if the store is an atomic one.
    #[cfg(feature = "postgres")]
    transactions: Option<Transactions>,
    clock: Clock,
    outbox: Outbox,
    queue: Queue,
    handlers: Handlers,
    /// Handlers of this turn that are to become tasks of the runtime.
    spawning: Vec<Task>,
    shares: Shares,
    newcomers: Newcomers,
    keyed_alarm: Alarm,
    answers: Answers,
    answered: mpsc::UnboundedReceiver<(Execution, Terminal)>,
    counters: ServerCounters,
    publish: watch::Sender<ServerCounters>,
    /// When the next round of sweeping is due, if there is more to sweep.
    sweep_again: Option<Moment>,
    /// Once set, no call is admitted any more, and what runs then is left behind.
    drain_until: Option<Instant>,
    incarnation: Incarnation,
    /// Why the store has stopped, and with it this server.
    stopped: Option<String>,
    /// What is left of a message for the next turn. No other is taken before.
    unfinished: Option<Message>,
    /// Entries and events taken in this turn.
    taken: usize,
    /// When no more are taken, once one was.
    turn_ends: Option<Moment>,
}

/// A message taken apart.
struct Message {
    from: ConnectionId,
    principal: Principal,
    entries: vec::IntoIter<Result<Entry, BadEntry>>,
    /// It was told already that its peer's sessions are in use.
    pinged: bool,
}

/// Where the records of a server live.
pub(super) struct Records {
    pub incarnation: Incarnation,
    pub replica: Replica,
    pub store: Option<Link>,
    #[cfg(feature = "postgres")]
    pub transactions: Option<Transactions>,
}

/// One origin for the machine's moments.
struct Clock {
    origin: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        Now { moment: self.moment(), wall: self.wall() }
    }

    fn wall(&self) -> WallTime {
        nonce::wall_time(SystemTime::now())
    }

    fn moment(&self) -> Moment {
        self.origin.elapsed()
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.origin + moment
    }
}

/// Entries and events after which no further message is taken in a turn, and what there is to reply is sent: the client works on that meanwhile. A message of
/// more entries is replied to as one, as far as it gets in the time.
const TURN: usize = 64;
/// No further entry is taken in a turn after so long: handlers may take up to 50 µs each on this thread, and others have connections on it.
const TURN_TIME: Duration = Duration::from_micros(500);
/// How often housekeeping runs: late handlers, counters, and a look whether there is something to sweep.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How soon the next round of sweeping follows while there is more: a round is some tens of microseconds, so calls hardly notice, and a million keys that
/// expire at once are gone within half a minute.
const SWEEP_PACE: Duration = Duration::from_millis(1);

impl Engine {
    pub(super) fn new(
        port: Port,
        settings: Settings,
        mut routes: Routes,
        runtime: Handle,
        publish: watch::Sender<ServerCounters>,
        records: Records,
    ) -> Self {
        if !settings.inline {
            routes.spawn_all();
        }
        let (answers, answered) = mpsc::unbounded_channel();
        let Records { incarnation, replica, store, .. } = records;
        let newcomers = Newcomers::new(settings.dedup.sessions, settings.dedup.retention);
        Engine {
            replica,
            store,
            #[cfg(feature = "postgres")]
            transactions: records.transactions,
            outbox: Outbox::new(settings.wire),
            port,
            settings,
            routes,
            runtime,
            clock: Clock { origin: Instant::now() },
            queue: Queue::default(),
            handlers: Handlers::default(),
            spawning: Vec::new(),
            shares: Shares::default(),
            newcomers,
            keyed_alarm: Alarm::default(),
            answers,
            answered,
            counters: ServerCounters::default(),
            publish,
            sweep_again: None,
            drain_until: None,
            incarnation,
            stopped: None,
            unfinished: None,
            taken: 0,
            turn_ends: None,
        }
    }

    /// Serves until `shutdown`, or until the port closes; then drains.
    ///
    /// # Errors
    /// Why the store has stopped.
    pub(super) async fn run(mut self, mut shutdown: oneshot::Receiver<()>) -> Result<(), String> {
        let _spins = spin::request(self.settings.spin);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let again = [self.replica.next_tick(), self.sweep_again].into_iter().flatten().min();
            let again = again.map(|at| self.clock.instant(at));
            (self.taken, self.turn_ends) = (0, None);
            tokio::select! {
                () = ready(()), if self.unfinished.is_some() => {}
                event = self.port.next(), if self.unfinished.is_none() => match event {
                    Some(event) => self.take(event),
                    None => return Ok(()),
                },
                Some((execution, terminal)) = self.answered.recv() => self.finished(execution, terminal),
                event = told(&mut self.store) => self.told(event),
                () = at(again) => {}
                // Dropping the sender shuts down too: the future of `serve_until` was dropped.
                _ = &mut shutdown, if self.drain_until.is_none() => self.begin_drain(),
                _ = housekeeping.tick() => self.keep_house(),
            }
            let more = self.take_what_is_at_hand();
            if self.sweep_again.is_some_and(|at| at <= self.clock.moment()) {
                self.sweep();
            }
            self.replica.tick(self.clock.now());
            self.act();
            self.outbox.flush(&mut self.port);
            work::spawn(&mut self.spawning, &self.runtime);
            if let Some(why) = self.stopped.take() {
                self.end().await;
                return Err(why);
            }
            let drained = self.is_idle() && self.unfinished.is_none();
            if self.drain_until.is_some() && (drained || self.drain_is_over()) {
                self.end().await;
                return Ok(());
            }
            if more {
                // What was said is on its way while the rest is looked at.
                yield_now().await;
            }
        }
    }

    /// Nothing runs, and nothing waits for the store.
    fn is_idle(&self) -> bool {
        self.handlers.is_empty() && self.replica.pending() == 0
    }

    /// Up to one turn's worth. Returns whether there may be more.
    fn take_what_is_at_hand(&mut self) -> bool {
        self.go_on();
        while self.taken < TURN && self.in_turn().is_some() {
            // At the end of a drain what came is dealt with, and no more is let in.
            let ends = self.drain_until.is_some() && self.is_idle();
            let event = if ends { None } else { self.port.try_next() };
            let answer = self.answered.try_recv().ok();
            let told = self.store.as_mut().and_then(|store| store.events.try_recv().ok());
            if event.is_none() && answer.is_none() && told.is_none() {
                return false;
            }
            self.taken += 1;
            if let Some(event) = event {
                self.take(event);
            }
            if let Some((execution, terminal)) = answer {
                self.finished(execution, terminal);
            }
            if let Some(told) = told {
                self.told(told);
            }
        }
        true
    }

    /// Something happened at the store.
    fn told(&mut self, event: StoreEvent) {
        spin::note(Cause::Asked);
        match &event {
            StoreEvent::Opened(opened) => {
                let (sessions, records) = (opened.sessions.len(), opened.records.len());
                tracing::info!(generation = opened.generation, sessions, records, "the store is open");
            }
            StoreEvent::Down(why) => tracing::warn!(why, "the store cannot be reached"),
            StoreEvent::Up => tracing::info!("the store can be reached again"),
            StoreEvent::Stopped(why) => tracing::error!(why, "the store has stopped"),
            StoreEvent::Done(..) => {}
        }
        self.replica.store_event(event, self.clock.now());
    }

    /// Does what the machine says.
    fn act(&mut self) {
        while let Some(action) = self.replica.poll_action() {
            match action {
                Action::Welcome { to, hello, welcome } => self.welcome(to, &hello, *welcome),
                Action::Refuse { to, refused } => self.turn_away(to, refused),
                Action::Reply { to, reply } => {
                    self.count_reply(&reply);
                    self.say(to, Entry::Reply(reply));
                }
                Action::Run(execution) => {
                    if let Some(incoming) = self.handlers.take_waiting(execution) {
                        self.shares.give(execution);
                        self.run_or_drop(execution, incoming);
                        self.start_queued();
                    }
                }
                Action::Skip(execution) => {
                    self.handlers.take_waiting(execution);
                    self.shares.give(execution);
                    self.start_queued();
                }
                Action::Ask(ticket, op) => {
                    if let Some(store) = &self.store {
                        // A store that is gone says so by its events.
                        let _ = store.ops.send((ticket, op));
                        spin::note(Cause::Store);
                    }
                }
                Action::Stop(why) => self.stopped = Some(why),
            }
        }
    }

    fn take(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Opened(connection, peer) => {
                tracing::debug!(%connection, %peer, "connected");
                self.outbox.open(connection, Principal::proved(peer.name), peer.address);
            }
            RouterEvent::Message(connection, frames) => self.message(connection, frames),
            RouterEvent::Closed(connection, reason) => {
                tracing::debug!(%connection, %reason, "gone");
                self.outbox.close(connection);
            }
            RouterEvent::Writable(_) => {}
        }
    }

    fn message(&mut self, from: ConnectionId, mut frames: Vec<Bytes>) {
        let Some(principal) = self.outbox.principal(from).cloned() else { return };
        if frames.len() > 1 && frames[0].is_empty() {
            self.outbox.use_envelope(from);
            frames.remove(0);
        }
        match wire::decode(&frames, &self.settings.wire) {
            Ok(decoded) => {
                let entries = decoded.entries.into_iter();
                self.unfinished = Some(Message { from, principal, entries, pinged: false });
                self.go_on();
            }
            Err(error) => {
                self.counters.malformed += 1;
                self.port.complain("a message could not be decoded", from, &error);
                let answer = Some(Entry::Goodbye(error.goodbye()));
                self.outbox.reproach(from, USELESS_MESSAGE, answer, &mut self.port);
            }
        }
    }

    /// What time it is, if this turn goes on. It begins when this is asked for the first time.
    fn in_turn(&mut self) -> Option<Moment> {
        let now = self.clock.moment();
        (now < *self.turn_ends.get_or_insert(now + TURN_TIME)).then_some(now)
    }

    /// Goes on with the message that is under way, as far as the time allows.
    fn go_on(&mut self) {
        let Some(mut message) = self.unfinished.take() else { return };
        let wall = self.clock.wall();
        while let Some(moment) = self.in_turn() {
            let Some(entry) = message.entries.next() else { return };
            self.taken += 1;
            let now = Now { moment, wall };
            match entry {
                Ok(entry) => self.entry(&mut message, entry, now),
                Err(bad) if self.bad_entry(message.from, &bad) => {}
                Err(_) => return,
            }
        }
        self.unfinished = Some(message);
    }

    fn entry(&mut self, message: &mut Message, entry: Entry, now: Now) {
        let Message { from, ref principal, ref mut pinged, .. } = *message;
        match entry {
            Entry::Hello(hello) => self.hello(from, principal, &hello, now),
            Entry::Call(call) => self.call(from, principal, call, now),
            Entry::Cancel(cancel) => {
                if let Some(execution) = self.replica.cancel(&cancel, principal.id(), now) {
                    self.forget_queued(execution, now);
                }
            }
            Entry::Ack(ack) => self.replica.ack(&ack, principal.id(), now),
            Entry::Ping(number) => {
                if !std::mem::replace(pinged, true) {
                    for &registration in self.outbox.registrations(from) {
                        self.replica.touch(registration, principal.id(), now);
                    }
                }
                self.say(from, Entry::Pong(number));
            }
            Entry::Pong(_) | Entry::Goodbye(_) => {}
            Entry::Welcome(_) | Entry::Reply(_) | Entry::Event(_) | Entry::Numbers(_) => {
                // A server's entries: nothing that a client would send.
                self.counters.malformed += 1;
                self.outbox.reproach(from, 1, None, &mut self.port);
            }
        }
    }

    /// Returns whether the peer is still listened to.
    fn bad_entry(&mut self, from: ConnectionId, bad: &BadEntry) -> bool {
        self.counters.malformed += 1;
        self.port.complain("an entry could not be decoded", from, bad);
        let mut answer = bad.answer();
        if let (Subject::Call { incarnation, .. }, Some(Entry::Reply(reply))) = (&bad.subject, &mut answer)
            && let wire::Answer::Refused(refused) = &mut reply.answer
            && *incarnation != self.incarnation
        {
            // An earlier life, with other limits, may have run this very attempt.
            refused.refusal = Refusal::HelloFirst;
            refused.ambiguous = true;
        }
        // What is too large, or of a later version, may well be of use to somebody.
        let weight = u32::from(bad.refusal == Refusal::Malformed);
        self.outbox.reproach(from, weight, answer, &mut self.port)
    }

    fn hello(&mut self, from: ConnectionId, principal: &Principal, hello: &Hello, now: Now) {
        if self.drain_until.is_some() {
            return self.say(from, Entry::Goodbye(goodbye()));
        }
        let Some(source) = self.outbox.source(from) else { return };
        let comes_back = hello.resume.is_some_and(|session| self.replica.knows(session, principal.id()));
        if !self.newcomers.may_greet(source, comes_back, now.moment) {
            self.counters.refused += 1;
            let reason =
                "more hellos from this client, or its address, than are heard; it may try again later".into();
            let answer = Entry::Goodbye(Goodbye { reason, refusal: Some(Refusal::Overloaded) });
            self.outbox.reproach(from, 1, Some(answer), &mut self.port);
            return;
        }
        if !self.outbox.may_greet(from) {
            let reason = "too many hellos on one connection; resume the session instead".into();
            let answer = Entry::Goodbye(Goodbye { reason, refusal: Some(Refusal::Overloaded) });
            self.outbox.reproach(from, 1, Some(answer), &mut self.port);
            return;
        }
        let minted = Minted {
            registration: Registration(crate::random::u128().max(1)),
            stamp: Stamp(crate::random::u64().max(1)),
        };
        self.replica.hello(from, hello, principal.id(), minted, now);
    }

    fn welcome(&mut self, to: ConnectionId, hello: &Hello, welcome: Welcome) {
        self.outbox.welcomed(to, welcome.registration, hello.resume);
        // Only who says hello promised to be heard: a plain ZeroMQ peer may be silent for as long as it likes.
        self.port.set_idle_timeout(to, Some(3 * self.settings.heartbeat));
        let welcome = Welcome {
            heartbeat: self.settings.heartbeat,
            body_limit: self.settings.wire.body,
            contracts: self.routes.differing(&hello.contracts),
            ..welcome
        };
        tracing::debug!(%to, session = %hello.session, registration = %welcome.registration, "welcome");
        self.say(to, Entry::Welcome(welcome));
    }

    fn turn_away(&mut self, to: ConnectionId, refused: Refused) {
        self.counters.refused += 1;
        self.outbox.turned_away(to);
        let Refused { refusal, message, .. } = refused;
        self.say(to, Entry::Goodbye(Goodbye { reason: message, refusal: Some(refusal) }));
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
}

/// The store's next event; never, if there is no store.
async fn told(store: &mut Option<Link>) -> StoreEvent {
    match store {
        Some(store) => match store.events.recv().await {
            Some(event) => event,
            None => StoreEvent::Stopped("its thread has ended".into()),
        },
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

fn goodbye() -> Goodbye {
    Goodbye { reason: SHUTTING_DOWN.into(), refusal: None }
}

const SHUTTING_DOWN: &str = "the server is shutting down";

fn not_started(refusal: Refusal, why: &str) -> Terminal {
    Terminal::NotStarted(Shed { refusal, retry_after: None, message: why.into() })
}
