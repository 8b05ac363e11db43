//! The client's half of the deduplication protocol: what is sent when, what is sent again, and what a caller
//! may be told about a call. The heart of it is a set of unsettled attempts for each call ("not executed" is
//! told only when it is empty), after RIFL (Lee et al., SOSP 2015).
//!
//! It is not a connection and not a task: it dials nothing, sleeps nowhere and wakes nobody. The shell hands
//! in calls, entries that arrived, what became of the connection, and the time; it gets back [`Action`]s.
//! `docs/wire.md` has the rules in prose.
//!
//! ```text
//! start ─ queued ─ in flight ─┬─ answered ──────────────────────── Done
//!   (welcome, window)   ↑     ├─ refused ── backing off ─┐ (budget, attempts, deadline)
//!                       │     ├─ late ───────────────────┤
//!                       └─────┴─ new welcome ────────────┘
//! ```
//!
//! Everything is bounded: calls by [`Config::calls`], and all else by the calls. Nothing that a server sends
//! adds a call, an attempt that is not paced, or an entry to a table.

mod attempts;
mod connection;
#[cfg(feature = "sabotage")]
mod fingerprint;
mod numbers;
mod open;
mod replies;
mod terms;
#[cfg(test)]
mod tests;
mod welcome;

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::retry::{Allowance, Backoff, Budget, Random};
use super::wire::{Cancel, Entry};
use super::{CallId, Moment, Refusal, Registration, Session};
use connection::{Connection, Link};
use numbers::Numbers;
use open::{Calls, State};
use welcome::{Contract, Standing};

pub use terms::{Action, Conclusion, Counters, Ended, Failure, Handle, Intent, Notice, Outcome, Why};

/// The limits and the pace of a client.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How often a call is sent: the first time, and again when it was refused or not answered in time.
    /// Default 5: with the default back-off the fifth goes out within the default deadline. Being sent again
    /// to a new connection does not count, since connecting has a back-off of its own.
    pub attempts: u32,
    /// How long to wait for an answer to an attempt, doubling with each. Default 1 s: on a connection that
    /// stands nothing is lost unless something between drops messages, so this need not be short; and an
    /// early retry is no loss, it joins the one that runs. At least 1 ms.
    pub attempt_timeout: Duration,
    /// The pause before an attempt that follows a refusal. Default [`Backoff::CALLS`].
    pub backoff: Backoff,
    /// What all calls together may spend on retries.
    pub budget: Allowance,
    /// Calls that may be under way at once; more wait for their turn, until their deadline. Default 1,024: at
    /// 1 ms a call that is a million a second. The server's window holds if it is smaller.
    pub window: usize,
    /// Calls that may be open at once, under way or waiting; one more is refused as [`Refusal::Overloaded`].
    /// Default 16,384: at 1 KiB a call 16 MiB, more than five seconds can serve at most places.
    pub calls: usize,
    /// The longest parameters and replies, in bytes. Default 16 MiB, as a server has it; the lower of both holds for parameters.
    pub body_limit: u32,
    /// How long to wait for a welcome before the connection is given up. The hello is sent again, as it is,
    /// three times in this time. Default 3 s: shorter than the default deadline, so that a call may still be
    /// served elsewhere.
    pub welcome_timeout: Duration,
    /// How long closed calls may go unacknowledged when no call carries the acknowledgement. Default 20 ms:
    /// one entry instead of many, and the server keeps the records hardly longer.
    pub ack_delay: Duration,
    /// How much earlier than the server would forget it a session is taken for forgotten. Default 1 s: more
    /// than an attempt travels and two clocks drift apart meanwhile.
    pub margin: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            attempts: 5,
            attempt_timeout: Duration::from_secs(1),
            backoff: Backoff::CALLS,
            budget: Allowance::default(),
            window: 1024,
            calls: 16 * 1024,
            body_limit: 16 * 1024 * 1024,
            welcome_timeout: Duration::from_secs(3),
            ack_delay: Duration::from_millis(20),
            margin: Duration::from_secs(1),
        }
    }
}

/// The machine. See the [module](self).
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    session: Session,
    random: Random,
    budget: Budget,
    calls: Calls,
    /// Calls in [`State::Queued`], in the order in which they are to be sent, and some that ended while they waited.
    queue: VecDeque<Handle>,
    /// The slots of open keyed calls.
    keyed: HashMap<u128, u32>,
    /// The latest attempt number of any keyed call. They share one count because a server may remember
    /// refused attempts of a key longer than this client remembers the call: a new life of the call has to
    /// begin above them.
    keyed_attempts: u32,
    numbers: Numbers,
    /// Calls that hold a place in the window.
    under_way: usize,
    connection: Connection,
    /// What the latest welcome said.
    standing: Option<Standing>,
    /// By interface. Few: a client calls what its channel was made for.
    contracts: Vec<Contract>,
    /// One of them was not named in the latest hello.
    unnamed: bool,
    /// Closings that the server has not been told, and since when.
    owed: u32,
    owed_since: Moment,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Client {
    /// A client without a connection. The session has to be random; the seed serves jitter and the numbers of
    /// hellos and pings.
    pub fn new(config: Config, session: Session, seed: u64) -> Self {
        Client {
            budget: Budget::new(config.budget),
            config,
            session,
            random: Random::new(seed),
            calls: Calls::default(),
            queue: VecDeque::new(),
            keyed: HashMap::new(),
            keyed_attempts: 0,
            numbers: Numbers::new(),
            under_way: 0,
            connection: Connection::default(),
            standing: None,
            contracts: Vec::new(),
            unnamed: false,
            owed: 0,
            owed_since: Moment::ZERO,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Names an interface that will be called, so that a call which the server would misread is never sent.
    /// One that is named while the connection stands is compared by a hello of its own; calls wait for the
    /// answer. The name is for people. The shape has to be sorted.
    pub fn contract(
        &mut self,
        interface: u64,
        name: &'static str,
        fingerprint: u64,
        shape: &'static [(u64, u64)],
        now: Moment,
    ) {
        let Err(place) = self.contracts.binary_search_by_key(&interface, |known| known.interface) else {
            return;
        };
        self.contracts.insert(place, Contract::new(interface, name, fingerprint, shape));
        self.unnamed = true;
        self.name_contracts(now);
    }

    /// Starts a call. However it goes, there will be one [`Action::Done`] for it, at its deadline at the
    /// latest, unless it is cancelled.
    pub fn start(&mut self, intent: Intent, now: Moment) -> Handle {
        self.counters.calls += 1;
        self.budget.deposit(now);
        let full = self.calls.len() >= self.config.calls;
        let (key, deadline) = (intent.key.map(|key| key.key), intent.deadline);
        let taken = key.is_some_and(|key| self.keyed.contains_key(&key));
        let handle = self.calls.insert(intent);
        if full {
            self.refuse(handle, Refusal::Overloaded, "too many calls are open in this client", now);
        } else if taken {
            // Two of one key could not tell their replies apart.
            self.refuse(handle, Refusal::InProgress, "this client has an open call of the same key", now);
        } else if deadline <= now {
            self.give_up(handle, now);
        } else {
            if let Some(key) = key {
                self.keyed.insert(key, handle.slot);
            }
            self.enqueue(handle);
            self.pump(now);
        }
        handle
    }

    /// The caller waits no longer: the call is forgotten, and there is no [`Action::Done`] for it. The server
    /// is told, unless the call is keyed: somebody may ask under the key again, and must not find it
    /// cancelled.
    pub fn cancel(&mut self, handle: Handle, now: Moment) {
        let Some(call) = self.close(handle, now) else { return };
        if let (Some(number), Some(standing), false) =
            (call.number, &self.standing, call.unsettled.is_empty())
        {
            let cancel = Cancel { registration: standing.registration, id: CallId::Sequenced(number) };
            if matches!(self.connection.link, Link::Ready | Link::Leaving) {
                self.send_entry(Entry::Cancel(cancel), now);
            }
        }
        self.settle_down(now);
    }

    /// There is a new connection.
    pub fn connected(&mut self, now: Moment) {
        self.drop_connection();
        self.connection = Connection::new(now);
        self.hello(now);
    }

    /// The connection is gone. Calls wait for the next one.
    pub fn disconnected(&mut self) {
        self.drop_connection();
    }

    /// An entry has arrived on the present connection.
    pub fn received(&mut self, entry: Entry, now: Moment) {
        if self.connection.link == Link::Down {
            self.counters.stray += 1;
            return;
        }
        self.connection.heard = now;
        match entry {
            Entry::Reply(reply) => self.reply(reply, now),
            Entry::Welcome(welcome) => self.welcome(&welcome, now),
            Entry::Ping(number) => self.connection.pong = Some(number),
            Entry::Pong(number) => self.pong(number),
            Entry::Goodbye(goodbye) => self.goodbye(goodbye, now),
            Entry::Hello(_)
            | Entry::Call(_)
            | Entry::Cancel(_)
            | Entry::Ack(_)
            | Entry::Event(_)
            | Entry::Numbers(_) => {
                self.counters.stray += 1;
            }
        }
        self.settle_down(now);
    }

    /// Does what is due. To be called at [`next_tick`](Client::next_tick), and any time else.
    pub fn tick(&mut self, now: Moment) {
        while let Some(handle) = self.calls.pop_due(now) {
            self.due(handle, now);
        }
        self.watch_connection(now);
        self.settle_down(now);
    }

    /// When [`tick`](Client::tick) is to be called next, at the latest.
    pub fn next_tick(&mut self) -> Option<Moment> {
        [self.calls.next_wake(), self.connection_due(), self.ack_due()].into_iter().flatten().min()
    }

    /// The next thing to do. To be asked until there is none, after each of the verbs above.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.connection
            .pong
            .take()
            .map(|number| Action::Send(Entry::Pong(number)))
            .or_else(|| self.actions.pop_front())
    }

    /// The client ends, before its connection: what is closed is told now, since nothing will tell it later.
    pub fn leave(&mut self, now: Moment) {
        if self.ack_due().is_some() {
            self.acknowledge(now);
        }
    }

    /// Gives back the memory that calls have left behind, for a moment in which none is open. One that comes right afterwards wants it again.
    pub fn rest(&mut self) {
        self.calls.rest();
        self.queue.shrink_to_fit();
        self.keyed.shrink_to_fit();
        self.actions.shrink_to_fit();
    }

    /// The nonce of an open call: of a keyed one always, of another once it was sent.
    pub fn nonce_of(&self, handle: Handle) -> Option<CallId> {
        self.calls.get(handle)?.id()
    }

    /// The session that sequenced nonces belong to at present.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The registration under which calls are sent at present, if there was a welcome.
    pub fn registration(&self) -> Option<Registration> {
        self.standing.as_ref().map(|standing| standing.registration)
    }

    /// Calls that are open.
    pub fn open(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is a connection on which calls are sent at once.
    pub fn is_ready(&self) -> bool {
        self.connection.link == Link::Ready
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What may have become possible by what just happened.
    fn settle_down(&mut self, now: Moment) {
        self.pump(now);
        if self.ack_due().is_some_and(|due| due <= now) {
            self.acknowledge(now);
            self.pump(now);
        }
        self.leave_if_nothing_is_awaited();
    }

    fn enqueue(&mut self, handle: Handle) {
        let Some(call) = self.calls.get(handle) else { return };
        let deadline = call.intent.deadline;
        self.calls.set(handle, State::Queued, deadline);
        self.queue.push_back(handle);
        // Calls that ended while they waited are skipped when their turn comes, and swept out when they
        // outnumber the others.
        if self.queue.len() > 2 * self.calls.len() + 64 {
            let calls = &self.calls;
            self.queue.retain(|handle| calls.get(*handle).is_some_and(|call| call.state == State::Queued));
        }
    }

    /// Calls that may be under way at once.
    fn window(&self) -> usize {
        let theirs = self.standing.as_ref().map_or(usize::MAX, |standing| standing.window);
        self.config.window.min(theirs).max(1)
    }
}
