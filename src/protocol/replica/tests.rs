//! The order of things, one story each, with a store that is held by hand: what is asked, and what each answer leads to. Random histories are the
//! simulator's.

mod durable;
mod shared;

use bytes::Bytes;

use super::*;
use crate::protocol::dedup::{Imprint, Minted};
use crate::protocol::store::{Done, Found, Kept};
use crate::protocol::wire::{Call, Hello};
use crate::protocol::{CallId, Key, Stamp, WallTime};

const INCARNATION: Incarnation = Incarnation(7);
const ELSEWHERE: Incarnation = Incarnation(8);
const BORN: WallTime = WallTime(1_000_000);
const HERE: ConnectionId = ConnectionId(1);
const BODY: Bytes = Bytes::from_static(b"version 2");

struct Rig {
    replica: Replica,
    now: Now,
    minted: u64,
}

impl Rig {
    fn new(level: Level) -> Self {
        Rig::with(level, Limits::default())
    }

    fn with(level: Level, limits: Limits) -> Self {
        let mut rig = Rig::unopened(level, limits);
        rig.replica.opened(opened(), rig.now);
        rig
    }

    fn unopened(level: Level, limits: Limits) -> Self {
        let now = Now { moment: Moment::from_secs(100), wall: WallTime(BORN.0 + 60_000) };
        Rig { replica: Replica::new(INCARNATION, level, limits), now, minted: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now.moment += time;
        self.now.wall.0 += time.as_millis() as u64;
        self.replica.tick(self.now);
    }

    /// What is to be done, in order.
    fn actions(&mut self) -> Vec<Action> {
        self.replica.tick(self.now);
        std::iter::from_fn(|| self.replica.poll_action()).collect()
    }

    /// The one thing to be done.
    fn action(&mut self) -> Action {
        let mut actions = self.actions();
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }

    /// The one operation that is asked.
    fn asked(&mut self) -> (Ticket, Op) {
        match self.action() {
            Action::Ask(ticket, op) => (ticket, op),
            other => panic!("{other:?}"),
        }
    }

    fn nothing(&mut self) {
        assert_eq!(self.actions(), []);
    }

    fn done(&mut self, ticket: Ticket, done: Done) {
        self.replica.store_event(StoreEvent::Done(ticket, done), self.now);
    }

    fn hello(&mut self, resume: Option<Registration>) {
        self.minted += 1;
        let minted = Minted { registration: Registration(self.minted.into()), stamp: Stamp(self.minted) };
        let hello = Hello { id: 1, version: 1, resume, ..Hello::default() };
        self.replica.hello(HERE, &hello, PrincipalId::ANYONE, minted, self.now);
    }

    fn welcomed(&mut self) -> Welcome {
        match self.action() {
            Action::Welcome { welcome, .. } => *welcome,
            other => panic!("{other:?}"),
        }
    }

    /// A session that the store has.
    fn session(&mut self) -> Registration {
        self.hello(None);
        if self.replica.level != Level::Memory {
            let (ticket, op) = self.asked();
            assert!(matches!(op, Op::Register { .. }), "{op:?}");
            let done = if self.replica.is_cache() { Done::Registered { ordinal: 3 } } else { Done::Stored };
            self.done(ticket, done);
        }
        self.welcomed().registration
    }

    fn call(&mut self, call: &Call) -> Option<Execution> {
        self.replica.call(&attempt(call), None, self.now)
    }

    /// Admitted and begun: the claim that is asked.
    fn claim(&mut self, call: &Call) -> (Execution, Ticket, Intent) {
        let execution = self.call(call).expect("it is to be run");
        assert_eq!(self.replica.begin(execution), Begun::Wait);
        match self.asked() {
            (ticket, Op::Claim(intent)) => (execution, ticket, intent),
            other => panic!("{other:?}"),
        }
    }

    /// Runs.
    fn run(&mut self, call: &Call) -> (Execution, Intent) {
        let (execution, ticket, intent) = self.claim(call);
        self.done(ticket, Done::Claimed);
        assert_eq!(self.action(), Action::Run(execution));
        (execution, intent)
    }

    fn complete(&mut self, execution: Execution, terminal: Terminal) {
        self.replica.complete(execution, terminal, self.now);
    }

    /// The end that is asked to be kept.
    fn finish(&mut self, execution: Execution, terminal: Terminal) -> (Ticket, Option<Answer>) {
        self.complete(execution, terminal);
        match self.asked() {
            (ticket, Op::Finish { keep, .. }) => (ticket, keep),
            other => panic!("{other:?}"),
        }
    }

    fn replies(&mut self) -> Vec<Reply> {
        let reply = |action| match action {
            Action::Reply { reply, .. } => Some(reply),
            Action::Skip(_) => None,
            other => panic!("{other:?}"),
        };
        self.actions().into_iter().filter_map(reply).collect()
    }

    fn reply(&mut self) -> Reply {
        let mut replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    fn refused(&mut self) -> Refused {
        match self.reply().answer {
            Answer::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }
}

fn opened() -> Opened {
    Opened { store: 5, generation: 2, ordinal: 3, born: BORN, ..Opened::default() }
}

fn attempt(call: &Call) -> Attempt<'_> {
    let digest = xxhash_rust::xxh3::xxh3_128(&call.body);
    Attempt { call, digest, principal: PrincipalId::ANYONE, from: HERE, class: call.retry }
}

fn call(registration: Registration, number: u64) -> Call {
    Call {
        registration,
        incarnation: INCARNATION,
        first_stamp: Stamp(1),
        id: CallId::Sequenced(number),
        interface: 1,
        method: 2,
        retry: RetryClass::Once,
        attempt: 1,
        time_left: Duration::from_secs(5),
        acked_below: 0,
        trace: None,
        issued: WallTime(0),
        metadata: Vec::new(),
        body: Bytes::from_static(b"ann"),
    }
}

fn keyed(registration: Registration, key: u128) -> Call {
    let key = Key { key, issued: WallTime(BORN.0 + 50_000), expiry: WallTime(BORN.0 + 100_000) };
    Call { id: CallId::Keyed(key), ..call(registration, 0) }
}

fn again(call: &Call) -> Call {
    Call { attempt: call.attempt + 1, ..call.clone() }
}

fn ok() -> Terminal {
    Terminal::Ok(BODY)
}

fn unavailable() -> Terminal {
    Terminal::Unavailable { message: "not now".into(), retry_after: None }
}

fn ended(intent: &Intent, answer: Answer) -> Done {
    Done::Found(Found { imprint: intent.imprint, state: Kept::Ended(answer) })
}

fn recorded_unknown() -> Answer {
    let (refusal, retry_after) = (Refusal::RecordedUnknown, None);
    Answer::Refused(Refused { refusal, ambiguous: true, retry_after, message: String::new() })
}

#[test]
fn of_a_memory_store_nothing_is_asked() {
    let mut rig = Rig::new(Level::Memory);
    let first = call(rig.session(), 1);
    let execution = rig.call(&first).unwrap();
    assert_eq!(rig.replica.begin(execution), Begun::Run);
    rig.complete(execution, ok());
    assert_eq!(rig.reply().answer, Answer::Ok(BODY));
    assert_eq!(rig.call(&again(&first)), None);
    assert!(rig.reply().replayed);
    assert_eq!(rig.call(&Call { acked_below: 2, ..call(first.registration, 2) }).map(|_| ()), Some(()));
    rig.nothing();
}
