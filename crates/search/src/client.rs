//! A client of the search: the real machine, and the little that its shell would know. One step: one verb of the machine, and all that it then wants done.

use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::call::{Action, Client, Conclusion, Config, Handle, Intent, Outcome};
use selfsame::protocol::retry::{Allowance, Backoff};
use selfsame::protocol::wire::Entry;
use selfsame::protocol::{CallId, Key, Moment, Registration, RetryClass, Session, WallTime};

use crate::intern;
use crate::message::{Message, Way};
use crate::scenario::Scenario;

/// An intention of a caller, by its number: what has one effect.
pub type Purpose = u8;

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// It has not called yet.
    Nothing,
    /// It waits.
    Waits,
    /// The method's result.
    Ok,
    /// The call did not execute and never will.
    No,
    /// It executed, and there is no result.
    Yes,
    /// It may have executed.
    Unknown,
    /// It did not want to know.
    Dropped,
}

/// What may happen to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A caller calls.
    Start(u8),
    /// It has a new connection to this server; the old one is gone.
    Dial(u8),
    /// The time-out of an attempt, or a back-off, ends.
    Timer,
    /// The deadline of this call passes.
    Deadline(u8),
    /// The caller drops the call.
    Drop(u8),
    /// A message arrives.
    Take(u32),
}

/// The state of a client.
#[derive(Clone, Debug)]
pub struct Node {
    machine: Client,
    index: u8,
    now: Moment,
    /// By call.
    pub told: [Told; 2],
    handles: [Option<(Handle, Moment)>; 2],
    /// Which number of which registration is which intention.
    numbers: Vec<(Registration, u64, Purpose)>,
    /// The server of its present connection.
    server: u8,
    /// Connections so far.
    pub dials: u8,
    /// Hellos so far.
    pub hellos: u32,
    /// The hello whose welcome it waits for.
    pub awaits: Option<u64>,
    /// It takes part.
    pub lives: bool,
}

/// Far beyond all time-outs of attempts and well within a heartbeat.
const DEADLINES: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(20)];

fn config(scenario: &Scenario) -> Config {
    Config {
        attempts: scenario.attempts,
        attempt_timeout: Duration::from_millis(100),
        // A message that is held back is a back-off, so one of its own adds nothing.
        backoff: Backoff { base: Duration::ZERO, cap: Duration::ZERO },
        budget: Allowance { percent: 100, per_second: 1_000 },
        welcome_timeout: Duration::from_secs(3_000),
        // At once: the network delays it as long as it likes.
        ack_delay: Duration::ZERO,
        ..Config::default()
    }
}

/// The key of all keyed calls.
pub fn key() -> Key {
    Key { key: 7, issued: WallTime(10_000), expiry: WallTime(20_000) }
}

impl Node {
    /// A client that has done nothing yet.
    pub fn new(index: u8, scenario: &Scenario) -> Self {
        Node {
            machine: Client::new(config(scenario), Session(u128::from(index) + 1), 0),
            index,
            now: Duration::from_secs(1),
            told: [Told::Nothing; 2],
            handles: [None; 2],
            numbers: Vec::new(),
            server: 0,
            dials: 0,
            hellos: 0,
            awaits: None,
            lives: true,
        }
    }

    /// A copy of this client under another index: of the whole process, as a snapshot of a virtual machine makes it.
    pub fn copy(&self, index: u8) -> Self {
        let mut copy = Node { index, ..self.clone() };
        // It wakes up elsewhere: the connection is the original's.
        copy.machine.disconnected();
        copy
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> u128 {
        intern::fingerprint(|hasher| {
            let Node { machine, index, now, told, handles, numbers, server, dials, hellos, awaits, lives } =
                self;
            machine.fingerprint(*now, hasher);
            let deadlines = handles.map(|call| call.map(|(handle, _)| handle));
            (index, told, deadlines, numbers, server, dials, hellos, awaits, lives).hash(hasher);
        })
    }

    /// The intention behind a nonce.
    pub fn purpose(&self, registration: Registration, id: CallId) -> Option<Purpose> {
        match id {
            CallId::Keyed(_) => Some(0),
            CallId::Sequenced(number) => {
                let known =
                    self.numbers.iter().rev().find(|known| (known.0, known.1) == (registration, number))?;
                Some(known.2)
            }
        }
    }

    /// Whether the connection is ready and nothing was called.
    pub fn is_fresh(&self) -> bool {
        self.machine.is_ready() && self.told == [Told::Nothing; 2]
    }

    /// Whether a timer of an attempt is running. Others are so far away that a step of their own lets them pass.
    pub fn has_timer(&self) -> bool {
        self.timer().is_some()
    }

    fn timer(&self) -> Option<Moment> {
        self.machine.clone().next_tick().filter(|at| *at <= self.now + Duration::from_secs(5))
    }

    /// What comes of an input: the state after it and what it sends.
    pub fn step(&self, input: Input, message: Option<&Message>, scenario: &Scenario) -> (Node, Vec<Message>) {
        let mut node = self.clone();
        node.machine.reseed(u64::from(node.hellos));
        match input {
            Input::Start(call) => node.start(call, scenario),
            Input::Dial(server) => {
                node.machine.disconnected();
                node.dials += 1;
                node.server = server;
                node.machine.connected(node.now);
            }
            Input::Timer => {
                if let Some(at) = node.timer() {
                    node.now = node.now.max(at);
                    node.machine.tick(node.now);
                }
            }
            Input::Deadline(call) => {
                if let Some((_, deadline)) = node.handles[call as usize] {
                    node.now = node.now.max(deadline);
                    node.machine.tick(node.now);
                }
            }
            Input::Drop(call) => {
                if let Some((handle, _)) = node.handles[call as usize].take() {
                    node.told[call as usize] = Told::Dropped;
                    node.machine.cancel(handle, node.now);
                }
            }
            Input::Take(_) => {
                if let Some(message) = message {
                    node.machine.received(message.entry.clone(), node.now);
                }
            }
        }
        let sent = node.act();
        (node, sent)
    }

    fn start(&mut self, call: u8, scenario: &Scenario) {
        let purpose = scenario.purpose(self.index, call);
        let deadline = self.now + DEADLINES[call as usize];
        let intent = Intent {
            interface: 1,
            method: 1,
            retry: RetryClass::Once,
            body: Bytes::copy_from_slice(&[purpose]),
            deadline,
            key: scenario.keyed.then(key),
            issued: WallTime(1_000),
            trace: None,
            metadata: Vec::new(),
        };
        let handle = self.machine.start(intent, self.now);
        self.told[call as usize] = Told::Waits;
        self.handles[call as usize] = Some((handle, deadline));
    }

    fn act(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send(entry) => {
                    self.note(&entry);
                    sent.push(Message::new(Way::Up { client: self.index, server: self.server }, entry));
                }
                Action::Done(handle, ended) => {
                    let call = self.handles.iter().position(|call| call.is_some_and(|(of, _)| of == handle));
                    let call = call.expect("an end of a call that was started");
                    self.handles[call] = None;
                    self.told[call] = match ended.conclusion {
                        Conclusion::Ok(_) => Told::Ok,
                        Conclusion::Failed(failure) => match failure.outcome {
                            Outcome::No => Told::No,
                            Outcome::Yes => Told::Yes,
                            Outcome::Unknown => Told::Unknown,
                        },
                    };
                }
                Action::Reconnect { .. } => self.awaits = None,
                Action::Notice(_) => {}
            }
        }
        if self.machine.is_ready() {
            self.awaits = None;
        }
        sent
    }

    fn note(&mut self, entry: &Entry) {
        match entry {
            Entry::Hello(hello) => {
                self.hellos += 1;
                self.awaits = Some(hello.id);
            }
            Entry::Call(call) => {
                if let CallId::Sequenced(number) = call.id {
                    let noted = (call.registration, number, call.body[0]);
                    if !self.numbers.contains(&noted) {
                        self.numbers.push(noted);
                        self.numbers.sort_unstable();
                    }
                }
            }
            _ => {}
        }
    }
}
