//! A server process of the search: the real machine, the handlers that run, and what is on its way between it and its store.

use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::dedup::{Attempt, Execution, Limits, Minted, Now, Shed, Terminal};
use selfsame::protocol::replica::{Action, Begun, Replica};
use selfsame::protocol::store::{Done, Op, Opened, StoreEvent, Ticket};
use selfsame::protocol::wire::{Entry, Welcome};
use selfsame::protocol::{
    ConnectionId, Incarnation, PrincipalId, Refusal, Registration, RetryClass, Stamp, WallTime,
};

use crate::client::{self, Purpose};
use crate::intern;
use crate::message::{Message, Way};
use crate::scenario::Scenario;
use crate::world::under;

/// How a call is taken that has to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// A handler is free.
    Free,
    /// It waits for a handler.
    Queued,
    /// There is no room for it.
    Shed,
}

/// What may happen to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A message arrives. The number is used if something has to be minted.
    Take(u32, Taken, u8),
    /// A handler is free for the call in this place of the queue.
    Begin(u8),
    /// The time of the call in this place of the queue is up.
    Late(u8),
    /// The handler in this place has its effect, the n-th of its intention.
    Work(u8, u8),
    /// The handler in this place answers.
    Answer(u8),
    /// The handler in this place says that it did nothing.
    Decline(u8),
    /// The store tells what became of an operation.
    Tell(u8),
    /// What was to be asked again is due.
    Tick,
    /// The wall clock steps: to when the key was issued, or to well after its expiry.
    Clock(bool),
    /// This session was idle for longer than its retention; the others were not.
    Evict(u8),
}

/// What comes of an input, beside the state after it.
#[derive(Clone, Debug)]
pub enum Output {
    /// It sends this.
    Send(Box<Message>),
    /// A call is taken in to be run, under the registration of this number (0: under a key).
    Starts(Purpose, u8),
}

/// How far a call is that is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No handler is free.
    Queued,
    /// The store is asked.
    Waits,
    /// The handler has begun.
    Runs,
    /// It has had its effect.
    Worked(u8),
}

/// A call that is to be run.
#[derive(Clone, Debug)]
pub struct Run {
    execution: Execution,
    /// What it is for.
    pub purpose: Purpose,
    /// How far it is.
    pub phase: Phase,
}

/// The state of a server process.
#[derive(Clone, Debug)]
pub struct Node {
    machine: Replica,
    index: u8,
    /// This life of it.
    pub life: u8,
    now: Now,
    /// Sessions that it may know.
    pub sessions: Vec<Registration>,
    /// Calls that are to be run.
    pub runs: Vec<Run>,
    /// Asked of the store, in order.
    pub asked: Vec<(Ticket, Op)>,
    /// Done by the store, and not told yet.
    pub done: Vec<(Ticket, Done)>,
    /// The same operation is under way twice: beyond the bounds of a search, since there is no end to it.
    pub asks_twice: bool,
}

/// Longer than anything else takes.
const RETENTION: Duration = Duration::from_secs(1_000_000);
const EVERYONE: PrincipalId = PrincipalId::ANYONE;

/// The wall clock of every server: when the key was issued, or well after it has expired.
pub fn wall(late: bool) -> WallTime {
    let key = client::key();
    if late { WallTime(key.expiry.0 + 10_000) } else { key.issued }
}

/// The incarnation of a life of a server.
pub fn incarnation(index: u8, life: u8) -> Incarnation {
    Incarnation(u64::from(index) * 10 + u64::from(life))
}

impl Node {
    /// A server process that has just opened its store.
    pub fn new(index: u8, life: u8, opened: Opened, scenario: &Scenario) -> Self {
        let limits = Limits { retention: RETENTION, unused_retention: RETENTION, ..Limits::default() };
        let now = Now { moment: Duration::from_secs(1), wall: wall(false) };
        let mut machine = Replica::new(incarnation(index, life), scenario.level, limits);
        let sessions = opened.sessions.iter().map(|session| session.registration).collect();
        machine.opened(opened, now);
        Node {
            machine,
            index,
            life,
            now,
            sessions,
            runs: Vec::new(),
            asked: Vec::new(),
            done: Vec::new(),
            asks_twice: false,
        }
    }

    /// Its fingerprint.
    pub fn fingerprint(&self, scenario: &Scenario) -> u128 {
        intern::fingerprint(|hasher| {
            let Node { machine, index, life, now, sessions, runs, asked, done, asks_twice: _ } = self;
            machine.fingerprint(*now, hasher);
            (index, life, sessions, now.wall).hash(hasher);
            for Run { execution, purpose, phase } in runs {
                (machine.place(*execution), purpose, phase).hash(hasher);
            }
            let order = machine.order();
            let ticket = |ticket: &Ticket| order.get(ticket).copied();
            let asked = asked.iter().map(|(of, op)| match op {
                Op::Finish { claim, intent, keep } => {
                    format!("{:?} {:?} {intent:?} {keep:?}", ticket(of), ticket(claim))
                }
                op => format!("{:?} {op:?}", ticket(of)),
            });
            let done = done.iter().map(|(of, done)| format!("{:?} {done:?}", ticket(of)));
            let (mut asked, mut done): (Vec<_>, Vec<_>) = (asked.collect(), done.collect());
            if scenario.is_shared() {
                // Done and told in any order.
                asked.sort_unstable();
                done.sort_unstable();
            }
            (asked, done).hash(hasher);
        })
    }

    /// Whether this number of a session is closed here.
    pub fn has_closed(&self, registration: Registration, number: u64) -> bool {
        self.machine.has_closed(registration, number)
    }

    /// Whether something is to be asked again.
    pub fn has_timer(&self) -> bool {
        self.machine.next_tick().is_some()
    }

    /// Whether what the input is about is there: a trace may be played where it is not.
    pub fn can(&self, input: Input) -> bool {
        match input {
            Input::Begin(at) | Input::Late(at) => self.is_at(at, |phase| phase == Phase::Queued),
            Input::Work(at, _) | Input::Decline(at) => self.is_at(at, |phase| phase == Phase::Runs),
            Input::Answer(at) => self.is_at(at, |phase| matches!(phase, Phase::Worked(_))),
            Input::Tell(at) => usize::from(at) < self.done.len(),
            Input::Evict(at) => usize::from(at) < self.sessions.len(),
            Input::Take(..) | Input::Tick | Input::Clock(_) => true,
        }
    }

    fn is_at(&self, at: u8, phase: impl Fn(Phase) -> bool) -> bool {
        self.runs.get(at as usize).is_some_and(|run| phase(run.phase))
    }

    /// What comes of an input.
    pub fn step(&self, input: Input, message: Option<&Message>, scenario: &Scenario) -> (Node, Vec<Output>) {
        let mut node = self.clone();
        let mut outputs = Vec::new();
        match (input, message) {
            (Input::Take(_, taken, minted), Some(message)) => {
                node.take(message, taken, minted, scenario, &mut outputs);
            }
            (Input::Take(..), None) => {}
            (Input::Begin(at), _) => node.begin(at as usize),
            (Input::Late(at), _) => {
                let execution = node.runs.remove(at as usize).execution;
                let late = Terminal::NotStarted(Shed::new(Refusal::Deadline));
                node.machine.complete(execution, late, node.now);
            }
            (Input::Work(at, effect), _) => {
                node.runs[at as usize].phase = Phase::Worked(effect);
                if scenario.answers_at_once() {
                    node.answer(at as usize);
                }
            }
            (Input::Answer(at), _) => node.answer(at as usize),
            (Input::Decline(at), _) => {
                let nothing = Terminal::Unavailable { message: String::new(), retry_after: None };
                node.complete(at as usize, nothing);
            }
            (Input::Tell(at), _) => {
                let (ticket, done) = node.done.remove(at as usize);
                node.machine.store_event(StoreEvent::Done(ticket, done), node.now);
            }
            (Input::Tick, _) => {
                if let Some(at) = node.machine.next_tick() {
                    node.now.moment = node.now.moment.max(at);
                }
            }
            (Input::Clock(late), _) => {
                node.now.wall = wall(late);
                node.machine.sweep(node.now);
            }
            (Input::Evict(at), _) => node.evict(at as usize),
        }
        node.machine.tick(node.now);
        node.act(&mut outputs);
        let repeated = |at: usize| node.asked[..at].iter().any(|(_, op)| *op == node.asked[at].1);
        node.asks_twice = scenario.is_shared() && (0..node.asked.len()).any(repeated);
        (node, outputs)
    }

    fn take(
        &mut self,
        message: &Message,
        taken: Taken,
        minted: u8,
        scenario: &Scenario,
        outputs: &mut Vec<Output>,
    ) {
        let Way::Up { client, .. } = message.way else { return };
        let from = ConnectionId(u64::from(client) + 1);
        match &message.entry {
            Entry::Hello(hello) => {
                let registration = Registration(u128::from(minted));
                let minted = Minted { registration, stamp: Stamp(u64::from(minted)) };
                self.machine.hello(from, hello, EVERYONE, minted, self.now);
            }
            Entry::Call(call) => {
                let purpose = call.body[0];
                // The worst case: only the nonce tells what is meant.
                let digest = if scenario.copied || scenario.alike { 7 } else { u128::from(purpose) };
                let attempt = Attempt { call, digest, principal: EVERYONE, from, class: RetryClass::Once };
                let shed = (taken == Taken::Shed).then(|| Shed::new(Refusal::Overloaded));
                if let Some(execution) = self.machine.call(&attempt, shed, self.now) {
                    if !scenario.is_shared() {
                        outputs.push(Output::Starts(purpose, under(call.registration, call.id)));
                    }
                    self.runs.push(Run { execution, purpose, phase: Phase::Queued });
                    if taken == Taken::Free {
                        self.begin(self.runs.len() - 1);
                    }
                }
            }
            Entry::Ack(ack) => self.machine.ack(ack, EVERYONE, self.now),
            Entry::Cancel(cancel) => {
                if let Some(execution) = self.machine.cancel(cancel, EVERYONE, self.now)
                    && let Some(at) = self.runs.iter().position(|run| run.execution == execution)
                    && self.runs[at].phase == Phase::Queued
                {
                    self.runs.remove(at);
                    self.machine.complete(execution, Terminal::Cancelled, self.now);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, at: usize) {
        match self.machine.begin(self.runs[at].execution) {
            Begun::Run => self.runs[at].phase = Phase::Runs,
            Begun::Wait => self.runs[at].phase = Phase::Waits,
            Begun::Over => {
                self.runs.remove(at);
            }
        }
    }

    fn answer(&mut self, at: usize) {
        let Run { purpose, phase: Phase::Worked(effect), .. } = self.runs[at] else { return };
        self.complete(at, Terminal::Ok(Bytes::copy_from_slice(&[purpose, effect])));
    }

    fn complete(&mut self, at: usize, terminal: Terminal) {
        let execution = self.runs[at].execution;
        self.machine.complete(execution, terminal, self.now);
        self.runs.remove(at);
    }

    fn evict(&mut self, at: usize) {
        self.now.moment += RETENTION + Duration::from_secs(1);
        for (other, registration) in self.sessions.clone().into_iter().enumerate() {
            if other != at {
                self.machine.touch(registration, EVERYONE, self.now);
            }
        }
        self.machine.sweep(self.now);
    }

    fn act(&mut self, outputs: &mut Vec<Output>) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Welcome { to, welcome, .. } => {
                    if !self.sessions.contains(&welcome.registration) {
                        self.sessions.push(welcome.registration);
                        self.sessions.sort_unstable();
                    }
                    let heartbeat = Duration::from_secs(60);
                    let welcome = Welcome { heartbeat, body_limit: 1 << 20, ..*welcome };
                    outputs.push(say(to, Entry::Welcome(welcome)));
                }
                Action::Reply { to, reply } => outputs.push(say(to, Entry::Reply(reply))),
                // A client that is turned away dials again, and it may do so at any time.
                Action::Refuse { .. } | Action::Stop(_) => {}
                Action::Run(execution) => {
                    for run in self.runs.iter_mut().filter(|run| run.execution == execution) {
                        run.phase = Phase::Runs;
                    }
                }
                Action::Skip(execution) => self.runs.retain(|run| run.execution != execution),
                Action::Ask(ticket, op) => self.asked.push((ticket, op)),
            }
        }
        let machine = &self.machine;
        self.sessions.retain(|session| machine.knows(*session, EVERYONE));
    }
}

fn say(to: ConnectionId, entry: Entry) -> Output {
    Output::Send(Box::new(Message::new(Way::Down { client: to.0 as u8 - 1 }, entry)))
}
