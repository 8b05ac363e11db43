//! The engine's loop without sockets: the real machine, the real table of handlers and the real guards of their answers, between real queues. It decides
//! nothing, as the library's does not.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selfsame::protocol::dedup::{Attempt, Execution, Limits, Minted, Now, Terminal};
use selfsame::protocol::replica::{Action, Begun, Replica};
use selfsame::protocol::store::Opened;
use selfsame::protocol::wire::{Ack, Call, Hello, Reply};
use selfsame::protocol::{
    CallId, ConnectionId, Incarnation, Level, Moment, PrincipalId, Registration, Stamp, WallTime,
};
use shuttle::future::yield_now;
use shuttle::rand::{Rng, thread_rng};

use super::answer::Incoming;
use super::guard::{Answers, Guard};
use super::handlers::Handlers;
use crate::sync::tasks::{mpsc, watch};

pub const INCARNATION: Incarnation = Incarnation(7);
/// How long a session is kept without a word of its client.
pub const RETENTION: Duration = Duration::from_secs(60);

/// What the engine hears.
pub enum Heard {
    Call(ConnectionId, Call),
    Ack(Ack),
    Hello(Hello),
    /// So much time has passed.
    Time(Duration),
    /// All handlers that run have had their time.
    HandlersLate,
}

/// What a run of a handler does besides its effect.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Answers,
    /// Or its task is dropped before or after its effect, as by a runtime that ends.
    MayBeDropped,
}

/// Effects by call, in order. No type of the scheduler's: to look at them gives no thread a turn.
pub type Effects = Arc<Mutex<Vec<(Registration, CallId)>>>;

pub struct Engine {
    replica: Replica,
    handlers: Handlers,
    answers: Answers,
    answered: mpsc::UnboundedReceiver<(Execution, Terminal)>,
    heard: mpsc::UnboundedReceiver<Heard>,
    /// Where all replies go, in order.
    replies: watch::Sender<Vec<Reply>>,
    effects: Effects,
    manner: Manner,
    now: Now,
    welcomes: u64,
    /// Executions that have ended.
    ended: BTreeSet<Execution>,
}

impl Engine {
    /// With registrations 1 to `sessions`.
    pub fn new(
        sessions: u64,
        heard: mpsc::UnboundedReceiver<Heard>,
        replies: watch::Sender<Vec<Reply>>,
        effects: Effects,
        manner: Manner,
    ) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let limits = Limits { retention: RETENTION, unused_retention: RETENTION, ..Limits::default() };
        let mut replica = Replica::new(INCARNATION, Level::Memory, limits);
        let now = Now { moment: Moment::from_secs(1), wall: WallTime(1_000_000) };
        replica.opened(Opened { store: 1, generation: INCARNATION.0, ..Opened::default() }, now);
        let ended = BTreeSet::new();
        let handlers = Handlers::default();
        let mut engine = Engine {
            replica,
            handlers,
            answers,
            answered,
            heard,
            replies,
            effects,
            manner,
            now,
            welcomes: 0,
            ended,
        };
        (0..sessions).for_each(|_| engine.hello(&Hello { version: 1, ..Hello::default() }));
        engine
    }

    /// Until everybody who could say something is gone, and all handlers have ended.
    pub async fn run(mut self) {
        enum Event {
            Answered(Execution, Terminal),
            Heard(Heard),
            Silence,
        }
        loop {
            let idle = self.handlers.is_empty();
            let (answered, heard) = (&mut self.answered, &mut self.heard);
            let event = poll_fn(|cx| {
                if let Poll::Ready(Some((execution, terminal))) = answered.poll_recv(cx) {
                    return Poll::Ready(Event::Answered(execution, terminal));
                }
                match heard.poll_recv(cx) {
                    Poll::Ready(Some(heard)) => Poll::Ready(Event::Heard(heard)),
                    Poll::Ready(None) if idle => Poll::Ready(Event::Silence),
                    _ => Poll::Pending,
                }
            });
            match event.await {
                Event::Answered(execution, terminal) => {
                    if self.handlers.ended(execution) {
                        self.complete(execution, terminal);
                    }
                }
                Event::Heard(heard) => self.hear(heard),
                Event::Silence => return,
            }
            self.replica.tick(self.now);
            self.act();
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Call(from, call) => self.call(from, &call),
            Heard::Ack(ack) => self.replica.ack(&ack, PrincipalId::ANYONE, self.now),
            Heard::Hello(hello) => self.hello(&hello),
            Heard::Time(time) => {
                self.now.moment += time;
                while self.replica.sweep(self.now).is_some_and(|again| again <= self.now.moment) {}
            }
            Heard::HandlersLate => {
                let late = Instant::now() + 2 * RETENTION;
                while let Some(execution) = self.handlers.drop_overdue(late) {
                    self.complete(execution, Terminal::Failed("the handler ran too long".into()));
                }
            }
        }
    }

    fn hello(&mut self, hello: &Hello) {
        self.welcomes += 1;
        let minted = Minted { registration: Registration(self.welcomes.into()), stamp: Stamp(self.welcomes) };
        self.replica.hello(ConnectionId(0), hello, PrincipalId::ANYONE, minted, self.now);
    }

    fn call(&mut self, from: ConnectionId, call: &Call) {
        let attempt = Attempt { call, digest: 1, principal: PrincipalId::ANYONE, from, class: call.retry };
        let Some(execution) = self.replica.call(&attempt, None, self.now) else { return };
        if self.replica.begin(execution) == Begun::Run {
            let incoming = Incoming { body: call.body.clone() };
            self.start(execution, (call.registration, call.id), incoming.body.len());
        }
    }

    fn start(&mut self, execution: Execution, call: (Registration, CallId), bytes: usize) {
        let mut guard = Guard::new(execution, "a method", self.answers.clone());
        let (effects, manner) = (self.effects.clone(), self.manner);
        let task = shuttle_tokio::spawn(async move {
            yield_now().await;
            if manner == Manner::MayBeDropped && thread_rng().gen_bool(0.25) {
                return;
            }
            let number = {
                let mut effects = effects.lock().expect("nothing panics under this lock");
                effects.push(call);
                effects.len()
            };
            yield_now().await;
            if manner == Manner::MayBeDropped && thread_rng().gen_bool(0.25) {
                return;
            }
            guard.answered(Terminal::Ok(Bytes::from(number.to_string())));
        });
        self.handlers.run(execution, task.abort_handle(), bytes, Instant::now() + RETENTION);
    }

    fn complete(&mut self, execution: Execution, terminal: Terminal) {
        assert!(self.ended.insert(execution), "a handler ends once, by its answer or by its time");
        self.replica.complete(execution, terminal, self.now);
    }

    fn act(&mut self) {
        while let Some(action) = self.replica.poll_action() {
            match action {
                Action::Reply { reply, .. } => self.replies.send_modify(|replies| replies.push(reply)),
                Action::Welcome { .. } => {}
                other => panic!("a memory store has nothing of this to do: {other:?}"),
            }
        }
    }
}
