//! Both machines, client and server, in one seeded simulation with virtual time, and the network between them
//! at its worst: it loses, repeats, delays and holds back entries over reconnects and restarts; connections
//! break; the server crashes and loses its store, sheds, and forgets sessions; callers cancel. An outside log
//! counts the effects. In the end the log is held against what each caller was told.
//!
//! A run is decided by its seed: a failure prints it, and `run(seed)` plays it again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::call::{Action, Client, Conclusion, Config, Handle, Intent, Outcome};
use super::dedup::{Admission, Attempt, Dedup, Execution, Identity, Limits, Minted, Now, Shed, Terminal};
use super::retry::{Backoff, Pace, Random};
use super::wire::{Entry, Welcome};
use super::{
    ConnectionId, Incarnation, Key, Moment, PrincipalId, Refusal, Registration, RetryClass, Session, Stamp,
    WallTime,
};

/// Calls start during the first part; then the network is kind, so that what can end does.
const TROUBLE: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(90);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One intention of a caller: a key stands for the same one in all its lives.
type Purpose = u64;

#[derive(Debug)]
enum Event {
    /// Somebody calls, and calls again a little later.
    Start,
    Dial,
    Cut,
    Crash,
    ToServer(Entry),
    ToClient(Entry),
    Begin(Run),
    Finish(Run),
}

/// A handler at work in one life of the server.
#[derive(Clone, Debug)]
struct Run {
    life: u64,
    execution: Execution,
    purpose: Purpose,
}

struct Caller {
    purpose: Purpose,
    class: RetryClass,
    deadline: Moment,
    cancelled: bool,
    told: Option<Conclusion>,
}

struct World {
    random: Random,
    now: Moment,
    /// By time, then by the order in which they were planned.
    events: BTreeMap<(Moment, u64), Event>,
    planned: u64,
    client: Client,
    pace: Pace,
    server: Dedup,
    life: u64,
    minted: u64,
    callers: HashMap<Handle, Caller>,
    /// How often the effect of each purpose happened.
    effects: HashMap<Purpose, u64>,
    purposes: u64,
    keys: Vec<(Key, Purpose)>,
}

fn server(life: u64, now: Moment) -> Dedup {
    let identity = Identity {
        incarnation: Incarnation(life),
        store: 1,
        generation: life,
        born: wall(now),
        ..Identity::default()
    };
    // Short, so that a client that was cut off meets a server that forgot it.
    let limits = Limits { retention: Duration::from_secs(8), window: 32, joins: 2, ..Limits::default() };
    Dedup::new(identity, limits)
}

fn wall(now: Moment) -> WallTime {
    WallTime(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = Config { window: 16, ..Config::default() };
        let now = Duration::from_secs(1);
        let mut world = World {
            client: Client::new(config, Session(u128::from(random.bits())), random.bits()),
            random,
            now,
            events: BTreeMap::new(),
            planned: 0,
            pace: Pace::new(Backoff::CONNECTIONS),
            server: server(1, now),
            life: 1,
            minted: 0,
            callers: HashMap::new(),
            effects: HashMap::new(),
            purposes: 0,
            keys: Vec::new(),
        };
        world.plan(Duration::ZERO, Event::Dial);
        world.plan(Duration::ZERO, Event::Start);
        world.plan(ms(500), Event::Cut);
        world.plan(Duration::from_secs(7), Event::Crash);
        world
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.bits() % n
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    fn plan(&mut self, delay: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((self.now + delay, self.planned), event);
    }

    fn is_kind(&self) -> bool {
        self.now > TROUBLE
    }

    /// Sends an entry over a network that does what it likes with it.
    fn carry(&mut self, entry: &Entry, wrap: fn(Entry) -> Event) {
        if self.is_kind() {
            return self.plan(ms(1), wrap(entry.clone()));
        }
        if self.percent(4) {
            return;
        }
        let copies = if self.percent(6) { 2 } else { 1 };
        for _ in 0..copies {
            let delay =
                if self.percent(4) { ms(self.random.bits() % 9000) } else { ms(self.random.bits() % 20) };
            self.plan(delay, wrap(entry.clone()));
        }
    }

    fn run(mut self) -> Self {
        while self.now < END {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let tick = self.client.next_tick();
            let next = event.into_iter().chain(tick).min().unwrap_or(END).max(self.now);
            self.now = next;
            if let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= next) {
                let event = entry.remove();
                self.happen(event);
            }
            self.client.tick(self.now);
            self.server.sweep(Now { moment: self.now, wall: wall(self.now) });
            self.act();
        }
        self
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start => self.start(),
            Event::Dial => self.client.connected(self.now),
            Event::Cut => {
                self.client.disconnected();
                self.redial();
                if !self.is_kind() {
                    let next = if self.percent(5) { ms(9000) } else { ms(self.random.bits() % 3000) };
                    self.plan(next, Event::Cut);
                }
            }
            Event::Crash if self.is_kind() => {}
            Event::Crash => {
                self.life += 1;
                self.server = server(self.life, self.now);
                let next = ms(self.random.bits() % 20_000);
                self.plan(next, Event::Crash);
            }
            Event::ToServer(entry) => self.serve(entry),
            Event::ToClient(entry) => self.client.received(entry, self.now),
            Event::Begin(run) => {
                if run.life == self.life && self.server.started(run.execution) {
                    let time = if self.percent(5) {
                        ms(self.random.bits() % 4000)
                    } else {
                        ms(self.random.bits() % 60)
                    };
                    self.plan(time, Event::Finish(run));
                }
            }
            Event::Finish(run) => self.finish(&run),
        }
    }

    fn redial(&mut self) {
        let mut delay = self.pace.failed(self.random.bits());
        if !self.is_kind() && self.percent(3) {
            // Long enough to be forgotten.
            delay = Duration::from_secs(10);
        }
        self.plan(delay, Event::Dial);
    }

    fn start(&mut self) {
        if !self.is_kind() {
            let next = ms(self.random.bits() % 40);
            self.plan(next, Event::Start);
        } else {
            return;
        }
        let class = match self.below(10) {
            0 => RetryClass::Never,
            1 => RetryClass::Idempotent,
            2 => RetryClass::ReadOnly,
            _ => RetryClass::Once,
        };
        let (key, purpose) = self.identity(class);
        let deadline = self.now + ms(self.random.bits() % 6000);
        let intent = Intent {
            interface: 1,
            method: 1,
            retry: class,
            body: Bytes::copy_from_slice(&purpose.to_le_bytes()),
            deadline,
            key,
            issued: wall(self.now),
            trace: None,
            metadata: Vec::new(),
        };
        let handle = self.client.start(intent, self.now);
        self.callers.insert(handle, Caller { purpose, class, deadline, cancelled: false, told: None });
        if self.percent(5) {
            self.act();
            let open: Vec<_> = self
                .callers
                .iter_mut()
                .filter(|(_, caller)| caller.told.is_none() && !caller.cancelled)
                .collect();
            if let Some((handle, caller)) = open.into_iter().min_by_key(|(handle, _)| **handle) {
                caller.cancelled = true;
                self.client.cancel(*handle, self.now);
            }
        }
    }

    /// A new purpose; or, under its key, one that somebody had before and perhaps got no answer to.
    fn identity(&mut self, class: RetryClass) -> (Option<Key>, Purpose) {
        self.purposes += 1;
        let purpose = self.purposes;
        if class != RetryClass::Once || !self.percent(20) {
            return (None, purpose);
        }
        if !self.keys.is_empty() && self.percent(60) {
            let which = self.below(self.keys.len() as u64) as usize;
            let (key, purpose) = self.keys[which];
            return (Some(key), purpose);
        }
        let (issued, expiry) = (wall(self.now), wall(self.now + Duration::from_secs(20)));
        let key = Key { key: u128::from(self.random.bits()), issued, expiry };
        self.keys.push((key, purpose));
        (Some(key), purpose)
    }

    /// The server's shell.
    fn serve(&mut self, entry: Entry) {
        let now = Now { moment: self.now, wall: wall(self.now) };
        let everyone = PrincipalId::ANYONE;
        match entry {
            Entry::Hello(hello) => {
                self.minted += 1;
                let registration =
                    Registration(u128::from(self.random.bits()) << 64 | u128::from(self.minted));
                let minted = Minted { registration, stamp: Stamp(self.minted) };
                let Ok(welcome) = self.server.hello(&hello, everyone, minted, now) else { return };
                let welcome = Welcome { heartbeat: ms(1000), body_limit: 1 << 20, ..welcome };
                self.carry(&Entry::Welcome(welcome), Event::ToClient);
            }
            Entry::Call(call) => {
                let purpose = Purpose::from_le_bytes(call.body[..].try_into().expect("8 bytes"));
                let attempt = Attempt {
                    call: &call,
                    digest: purpose.into(),
                    principal: everyone,
                    from: ConnectionId(1),
                    class: call.retry,
                };
                let shed = (!self.is_kind() && self.percent(10)).then(|| Shed::new(Refusal::Overloaded));
                match self.server.admit(&attempt, shed, now) {
                    Admission::Reply(reply) => self.carry(&Entry::Reply(reply), Event::ToClient),
                    Admission::Joined => {}
                    Admission::Execute(execution) => {
                        let queued = ms(self.random.bits() % 30);
                        self.plan(queued, Event::Begin(Run { life: self.life, execution, purpose }));
                    }
                }
            }
            Entry::Ack(ack) => self.server.ack(&ack, everyone, now),
            Entry::Cancel(cancel) => {
                if let Some(execution) = self.server.cancel(&cancel, everyone, now) {
                    self.complete(execution, Terminal::Cancelled);
                }
            }
            Entry::Ping(number) => {
                // The shell knows from the hello whose connection it is; here there is one client.
                if let Some(registration) = self.client.registration() {
                    self.server.touch(registration, everyone, now);
                }
                self.carry(&Entry::Pong(number), Event::ToClient);
            }
            _ => {}
        }
    }

    fn finish(&mut self, run: &Run) {
        let answer = self.below(20);
        // The handlers of a server that crashed may have got as far as their effect, or not.
        if run.life != self.life {
            if self.percent(50) {
                self.effect(run.purpose);
            }
            return;
        }
        let terminal = match answer {
            0 => Terminal::Unavailable { message: String::new(), retry_after: None },
            1 => Terminal::Interrupted { message: String::new(), retry_after: Some(ms(50)) },
            2 => Terminal::NotStarted(Shed::new(Refusal::ShuttingDown)),
            3 => Terminal::Declined { fault: 1, body: Bytes::new() },
            4 => {
                if self.percent(50) {
                    self.effect(run.purpose);
                }
                Terminal::Failed(String::new())
            }
            _ => {
                self.effect(run.purpose);
                Terminal::Ok(Bytes::copy_from_slice(&run.purpose.to_le_bytes()))
            }
        };
        self.complete(run.execution, terminal);
    }

    fn effect(&mut self, purpose: Purpose) {
        *self.effects.entry(purpose).or_default() += 1;
    }

    fn complete(&mut self, execution: Execution, terminal: Terminal) {
        let mut deliveries = Vec::new();
        let now = Now { moment: self.now, wall: wall(self.now) };
        self.server.complete(execution, terminal, now, &mut deliveries);
        for delivery in deliveries {
            self.carry(&Entry::Reply(delivery.reply), Event::ToClient);
        }
    }

    /// The client's shell.
    fn act(&mut self) {
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Send(entry) => self.carry(&entry, Event::ToServer),
                Action::Done(handle, ended) => {
                    let caller = self.callers.get_mut(&handle).expect("a call that was started");
                    assert!(self.now <= caller.deadline, "told after the deadline");
                    assert!(!caller.cancelled, "told although it was cancelled");
                    assert!(caller.told.replace(ended.conclusion).is_none(), "told twice");
                }
                Action::Reconnect { .. } => self.redial(),
                Action::Notice(_) => self.pace.worked(),
            }
        }
    }

    fn check(&self) -> Tally {
        let mut tally = Tally::default();
        for caller in self.callers.values() {
            let effects = self.effects.get(&caller.purpose).copied().unwrap_or_default();
            let strict = matches!(caller.class, RetryClass::Once | RetryClass::Never);
            assert!(!strict || effects <= 1, "{effects} effects of purpose {}", caller.purpose);
            tally.calls += 1;
            match &caller.told {
                None => assert!(caller.cancelled, "never told, not cancelled"),
                Some(Conclusion::Ok(body)) => {
                    tally.ok += 1;
                    assert_eq!(body[..], caller.purpose.to_le_bytes(), "somebody else's reply");
                    assert!(effects >= 1, "told it ran, and it did not");
                }
                Some(Conclusion::Failed(failure)) => match failure.outcome {
                    Outcome::No => {
                        tally.no += 1;
                        assert_eq!(effects, 0, "told it did not run: purpose {}", caller.purpose);
                    }
                    Outcome::Yes => tally.yes += 1,
                    Outcome::Unknown => tally.unknown += 1,
                },
            }
        }
        let held = self.server.counters();
        assert_eq!(self.client.open(), 0);
        assert_eq!(held.records, held.keyed, "all sequenced records were acknowledged");
        tally
    }
}

#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    ok: u64,
    yes: u64,
    no: u64,
    unknown: u64,
}

fn run(seed: u64) -> Tally {
    println!("seed {seed}");
    World::new(seed).run().check()
}

#[test]
fn one_effect_one_reply_and_never_a_false_no() {
    for seed in 0..10 {
        let tally = run(seed);
        assert!(tally.calls > 1000 && tally.ok > tally.calls / 2, "{tally:?}");
        assert!(tally.yes > 0 && tally.no > 0 && tally.unknown > 0, "a run that shows little: {tally:?}");
    }
}
