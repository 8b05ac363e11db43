//! One server process and its store: the deduplication machine, and the order in which things become durable around it. An intent before its handler, a
//! completion before its reply, a session before its welcome; and what is in doubt is settled before anything is said about it.
//!
//! It is not a store and not a handler: it asks the store for operations ([`Op`]), is told what became of them ([`StoreEvent`]), and tells the shell
//! which handler to run and what to send. Of a memory store it asks nothing. In a `durable` one it is the only writer, so its own table knows all and
//! the file is only written; in a `shared` or `atomic` one other replicas write too, so the store decides and the table is a cache.
//!
//! ```text
//! call ─ Dedup::admit ─ begin ─ Claim ─┬─ Claimed ─ Run ─ complete ─ Finish ─┬─ Stored ──── replies
//!                                      ├─ Found ended ─── replay             ├─ Found ────── replies what the record says
//!                                      ├─ Found running ─ Look … Look        └─ in doubt ─── again, or Settle
//!                                      ├─ Passed, Gone, Expired ─ refused
//!                                      ├─ NotDone ─────── refused: did not run
//!                                      └─ InDoubt ─────── Settle
//! ```
//!
//! Bounded by the machine inside: one operation for each call under way, one for each session whose numbers were closed, one for each hello.

mod answers;
#[cfg(feature = "sabotage")]
mod fingerprint;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::dedup::{
    Admission, Attempt, Change, Counters, Dedup, Execution, Identity, Limits, Now, Shed, Terminal,
};
use super::store::{Intent, Op, Opened, StoreEvent, Ticket};
use super::wire::{Ack, Answer, Cancel, Hello, Refused, Reply, Welcome};
use hashbrown::HashMap;

use super::{ConnectionId, Incarnation, Level, Moment, PrincipalId, Refusal, Registration, RetryClass};
use crate::sabotage::{planted, visit};
use answers::Purpose;
use sessions::Greeting;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer a hello.
    Welcome {
        /// Where it came from.
        to: ConnectionId,
        /// The hello.
        hello: Box<Hello>,
        /// The answer; lacks what is the shell's business.
        welcome: Box<Welcome>,
    },
    /// Turn a hello away.
    Refuse {
        /// Where it came from.
        to: ConnectionId,
        /// Why.
        refused: Refused,
    },
    /// Send a reply.
    Reply {
        /// Where to.
        to: ConnectionId,
        /// What.
        reply: Reply,
    },
    /// Run the handler of an execution that had to wait for the store, then [`complete`](Replica::complete) it.
    Run(Execution),
    /// The execution is over without its handler: its place is free.
    Skip(Execution),
    /// Ask the store.
    Ask(Ticket, Op),
    /// The store has stopped, and so must this process: nothing that it says any more is backed by a record.
    Stop(String),
}

/// What [`Replica::begin`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Run the handler now.
    Run,
    /// The store is asked; [`Action::Run`] or [`Action::Skip`] follows.
    Wait,
    /// It was cancelled, or is over.
    Over,
}

/// How soon to ask a store again: doubling from here.
const AGAIN: Duration = Duration::from_millis(10);
/// And this long at most: a poll that costs nothing, and a caller hardly notices.
const LATEST: Duration = Duration::from_millis(320);
/// How often the store that replicas share is asked to keep house.
const UPKEEP: Duration = Duration::from_secs(1);
/// Refusals that the store is asked about at once. More are not answered, and asked again by who waits.
const DOUBTED: usize = 256;
/// Sessions that may be remembered as forgotten: some 40 MiB. Beyond it none of another replica is taken in any more; their clients are registered anew.
const FORGOTTEN: usize = 1 << 20;
/// While the store is down, callers are asked to wait this long: a fail-over of a database takes seconds.
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// The machine. See the [module](self).
#[derive(Clone, Debug)]
pub struct Replica {
    incarnation: Incarnation,
    level: Level,
    limits: Limits,
    dedup: Dedup,
    state: State,
    tickets: u64,
    /// Operations under way.
    asked: BTreeMap<Ticket, Asked>,
    /// Operations to ask again, by time.
    later: BTreeMap<(Moment, u64), Again>,
    /// Executions that have claimed their records.
    claims: HashMap<Execution, Claim>,
    /// Sessions whose closed numbers the store is to be told.
    closed: BTreeSet<Registration>,
    /// Sessions whose closed numbers it is being told.
    closing: BTreeSet<Registration>,
    /// Sessions whose end is on the way to the store. Only if this is its single owner.
    ending: BTreeSet<Registration>,
    /// Sessions that this table has dropped while the store may still have them, with the highest number of which it had noted something. Those marks are gone,
    /// so a copy of an attempt that it refused could run: such a session is taken in again only when its client has closed these numbers.
    forgotten: BTreeMap<Registration, u64>,
    /// Refusals that the store is asked about.
    doubted: usize,
    /// When the store was last told that a session lives. Only if replicas share it.
    refreshed: BTreeMap<Registration, Moment>,
    /// When the store is to keep house next.
    upkeep: Moment,
    actions: VecDeque<Action>,
    deliveries: Vec<super::dedup::Delivery>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Opening,
    Open,
    Down,
    Stopped,
}

/// A claimed record.
#[derive(Clone, Debug)]
struct Claim {
    ticket: Ticket,
    intent: Intent,
}

/// What an operation was asked for.
#[derive(Clone, Debug)]
enum Asked {
    Register(Box<Greeting>),
    Resume(Box<Greeting>),
    Claim(Execution),
    Settle(Execution, Purpose),
    Look(Execution),
    Finish(Execution, Terminal),
    Close(Registration),
    Expire,
    Upkeep,
    End(Registration),
    /// Whether the call that this table takes for stale is so to the store.
    Stale(Box<Doubted>),
    /// Whether the session that this table does not know is unknown to the store.
    Unknown(Box<Doubted>),
}

/// A refusal of this table's that the store has to confirm.
#[derive(Clone, Debug)]
struct Doubted {
    to: ConnectionId,
    reply: Reply,
    intent: Intent,
}

/// An operation to be asked again.
#[derive(Clone, Debug)]
struct Again {
    op: Op,
    asked: Asked,
}

impl Replica {
    /// A server whose store is not open yet: hellos are turned away until [`opened`](Replica::opened).
    pub fn new(incarnation: Incarnation, level: Level, limits: Limits) -> Self {
        let identity = Identity { incarnation, level, ..Identity::default() };
        Replica {
            incarnation,
            level,
            dedup: Dedup::new(identity, limits.clone()),
            limits,
            state: State::Opening,
            tickets: 0,
            asked: BTreeMap::new(),
            later: BTreeMap::new(),
            claims: HashMap::new(),
            closed: BTreeSet::new(),
            closing: BTreeSet::new(),
            ending: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            doubted: 0,
            refreshed: BTreeMap::new(),
            upkeep: Moment::ZERO,
            actions: VecDeque::new(),
            deliveries: Vec::new(),
        }
    }

    /// The store is open: what it holds is served from now on. Of a memory store the shell makes it up.
    pub fn opened(&mut self, opened: Opened, now: Now) {
        if self.state != State::Opening {
            return;
        }
        let Opened { store, generation, ordinal, born, floor, sessions, records } = opened;
        let (incarnation, level) = (self.incarnation, self.level);
        let identity = Identity { incarnation, store, generation, level, ordinal, born };
        self.dedup = Dedup::new(identity, self.limits.clone());
        self.dedup.raise_floor(floor);
        for session in &sessions {
            self.dedup.adopt(session, now);
        }
        for (intent, answer) in records {
            self.dedup.restore(&intent, answer);
        }
        self.state = State::Open;
    }

    /// What was done so far and what is held now.
    pub fn counters(&self) -> Counters {
        self.dedup.counters()
    }

    /// Operations of the store that are under way or to be asked again.
    pub fn pending(&self) -> usize {
        self.asked.len() + self.later.len()
    }

    /// What to do next, until there is nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Decides about one attempt. `Some`: it is to be run, at once or when a handler is free; then [`begin`](Replica::begin) it.
    pub fn call(&mut self, attempt: &Attempt<'_>, shed: Option<Shed>, now: Now) -> Option<Execution> {
        let shed = shed.or_else(|| self.without_store(attempt));
        let admission = self.dedup.admit(attempt, shed, now);
        self.heard(attempt.call.registration, now.moment);
        match admission {
            Admission::Execute(execution) => Some(execution),
            Admission::Joined => None,
            Admission::Reply(reply) => {
                self.turn_down(attempt, reply);
                None
            }
        }
    }

    /// Sends what the table says, unless the store does not say it yet: after a crash the opposite might become true.
    fn turn_down(&mut self, attempt: &Attempt<'_>, reply: Reply) {
        let to = attempt.from;
        match refusal(&reply) {
            // This table's watermark may be ahead of the store's. An honest client has closed the call and does not wait; one whose session was copied
            // does, and has to learn it.
            Some(Refusal::Stale) if self.is_cache() => self.ask_whether_stale(attempt, reply),
            // Its end is on the way to the file. The client asks again.
            Some(Refusal::SessionUnknown) if self.ending.contains(&reply.registration) => {}
            // This table may have dropped it, or not have it yet.
            Some(Refusal::SessionUnknown) if self.is_cache() => self.ask_whether_unknown(attempt, reply),
            _ => self.actions.push_back(Action::Reply { to, reply }),
        }
    }

    /// Whatever needs a record has to wait for the store to come back.
    fn without_store(&self, attempt: &Attempt<'_>) -> Option<Shed> {
        if self.state == State::Open || attempt.holds() != RetryClass::Once {
            return None;
        }
        let message = "the store of the server cannot be reached".into();
        Some(Shed { refusal: Refusal::Unavailable, retry_after: Some(STORE_PAUSE), message })
    }

    /// A handler is free for this execution.
    pub fn begin(&mut self, execution: Execution) -> Begun {
        if !self.dedup.started(execution) {
            return Begun::Over;
        }
        if self.level == Level::Memory {
            return Begun::Run;
        }
        let Some(intent) = self.dedup.intent(execution) else { return Begun::Run };
        let ticket = self.ask(Op::Claim(intent), Asked::Claim(execution));
        self.claims.insert(execution, Claim { ticket, intent });
        Begun::Wait
    }

    /// The claim of an execution that runs: the name of its transaction in an atomic store.
    pub fn claim(&self, execution: Execution) -> Option<Ticket> {
        Some(self.claims.get(&execution)?.ticket)
    }

    /// The execution has ended, or will not begin. Its replies follow when its end is durable.
    pub fn complete(&mut self, execution: Execution, terminal: Terminal, now: Now) {
        let Some(Claim { ticket, intent }) = self.claims.get(&execution).cloned() else {
            return self.end(execution, terminal, now);
        };
        let keep = self.dedup.to_keep(execution, &terminal);
        if planted!(ReplyBeforeCommit) {
            self.end(execution, terminal.clone(), now);
        }
        self.ask(Op::Finish { claim: ticket, intent, keep }, Asked::Finish(execution, terminal));
    }

    /// Takes an acknowledgement.
    pub fn ack(&mut self, ack: &Ack, principal: PrincipalId, now: Now) {
        self.dedup.ack(ack, principal, now);
        self.heard(ack.registration, now.moment);
    }

    /// Whether this is a session of the principal's, here.
    pub fn knows(&self, registration: Registration, principal: PrincipalId) -> bool {
        self.dedup.knows(registration, principal)
    }

    /// A client pinged.
    pub fn touch(&mut self, registration: Registration, principal: PrincipalId, now: Now) {
        self.dedup.touch(registration, principal, now);
        self.heard(registration, now.moment);
    }

    /// As [`Dedup::cancel`]: an execution that is still queued, to be taken out and completed as cancelled.
    pub fn cancel(&mut self, cancel: &Cancel, principal: PrincipalId, now: Now) -> Option<Execution> {
        self.dedup.cancel(cancel, principal, now)
    }

    /// Something happened at the store.
    pub fn store_event(&mut self, event: StoreEvent, now: Now) {
        match event {
            StoreEvent::Opened(opened) => self.opened(*opened, now),
            StoreEvent::Done(ticket, done) => {
                if let Some(asked) = self.asked.remove(&ticket) {
                    self.done(asked, done, now);
                }
            }
            StoreEvent::Down(_) if self.state == State::Open => {
                visit!("replica: state", "Open -> Down");
                self.state = State::Down;
            }
            StoreEvent::Up if self.state == State::Down => {
                visit!("replica: state", "Down -> Open");
                self.state = State::Open;
            }
            StoreEvent::Down(_) | StoreEvent::Up => {}
            StoreEvent::Stopped(why) => self.stop(why, now),
        }
    }

    /// Nothing is backed by a record any more. What has not run certainly never will; of what has, nothing is said.
    fn stop(&mut self, why: String, now: Now) {
        visit!("replica: state", "{:?} -> Stopped", self.state);
        self.state = State::Stopped;
        let waiting = std::mem::take(&mut self.asked).into_values();
        let again = std::mem::take(&mut self.later).into_values().map(|again| again.asked);
        for asked in waiting.chain(again).collect::<Vec<_>>() {
            match asked {
                Asked::Register(greeting) | Asked::Resume(greeting) => self.turn_away(greeting.from, &why),
                Asked::Claim(execution) => self.refuse(execution, &why, now),
                Asked::Look(execution) | Asked::Settle(execution, _) | Asked::Finish(execution, _) => {
                    self.skip(execution, Terminal::Silent, now);
                }
                Asked::Close(_)
                | Asked::Expire
                | Asked::Upkeep
                | Asked::End(_)
                | Asked::Stale(_)
                | Asked::Unknown(_) => {}
            }
        }
        self.actions.push_back(Action::Stop(why));
    }

    /// Asks the store what is due: what was to be asked again, and closed numbers. Call it after each batch of events, and at
    /// [`next_tick`](Replica::next_tick).
    pub fn tick(&mut self, now: Now) {
        while let Some(due) = self.later.first_entry().filter(|entry| entry.key().0 <= now.moment) {
            let Again { op, asked } = due.remove();
            self.ask(op, asked);
        }
        self.take_changes();
        self.close_numbers();
    }

    /// When [`tick`](Replica::tick) has something to do, if nothing happens before.
    pub fn next_tick(&self) -> Option<Moment> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Ends what has outlived its time. A bounded amount of work; tells when to come again.
    pub fn sweep(&mut self, now: Now) -> Option<Moment> {
        // One batch of expired keys at a time, so that no call waits long behind it in the store.
        if self.asked.values().any(|asked| matches!(asked, Asked::Expire)) {
            return Some(now.moment + AGAIN);
        }
        let again = self.dedup.sweep(now);
        self.take_changes();
        if self.is_cache() && self.state == State::Open && now.moment >= self.upkeep {
            self.upkeep = now.moment + UPKEEP;
            if !self.asked.values().any(|asked| matches!(asked, Asked::Upkeep)) {
                self.ask(Op::Sweep, Asked::Upkeep);
            }
        }
        again
    }

    /// What changed in the table, as operations of the store.
    fn take_changes(&mut self) {
        let changes: Vec<_> = self.dedup.changes().collect();
        let mut expired = Vec::new();
        for change in changes {
            match change {
                Change::Closed(registration) => {
                    self.closed.insert(registration);
                }
                Change::Ended(registration, highest) => {
                    self.forget(registration);
                    // A store that replicas share sees for itself which sessions are idle: another one may serve this.
                    if self.level == Level::Durable {
                        self.end_in_store(registration);
                    } else if highest > 0 && self.forgotten.len() < FORGOTTEN {
                        self.forgotten.insert(registration, highest);
                    }
                }
                Change::Expired(principal, key, expiry) => expired.push((principal, key, expiry)),
            }
        }
        if !expired.is_empty() && self.level == Level::Durable {
            self.ask(Op::Expire(expired), Asked::Expire);
        }
    }

    /// Whether a session may be taken in from the store, where its client has closed all numbers below this one.
    fn may_adopt(&self, registration: Registration, principal: PrincipalId, below: u64) -> bool {
        self.dedup.knows(registration, principal)
            || self.forgotten.len() < FORGOTTEN
                && self.forgotten.get(&registration).is_none_or(|&highest| highest < below)
    }

    fn is_cache(&self) -> bool {
        self.level.is_shared()
    }

    fn ask(&mut self, op: Op, asked: Asked) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if self.state != State::Stopped {
            self.asked.insert(ticket, asked);
            self.actions.push_back(Action::Ask(ticket, op));
        }
        ticket
    }

    /// Asks the same after a pause, longer each time.
    fn ask_later(&mut self, op: Op, asked: Asked, pause: Duration, now: Now) {
        self.tickets += 1;
        self.later.insert((now.moment.saturating_add(pause), self.tickets), Again { op, asked });
    }

    /// Ends an execution in the table and sends what it says to those who wait.
    fn end(&mut self, execution: Execution, terminal: Terminal, now: Now) {
        if let Some(Claim { intent, .. }) = self.claims.remove(&execution)
            && self.is_cache()
            && self.dedup.has_closed(&intent)
        {
            // The store kept its record when it was told so, since it ran. Now that can go.
            self.closed.insert(intent.registration);
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.dedup.complete(execution, terminal, now, &mut deliveries);
        self.actions.extend(
            deliveries.drain(..).map(|delivery| Action::Reply { to: delivery.to, reply: delivery.reply }),
        );
        self.deliveries = deliveries;
    }

    /// Ends an execution whose handler has not begun.
    fn skip(&mut self, execution: Execution, terminal: Terminal, now: Now) {
        self.end(execution, terminal, now);
        self.actions.push_back(Action::Skip(execution));
    }

    /// Ends an execution of which it is certain that it did not run.
    fn refuse(&mut self, execution: Execution, why: &str, now: Now) {
        let message = format!("the store did not take the call in: {why}");
        let shed = Shed { refusal: Refusal::Unavailable, retry_after: Some(STORE_PAUSE), message };
        self.skip(execution, Terminal::NotStarted(shed), now);
    }
}

/// The refusal that a reply tells, if it tells one.
fn refusal(reply: &Reply) -> Option<Refusal> {
    match &reply.answer {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    }
}
