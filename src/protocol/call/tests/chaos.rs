//! A random server behind a random network: what it says need not make sense, it may be late, lost, repeated or out of order, connections break
//! and come back under the same or another registration or store. Whatever happens: each call ends once, by its deadline; "not executed"
//! is never told while an attempt is unsettled; attempts never repeat; acknowledgements never pass an open call; nothing is left behind.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::protocol::wire::{Contract, Goodbye};

const REFUSALS: [Refusal; 21] = [
    Refusal::HelloFirst,
    Refusal::InProgress,
    Refusal::Overloaded,
    Refusal::ShuttingDown,
    Refusal::Unavailable,
    Refusal::Interrupted,
    Refusal::Mismatch,
    Refusal::Stale,
    Refusal::SessionUnknown,
    Refusal::SessionShared,
    Refusal::StoreChanged,
    Refusal::Expired,
    Refusal::ReplyEvicted,
    Refusal::Cancelled,
    Refusal::Deadline,
    Refusal::UnknownMethod,
    Refusal::Incompatible,
    Refusal::Malformed,
    Refusal::TooLarge,
    Refusal::Denied,
    Refusal::RecordedUnknown,
];

/// Those that mean "not executed" if the server says so.
const SETTLING: [Refusal; 10] = [
    Refusal::Overloaded,
    Refusal::ShuttingDown,
    Refusal::Unavailable,
    Refusal::Cancelled,
    Refusal::Deadline,
    Refusal::UnknownMethod,
    Refusal::Incompatible,
    Refusal::Malformed,
    Refusal::TooLarge,
    Refusal::Denied,
];

/// One thing that happens. The numbers choose among what is there.
#[derive(Clone, Debug)]
enum Step {
    Start {
        class: u8,
        key: u8,
        deadline: u16,
    },
    Cancel(usize),
    Connect,
    Disconnect,
    /// Answers the latest hello, or an old one.
    Welcome {
        old: bool,
        change: u8,
    },
    /// Answers any attempt that was ever sent.
    Reply {
        call: usize,
        answer: u8,
        ambiguous: bool,
        retry_after: u16,
    },
    Ping,
    Goodbye(Option<usize>),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..8, 0u8..6, 0u16..4000).prop_map(|(class, key, deadline)| Step::Start { class, key, deadline }),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        3 => (prop::bool::weighted(0.1), 0u8..12).prop_map(|(old, change)| Step::Welcome { old, change }),
        8 => (any::<usize>(), 0u8..40, prop::bool::weighted(0.2), 0u16..600)
            .prop_map(|(call, answer, ambiguous, retry_after)| Step::Reply { call, answer, ambiguous, retry_after }),
        1 => Just(Step::Ping),
        1 => prop::option::of(0usize..30).prop_map(Step::Goodbye),
        4 => (0u16..1500).prop_map(Step::Pass),
    ]
}

/// What an observer at the socket knows of a call.
#[derive(Default)]
struct Seen {
    sequenced: bool,
    started: Moment,
    deadline: Moment,
    class: RetryClass,
    /// Attempts that left, under which identity, and which of them were refused as not executed.
    attempts: BTreeMap<u32, (Registration, CallId)>,
    settled: HashSet<u32>,
    cancelled: bool,
}

struct Chaos {
    bed: Bed,
    seen: HashMap<Handle, Seen>,
    sent: Vec<wire::Call>,
    owner: HashMap<(Registration, CallId, u32), Handle>,
    hellos: Vec<u64>,
    checked: usize,
}

impl Chaos {
    fn new() -> Self {
        let config = Config { window: 6, calls: 12, ..Config::default() };
        Chaos {
            bed: Bed::new(config),
            seen: HashMap::new(),
            sent: Vec::new(),
            owner: HashMap::new(),
            hellos: Vec::new(),
            checked: 0,
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Start { class, key, deadline } => self.start(class, key, deadline),
            Step::Cancel(which) => {
                let mut open: Vec<_> =
                    self.seen.keys().copied().filter(|handle| self.is_open(*handle)).collect();
                open.sort_unstable();
                if let Some(handle) = open.get(which % open.len().max(1)).copied() {
                    self.bed.client.cancel(handle, self.bed.now);
                    self.seen.entry(handle).or_default().cancelled = true;
                }
            }
            Step::Connect => self.bed.client.connected(self.bed.now),
            Step::Disconnect => self.bed.client.disconnected(),
            Step::Welcome { old, change } => self.welcome(old, change),
            Step::Reply { call, answer, ambiguous, retry_after } => {
                self.reply(call, answer, ambiguous, retry_after)
            }
            Step::Ping => self.bed.client.received(Entry::Ping(1), self.bed.now),
            Step::Goodbye(refusal) => {
                let refusal = refusal.and_then(|which| REFUSALS.get(which).copied());
                let goodbye = Goodbye { reason: String::new(), refusal };
                self.bed.client.received(Entry::Goodbye(goodbye), self.bed.now);
            }
            Step::Pass(time) => {
                let end = self.bed.now + ms(time.into());
                let mut ticks = 0;
                while let Some(next) = self.bed.client.next_tick().filter(|next| *next <= end) {
                    self.bed.now = self.bed.now.max(next);
                    self.bed.client.tick(self.bed.now);
                    self.observe();
                    ticks += 1;
                    assert!(ticks < 10_000, "the machine asks for one tick after another");
                }
                self.bed.now = end;
            }
        }
        self.observe();
    }

    fn start(&mut self, class: u8, key: u8, deadline: u16) {
        let class = match class {
            0 => RetryClass::Never,
            1 => RetryClass::Idempotent,
            2 => RetryClass::ReadOnly,
            _ => RetryClass::Once,
        };
        let key = (key < 2).then_some(Key { key: key.into(), issued: WallTime(1), expiry: WallTime(2) });
        let deadline = self.bed.now + ms(deadline.into());
        let intent = Intent { deadline, key, interface: 1, ..self.bed.intent(class) };
        let handle = self.bed.client.start(intent, self.bed.now);
        let started = self.bed.now;
        let seen = Seen { sequenced: key.is_none(), started, deadline, class, ..Seen::default() };
        let before = self.seen.insert(handle, seen);
        assert!(before.is_none(), "handles are never used again");
    }

    fn welcome(&mut self, old: bool, change: u8) {
        let Some(&hello) = (if old { self.hellos.first() } else { self.hellos.last() }) else { return };
        let welcome = &mut self.bed.welcome;
        welcome.stamp.0 += 1;
        match change {
            0 => welcome.registration.0 += 1,
            1 => welcome.generation += 1,
            2 => (welcome.registration.0, welcome.store) = (welcome.registration.0 + 1, welcome.store + 1),
            3 => welcome.ordinal = (welcome.ordinal + 2) % 5,
            4 => welcome.window = (welcome.window + 1) % 8,
            5 => welcome.incarnation.0 += 1,
            _ => {}
        }
        welcome.contracts.clear();
        if change == 6 {
            welcome.contracts.push(Contract { interface: 1, fingerprint: 2, shape: vec![(1, 2)] });
        }
        let welcome = Welcome { hello, ..welcome.clone() };
        self.bed.client.received(Entry::Welcome(welcome), self.bed.now);
    }

    fn reply(&mut self, call: usize, answer: u8, ambiguous: bool, retry_after: u16) {
        if self.sent.is_empty() {
            return;
        }
        let recent = self.sent.len().min(30);
        let call = self.sent[self.sent.len() - 1 - call % recent].clone();
        let refusal = REFUSALS.get(usize::from(answer)).copied();
        let answer = match (refusal, answer) {
            (Some(refusal), _) => Answer::Refused(Refused {
                refusal,
                ambiguous,
                retry_after: Some(ms(retry_after.into())),
                message: String::new(),
            }),
            (None, 21) => Answer::Declined { fault: 1, body: Bytes::new() },
            (None, 22) => Answer::Failed(String::new()),
            (None, 23..30) => refused(Refusal::Overloaded, ambiguous),
            (None, _) => Answer::Ok(Bytes::new()),
        };
        let definite = matches!(&answer, Answer::Refused(refused) if !refused.ambiguous && SETTLING.contains(&refused.refusal));
        if definite && let Some(handle) = self.owner.get(&(call.registration, call.id, call.attempt)) {
            self.seen.entry(*handle).or_default().settled.insert(call.attempt);
        }
        self.bed.client.received(Entry::Reply(reply_to(&call, answer)), self.bed.now);
    }

    fn is_open(&self, handle: Handle) -> bool {
        self.bed.is_open(handle) && !self.seen[&handle].cancelled
    }

    /// Checks what the machine did.
    fn observe(&mut self) {
        let sent_before = self.bed.sent.len();
        // An attempt belongs to the call that has its nonce at the time when it is handed out.
        let by_id: HashMap<CallId, Handle> = self
            .seen
            .keys()
            .filter_map(|handle| Some((self.bed.client.nonce_of(*handle)?, *handle)))
            .collect();
        self.bed.take();
        for entry in self.bed.sent.split_off(sent_before) {
            match entry {
                Entry::Hello(hello) => {
                    self.hellos.push(hello.id);
                    self.check_acked(hello.resume, hello.acked_below, &[]);
                }
                Entry::Call(call) => {
                    self.check_acked(Some(call.registration), call.acked_below, &[]);
                    // A call that ended in the same breath is not open any more; its attempt is not checked for its owner.
                    if let Some(&handle) = by_id.get(&call.id) {
                        self.check_attempt(handle, &call);
                    }
                    self.sent.push(call);
                }
                Entry::Ack(ack) => self.check_acked(Some(ack.registration), ack.below, &ack.closed),
                Entry::Cancel(_) | Entry::Ping(_) | Entry::Pong(_) => {}
                other => panic!("a client does not send {other:?}"),
            }
        }
        while let Some((handle, ended)) = self.bed.done.get(self.checked) {
            self.check_end(*handle, ended);
            self.checked += 1;
        }
    }

    fn check_attempt(&mut self, handle: Handle, call: &wire::Call) {
        let Some(seen) = self.seen.get_mut(&handle) else { return };
        assert!(seen.class != RetryClass::Never || seen.attempts.is_empty(), "never means once");
        let before = seen.attempts.insert(call.attempt, (call.registration, call.id));
        assert!(before.is_none(), "an attempt number was used twice");
        let earlier = seen.attempts.range(..call.attempt);
        if seen.sequenced && seen.class == RetryClass::Once {
            for (number, (registration, id)) in earlier {
                let settled = seen.settled.contains(number);
                assert!(settled || (*registration, *id) == (call.registration, call.id), "a second identity");
            }
        }
        assert!(!call.time_left.is_zero() && call.time_left <= seen.deadline);
        self.owner.insert((call.registration, call.id, call.attempt), handle);
    }

    /// No open call's number is acknowledged.
    fn check_acked(&self, registration: Option<Registration>, below: u64, closed: &[(u64, u64)]) {
        for (handle, seen) in &self.seen {
            let Some(CallId::Sequenced(number)) = self.bed.client.nonce_of(*handle) else { continue };
            if seen.attempts.values().last().map(|(of, _)| *of) == registration && registration.is_some() {
                let told =
                    number < below || closed.iter().any(|(first, last)| (*first..=*last).contains(&number));
                assert!(!told, "open call {number} acknowledged: below {below}, {closed:?}");
            }
        }
    }

    fn check_end(&self, handle: Handle, ended: &Ended) {
        let seen = &self.seen[&handle];
        assert!(!seen.cancelled, "a cancelled call was answered");
        assert!(self.bed.now <= seen.deadline.max(seen.started), "later than its deadline");
        assert_eq!(self.bed.done.iter().filter(|(of, _)| *of == handle).count(), 1, "ended twice");
        let Conclusion::Failed(failure) = &ended.conclusion else { return };
        if failure.outcome == Outcome::No {
            assert!(seen.sequenced);
            for number in seen.attempts.keys() {
                assert!(
                    seen.settled.contains(number),
                    "not executed, says the client, but attempt {number} may have"
                );
            }
            assert!(ended.attempts as usize == seen.attempts.len(), "an attempt that left was not seen");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_does_the_promises_hold(steps in prop::collection::vec(step(), 0..250)) {
        let mut chaos = Chaos::new();
        for step in steps {
            chaos.run(step);
        }
        chaos.run(Step::Pass(5000));
        for (handle, seen) in &chaos.seen {
            prop_assert_eq!(seen.cancelled, chaos.bed.is_open(*handle), "each ends once, or is cancelled");
        }
        prop_assert!(chaos.bed.client.is_clean());
    }
}
