//! Random histories against what must never happen. The network keeps every call ever sent and delivers it again at any time, over any
//! connection; the server may be restarted; clients acknowledge what they like. Beside the machine runs a plain reference that knows
//! what each attempt was told and did:
//!
//! - a `once` call has at most one effect, and is never run twice at a time;
//! - its answer, once given, stays the same;
//! - "not executed" is never said of an attempt that ran or runs, and such an attempt never runs afterwards;
//! - nothing starts once it was stale, expired, or its session unknown;
//! - nobody is answered twice by one end, or over a connection that its attempt did not come from;
//! - the bounds hold, and the machine's own sums agree.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Hello { principal: u64, resume: Option<prop::sample::Index> },
    Send(Sending),
    Deliver { which: prop::sample::Index, from: u64, shed: Option<Refusal> },
    Ack { client: prop::sample::Index, below: u64, ranges: Vec<(u64, u64)> },
    Cancel { which: prop::sample::Index },
    Start { which: prop::sample::Index },
    Complete { which: prop::sample::Index, terminal: u8 },
    Pass { millis: u64, error: i64 },
    Restart,
}

#[derive(Clone, Debug)]
struct Sending {
    client: prop::sample::Index,
    keyed: bool,
    number: u64,
    attempt: u32,
    class: RetryClass,
    other_body: bool,
    acked_below: u64,
    for_ever: bool,
    out_of_time: bool,
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 1..4u64, 2 => 4..12u64, 1 => prop::sample::select(vec![0, u64::MAX, u64::MAX - 1])]
}

fn below() -> impl Strategy<Value = u64> {
    prop_oneof![20 => Just(0), 4 => 1..4u64, 1 => prop::sample::select(vec![u64::MAX, u64::MAX - 1, 10])]
}

fn sending() -> impl Strategy<Value = Sending> {
    use RetryClass::{Idempotent, Never, Once, ReadOnly};
    let class = prop::sample::select(vec![Once, Once, Once, Idempotent, ReadOnly, Never]);
    let attempt = prop_oneof![20 => 1..5u32, 1 => prop::sample::select(vec![0, u32::MAX])];
    let index = any::<prop::sample::Index>();
    (index, any::<bool>(), number(), attempt, class, 0..12u8, below(), 0..8u8, 0..10u8).prop_map(
        |(client, keyed, number, attempt, class, body, acked_below, expiry, time)| Sending {
            client,
            keyed,
            number,
            attempt,
            class,
            other_body: body == 0,
            acked_below,
            for_ever: expiry == 0,
            out_of_time: time == 0,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let shed = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(vec![Refusal::Overloaded, Refusal::ShuttingDown]).prop_map(Some)
    ];
    let ranges = prop::collection::vec((number(), number()), 0..3);
    prop_oneof![
        2 => (1..3u64, prop::option::of(index())).prop_map(|(principal, resume)| Step::Hello { principal, resume }),
        10 => sending().prop_map(Step::Send),
        12 => (index(), 1..4u64, shed).prop_map(|(which, from, shed)| Step::Deliver { which, from, shed }),
        2 => (index(), below(), ranges).prop_map(|(client, below, ranges)| Step::Ack { client, below, ranges }),
        2 => index().prop_map(|which| Step::Cancel { which }),
        2 => index().prop_map(|which| Step::Start { which }),
        10 => (index(), 0..8u8).prop_map(|(which, terminal)| Step::Complete { which, terminal }),
        2 => (0..800_000u64, -500..500i64).prop_map(|(millis, error)| Step::Pass { millis, error }),
        1 => Just(Step::Restart),
    ]
}

/// Where an effect happens once: the nonce of the guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Nonce {
    Sequenced(Registration, u64),
    Keyed(PrincipalId, Key),
}

type Try = (Registration, CallId, u32);

struct Run {
    execution: Execution,
    nonce: Nonce,
    first: Try,
    once: bool,
    ended: bool,
    value: u64,
}

/// The reference.
#[derive(Default)]
struct Ghost {
    effects: HashMap<Nonce, u32>,
    running: HashMap<Nonce, u32>,
    answers: HashMap<Nonce, Answer>,
    /// Attempts that were admitted and may have had an effect.
    acted: HashSet<Try>,
    denied: HashSet<Try>,
    /// Nonces of which nothing may start any more.
    over: HashSet<Nonce>,
    came_from: HashMap<Try, HashSet<ConnectionId>>,
}

struct World {
    rig: Rig,
    clients: Vec<Client>,
    net: Vec<(Client, Call)>,
    runs: Vec<Run>,
    ghost: Ghost,
    incarnation: u64,
    keys: Vec<Key>,
    /// By how much the server's wall clock is wrong, in milliseconds.
    error: i64,
}

fn limits() -> Limits {
    Limits {
        sessions: 4,
        window: 3,
        records: 5,
        keyed: 3,
        joins: 3,
        session_bytes: 24,
        bytes: 40,
        keyed_bytes: 24,
        reply_bytes: 16,
        ..Limits::default()
    }
}

impl World {
    fn new() -> Self {
        World {
            rig: Rig::with(limits()),
            clients: Vec::new(),
            net: Vec::new(),
            runs: Vec::new(),
            ghost: Ghost::default(),
            incarnation: INCARNATION.0,
            keys: Vec::new(),
            error: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Hello { principal, resume } => {
                let resume =
                    resume.filter(|_| !self.clients.is_empty()).map(|i| i.get(&self.clients).registration);
                if let Ok(client) = self.rig.greet(PrincipalId(principal), resume) {
                    self.clients.push(client);
                }
            }
            Step::Send(sending) if !self.clients.is_empty() => {
                let client = *sending.client.get(&self.clients);
                let call = self.compose(&client, &sending);
                self.net.push((client, call));
                self.deliver(self.net.len() - 1, client.from, None);
            }
            Step::Deliver { which, from, shed } if !self.net.is_empty() => {
                self.deliver(which.index(self.net.len()), ConnectionId(1_000 + from), shed);
            }
            Step::Ack { client, below, ranges } if !self.clients.is_empty() => {
                self.rig.ack(client.get(&self.clients), below, &ranges);
            }
            Step::Cancel { which } if !self.net.is_empty() => {
                let (client, call) = which.get(&self.net).clone();
                if let Some(execution) = self.rig.cancel(&client, &call) {
                    assert!(!self.rig.dedup.started(execution), "what was cancelled is not started");
                    let run =
                        self.runs.iter().position(|run| run.execution == execution).expect("a known run");
                    self.complete(run, Terminal::Cancelled);
                }
            }
            Step::Start { which } if !self.runs.is_empty() => {
                let run = which.get(&self.runs);
                let started = self.rig.dedup.started(run.execution);
                assert!(!(started && run.ended), "what has ended is not started");
            }
            Step::Complete { which, terminal } if !self.runs.is_empty() => {
                let run = which.index(self.runs.len());
                let value = self.runs[run].value;
                self.complete(
                    run,
                    match terminal {
                        0 => unavailable(),
                        1 => interrupted(),
                        2 => Terminal::NotStarted(Shed::new(Refusal::Deadline)),
                        3 => Terminal::Failed(format!("failed {value}")),
                        4 => Terminal::Unknown,
                        5 => Terminal::Ok(Bytes::from(vec![value as u8; 20])), // too large to keep
                        _ => Terminal::Ok(Bytes::copy_from_slice(&value.to_le_bytes())),
                    },
                );
            }
            Step::Pass { millis, error } => {
                self.rig.now.wall = self.true_time();
                self.error = error;
                self.rig.pass(Duration::from_millis(millis));
                self.rig.now.wall.0 = self.rig.now.wall.0.saturating_add_signed(error);
            }
            Step::Restart => self.restart(),
            _ => {}
        }
        let (now, limits) = (self.rig.dedup.counters(), limits());
        assert!(now.sessions <= limits.sessions && now.keyed <= limits.keyed);
        assert!(now.records <= limits.records + limits.keyed);
        assert!(now.notes <= limits.sessions * 4 * limits.window as usize, "{now:?}");
        assert!(now.bytes <= (limits.bytes + limits.keyed_bytes) * 5 / 4);
    }

    /// What the server's wall clock would say if it were right.
    fn true_time(&self) -> WallTime {
        WallTime(self.rig.now.wall.0.saturating_add_signed(-self.error))
    }

    fn compose(&mut self, client: &Client, sending: &Sending) -> Call {
        let id = match sending.keyed {
            true => CallId::Keyed(self.key(sending)),
            false => CallId::Sequenced(sending.number),
        };
        let class = Self::class(id);
        Call {
            id,
            attempt: sending.attempt,
            retry: if class == RetryClass::Once { sending.class } else { class },
            acked_below: sending.acked_below,
            time_left: Duration::from_secs(u64::from(!sending.out_of_time)),
            body: Bytes::from_static(if sending.other_body { b"other" } else { b"parameters" }),
            ..client.call(1)
        }
    }

    /// One of the last keys, or a new one, minted by a clock that is wrong as far as the limits allow.
    fn key(&mut self, sending: &Sending) -> Key {
        let last = self.keys.len().wrapping_sub(sending.number as usize);
        if let Some(key) = self.keys.get(last) {
            return *key;
        }
        let wrong = if sending.number.is_multiple_of(2) { -500 } else { 500 };
        let issued = WallTime(self.true_time().0.saturating_add_signed(wrong));
        let expiry = if sending.for_ever { u64::MAX } else { issued.0 + 600_000 };
        self.keys.push(Key { key: self.keys.len() as u128, issued, expiry: WallTime(expiry) });
        self.keys[self.keys.len() - 1]
    }

    /// A new life with an empty store: what the old one held is gone, what it did is not.
    fn restart(&mut self) {
        self.incarnation += 1;
        let identity = Identity {
            incarnation: Incarnation(self.incarnation),
            generation: self.incarnation,
            born: self.rig.now.wall,
            ..Identity::default()
        };
        self.rig.dedup = Dedup::new(identity, limits());
        for run in self.runs.drain(..).filter(|run| !run.ended) {
            // The process died in the middle: there may have been an effect.
            self.ghost.acted.insert(run.first);
            *self.ghost.effects.entry(run.nonce).or_default() += u32::from(run.once);
        }
        self.ghost.running.clear();
    }

    /// The class in the server's contract. Where it is `once`, a client may claim what it likes.
    fn class(id: CallId) -> RetryClass {
        let class = |number: u64| match number % 3 {
            0 => RetryClass::Idempotent,
            1 => RetryClass::Never,
            _ => RetryClass::ReadOnly,
        };
        match id {
            CallId::Sequenced(number) if number >= 3 => class(number),
            CallId::Keyed(key) if !key.key.is_multiple_of(2) => class(key.key as u64),
            _ => RetryClass::Once,
        }
    }

    fn deliver(&mut self, which: usize, from: ConnectionId, shed: Option<Refusal>) {
        let (client, call) = self.net[which].clone();
        let nonce = match call.id {
            CallId::Sequenced(number) => Nonce::Sequenced(call.registration, number),
            CallId::Keyed(key) => Nonce::Keyed(client.principal, key),
        };
        let tried: Try = (call.registration, call.id, call.attempt);
        self.ghost.came_from.entry(tried).or_default().insert(from);
        let digest = xxhash_rust::xxh3::xxh3_128(&call.body);
        let class = Self::class(call.id);
        let attempt = Attempt { call: &call, digest, principal: client.principal, from, class };
        let admission = self.rig.dedup.admit(&attempt, shed.map(Shed::new), self.rig.now);
        self.rig.dedup.audit();
        match admission {
            Admission::Execute(execution) => {
                assert!(
                    !self.ghost.over.contains(&nonce),
                    "a start after stale, expired or unknown: {call:?}"
                );
                assert!(!self.ghost.denied.contains(&tried), "a start after \"not executed\": {call:?}");
                let once = class == RetryClass::Once;
                if once {
                    assert_eq!(self.ghost.effects.get(&nonce), None, "a second effect: {call:?}");
                    let running = self.ghost.running.entry(nonce).or_default();
                    *running += 1;
                    assert_eq!(*running, 1, "two runs at a time: {call:?}");
                }
                let value = self.rig.dedup.counters().admitted;
                self.runs.push(Run { execution, nonce, first: tried, once, ended: false, value });
            }
            Admission::Joined => {
                assert!(
                    self.runs.iter().any(|run| run.nonce == nonce && !run.ended),
                    "something to wait for"
                );
            }
            Admission::Reply(reply) => {
                assert_eq!((reply.registration, reply.id, reply.attempt), tried);
                self.hear(&reply, nonce, class == RetryClass::Once);
            }
        }
    }

    fn complete(&mut self, which: usize, terminal: Terminal) {
        let acts =
            !matches!(terminal, Terminal::Unavailable { .. } | Terminal::NotStarted(_) | Terminal::Cancelled);
        let effect = acts && !matches!(terminal, Terminal::Interrupted { .. });
        let Run { execution, nonce, first, once, ended, .. } = self.runs[which];
        let deliveries = self.rig.complete(execution, terminal);
        if ended {
            assert_eq!(deliveries, [], "the first end counts");
            return;
        }
        self.runs[which].ended = true;
        if acts {
            assert!(!self.ghost.denied.contains(&first), "it was denied, and ran");
            self.ghost.acted.insert(first);
        }
        if once {
            *self.ghost.running.get_mut(&nonce).expect("it ran") -= 1;
            if effect {
                *self.ghost.effects.entry(nonce).or_default() += 1;
            }
        }
        let mut told = HashSet::new();
        for Delivery { to, reply } in deliveries {
            let tried: Try = (reply.registration, reply.id, reply.attempt);
            assert!(told.insert(tried), "an attempt is answered once");
            assert!(self.ghost.came_from[&tried].contains(&to), "over its own connection");
            self.hear(&reply, nonce, once);
        }
    }

    /// Somebody is told something: does it agree with all that was told and done before?
    fn hear(&mut self, reply: &Reply, nonce: Nonce, once: bool) {
        let tried: Try = (reply.registration, reply.id, reply.attempt);
        match &reply.answer {
            Answer::Refused(refused) => {
                if !refused.ambiguous {
                    let runs = |run: &Run| run.first == tried && !run.ended;
                    assert!(!self.runs.iter().any(runs), "\"not executed\", but it runs: {reply:?}");
                    assert!(!self.ghost.acted.contains(&tried), "\"not executed\", but it was: {reply:?}");
                    self.ghost.denied.insert(tried);
                }
                let over = [
                    Refusal::Stale,
                    Refusal::Expired,
                    Refusal::ReplyEvicted,
                    Refusal::RecordedUnknown,
                    Refusal::Cancelled,
                ];
                let gone =
                    refused.refusal == Refusal::SessionUnknown && matches!(nonce, Nonce::Sequenced(..));
                if gone || over.contains(&refused.refusal) && once {
                    self.ghost.over.insert(nonce);
                }
            }
            answer if once => {
                let before = self.ghost.answers.entry(nonce).or_insert_with(|| answer.clone());
                assert_eq!(before, answer, "the selfsame reply");
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_history_breaks_the_promise(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}
