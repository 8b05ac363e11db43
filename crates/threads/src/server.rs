//! Threads that send attempts, acknowledgements and hellos, let time pass and end handlers, around the engine that owns the machine.

use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::wire::{Ack, Answer, Call, Hello, Reply};
use selfsame::protocol::{CallId, ConnectionId, Refusal, Registration, RetryClass, Stamp, WallTime};
use shuttle::future::block_on;
use shuttle::thread;

use crate::sync::tasks::{mpsc, watch};

/// Of a call on its way in, what the table of handlers looks at.
mod answer {
    pub(super) struct Incoming {
        pub body: bytes::Bytes,
    }
}
mod engine;
#[path = "../../../src/server/guard.rs"]
mod guard;
#[path = "../../../src/server/handlers.rs"]
#[allow(dead_code)]
mod handlers;

use engine::{Effects, Engine, Heard, INCARNATION, Manner, RETENTION};

const MINE: Registration = Registration(1);
const OTHERS: Registration = Registration(2);

/// A connection to the engine. Of what is sent back to any of them all hear: of attempts that wait for one run, only the last is answered.
struct Connection {
    id: ConnectionId,
    to_engine: mpsc::UnboundedSender<Heard>,
    replies: watch::Receiver<Vec<Reply>>,
}

impl Connection {
    fn say(&self, heard: Heard) {
        assert!(self.to_engine.send(heard).is_ok(), "the engine lives as long as anybody talks to it");
    }

    /// Sends an attempt, and waits for its answer, or that of a later one.
    fn ask(&mut self, registration: Registration, number: u64, attempt: u32) -> Answer {
        let call = Call {
            registration,
            incarnation: INCARNATION,
            first_stamp: Stamp(registration.0 as u64),
            id: CallId::Sequenced(number),
            interface: 1,
            method: 1,
            retry: RetryClass::Once,
            attempt,
            time_left: Duration::from_secs(5),
            acked_below: 0,
            trace: None,
            issued: WallTime(0),
            metadata: Vec::new(),
            body: Bytes::from_static(b"ann"),
        };
        self.say(Heard::Call(self.id, call));
        let its = |reply: &&Reply| {
            let call = (reply.registration, reply.id);
            call == (registration, CallId::Sequenced(number)) && reply.attempt >= attempt
        };
        let told = block_on(self.replies.wait_for(|replies| replies.iter().any(|reply| its(&reply))));
        let replies = told.expect("the engine lives as long as anybody talks to it");
        replies.iter().find(its).expect("it was waited for").answer.clone()
    }

    fn ack(&self, below: u64) {
        self.say(Heard::Ack(Ack { registration: MINE, below, closed: Vec::new() }));
    }
}

/// Plays threads, one for each story, around an engine; their answers by thread, and the effects.
fn play<const N: usize>(
    manner: Manner,
    stories: [fn(Connection) -> Vec<Answer>; N],
) -> ([Vec<Answer>; N], Vec<(Registration, CallId)>) {
    let (to_engine, heard) = mpsc::unbounded_channel();
    let effects = Effects::default();
    let (replies, told) = watch::channel(Vec::new());
    let mut connections = 0;
    let connections = stories.map(|story| {
        connections += 1;
        let id = ConnectionId(connections);
        (story, Connection { id, to_engine: to_engine.clone(), replies: told.clone() })
    });
    drop(to_engine);
    let engine = Engine::new(2, heard, replies, effects.clone(), manner);
    let engine = thread::spawn(move || block_on(engine.run()));
    let threads = connections.map(|(story, connection)| thread::spawn(move || story(connection)));
    let answers = threads.map(|thread| thread.join().expect("no panic"));
    engine.join().expect("no panic");
    let effects = effects.lock().expect("nothing panics under this lock").clone();
    (answers, effects)
}

fn effects_of(effects: &[(Registration, CallId)], registration: Registration, number: u64) -> usize {
    effects.iter().filter(|&&effect| effect == (registration, CallId::Sequenced(number))).count()
}

fn refused(answer: &Answer, with: Refusal) -> bool {
    matches!(answer, Answer::Refused(refused) if refused.refusal == with)
}

/// All of these are one reply.
fn same<'a>(answers: impl IntoIterator<Item = &'a Answer>) {
    let mut answers = answers.into_iter();
    let Some(first) = answers.next() else { return };
    answers.for_each(|answer| assert_eq!(answer, first, "the selfsame answer"));
}

/// Attempts of one call over three connections, one of them twice: one effect, and all get its reply.
pub(crate) fn attempts_join() {
    let (answers, effects) = play(
        Manner::Answers,
        [
            |mut connection| vec![connection.ask(MINE, 1, 1), connection.ask(MINE, 1, 4)],
            |mut connection| vec![connection.ask(MINE, 1, 2)],
            |mut connection| vec![connection.ask(MINE, 1, 3)],
        ],
    );
    assert_eq!(effects_of(&effects, MINE, 1), 1, "one effect");
    assert!(matches!(answers[0][0], Answer::Ok(_)));
    same(answers.iter().flatten());
}

/// A call is acknowledged, late copies of it and an older acknowledgement come after and between, and two further calls are open meanwhile, one of another
/// session: one effect each, and nothing runs or is forgotten because of an acknowledgement.
pub(crate) fn acknowledged() {
    let (answers, effects) = play(
        Manner::Answers,
        [
            |mut connection| {
                let answer = connection.ask(MINE, 1, 1);
                connection.ack(2);
                for late in [3, 4] {
                    let copy = connection.ask(MINE, 1, late);
                    assert!(refused(&copy, Refusal::Stale), "after the acknowledgement: {copy:?}");
                    connection.ack(1);
                }
                vec![answer]
            },
            |mut connection| {
                connection.ack(1);
                vec![connection.ask(MINE, 1, 2)]
            },
            |mut connection| vec![connection.ask(MINE, 2, 1), connection.ask(MINE, 2, 2)],
            |mut connection| vec![connection.ask(OTHERS, 1, 1), connection.ask(OTHERS, 1, 2)],
        ],
    );
    let [first, copy, second, others] = answers;
    for (registration, number) in [(MINE, 1), (MINE, 2), (OTHERS, 1)] {
        assert_eq!(effects_of(&effects, registration, number), 1, "one effect of {registration} {number}");
    }
    for answers in [&first, &second, &others] {
        assert!(matches!(answers[0], Answer::Ok(_)), "an open call is answered: {answers:?}");
        same(answers);
    }
    if !refused(&copy[0], Refusal::Stale) {
        same([&first[0], &copy[0]]);
    }
}

/// The session of a call ends by time, its client's hello comes late, and copies of the call before, between and after: one effect at most, one reply, and none
/// for who was told that the session is unknown.
pub(crate) fn session_ends() {
    let (answers, effects) = play(
        Manner::Answers,
        [
            |mut connection| vec![connection.ask(MINE, 1, 1)],
            |connection| {
                connection.say(Heard::Time(2 * RETENTION));
                Vec::new()
            },
            |mut connection| {
                let before = connection.ask(MINE, 1, 2);
                connection.say(Heard::Hello(Hello { version: 1, resume: Some(MINE), ..Hello::default() }));
                let after = connection.ask(MINE, 1, 3);
                if refused(&before, Refusal::SessionUnknown) {
                    assert!(refused(&after, Refusal::SessionUnknown), "it was told to be unknown: {after:?}");
                }
                vec![before, after]
            },
        ],
    );
    let known: Vec<_> =
        answers.iter().flatten().filter(|answer| !refused(answer, Refusal::SessionUnknown)).collect();
    assert_eq!(effects_of(&effects, MINE, 1), usize::from(!known.is_empty()), "one effect, if any was known");
    assert!(known.iter().all(|answer| matches!(answer, Answer::Ok(_))), "{known:?}");
    same(known);
}

/// Handlers answer, are late, or their tasks are dropped: each ends once, all attempts are told the same, and a failure is kept as a reply is.
pub(crate) fn late_and_dropped() {
    let (answers, effects) = play(
        Manner::MayBeDropped,
        [
            |mut connection| vec![connection.ask(MINE, 1, 1), connection.ask(MINE, 1, 3)],
            |mut connection| vec![connection.ask(MINE, 1, 2)],
            |connection| {
                connection.say(Heard::HandlersLate);
                Vec::new()
            },
        ],
    );
    assert!(effects_of(&effects, MINE, 1) <= 1, "one effect at most");
    assert!(answers.iter().flatten().all(|answer| matches!(answer, Answer::Ok(_) | Answer::Failed(_))));
    same(answers.iter().flatten());
}
