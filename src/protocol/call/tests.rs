//! The client's machine against a server that the tests play by hand, entry by entry; time is a number. Tests named `s07_…` are of the
//! statement of that number in `docs/design.md`. `chaos` plays a random server and network, and checks what must hold of every run.

mod chaos;
mod connections;
mod replies;
mod retries;
mod statements;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::protocol::wire::{self, Answer, Entry, Hello, Refused, Reply, Welcome};
use crate::protocol::{Incarnation, Key, Registration, RetryClass, Stamp, WallTime};

const BODY: &[u8] = b"16 bytes of body";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client, its clock, and what it did.
struct Bed {
    client: Client,
    now: Moment,
    sent: Vec<Entry>,
    done: Vec<(Handle, Ended)>,
    reconnects: usize,
    notices: Vec<Notice>,
    welcome: Welcome,
}

impl Bed {
    /// Not connected yet. Its server has one store, and says the same in each welcome unless told otherwise.
    fn new(config: Config) -> Self {
        let welcome = Welcome {
            version: 1,
            registration: Registration(0x100),
            incarnation: Incarnation(0x10),
            stamp: Stamp(1000),
            store: 5,
            generation: 1,
            retention: Duration::from_secs(600),
            window: 1024,
            heartbeat: Duration::from_secs(60),
            body_limit: 1024,
            ..Welcome::default()
        };
        Bed {
            client: Client::new(config, Session(0xc), 7),
            now: Duration::from_secs(1),
            sent: Vec::new(),
            done: Vec::new(),
            reconnects: 0,
            notices: Vec::new(),
            welcome,
        }
    }

    /// Connected and welcomed.
    fn ready() -> Self {
        let mut bed = Bed::new(Config::default());
        bed.connect();
        bed
    }

    /// As [`ready`](Bed::ready), with a heartbeat of a second.
    fn beating() -> Self {
        let mut bed = Bed::new(Config::default());
        bed.welcome.heartbeat = ms(1000);
        bed.connect();
        bed
    }

    fn take(&mut self) {
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Send(entry) => self.sent.push(entry),
                Action::Done(handle, ended) => self.done.push((handle, ended)),
                Action::Reconnect { .. } => self.reconnects += 1,
                Action::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn dial(&mut self) -> Hello {
        self.client.connected(self.now);
        self.take();
        self.hello()
    }

    /// The hello sent last.
    fn hello(&self) -> Hello {
        let hellos = self.sent.iter().filter_map(|entry| match entry {
            Entry::Hello(hello) => Some(hello.clone()),
            _ => None,
        });
        hellos.last().expect("a hello was sent")
    }

    /// Answers the latest hello, under a stamp of its own.
    fn greet(&mut self) {
        let hello = self.hello().id;
        self.welcome.stamp.0 += 1;
        self.receive(Entry::Welcome(Welcome { hello, ..self.welcome.clone() }));
    }

    fn connect(&mut self) {
        self.dial();
        self.greet();
    }

    /// The connection breaks and comes back.
    fn reconnect(&mut self) {
        self.client.disconnected();
        self.sent.clear();
        self.connect();
    }

    fn receive(&mut self, entry: Entry) {
        self.client.received(entry, self.now);
        self.take();
    }

    fn intent(&self, retry: RetryClass) -> Intent {
        Intent {
            interface: 1,
            method: 2,
            retry,
            body: Bytes::from_static(BODY),
            deadline: self.now + Duration::from_secs(5),
            key: None,
            issued: WallTime(1),
            trace: None,
            metadata: Vec::new(),
        }
    }

    fn begin(&mut self, intent: Intent) -> Handle {
        let handle = self.client.start(intent, self.now);
        self.take();
        handle
    }

    fn once(&mut self) -> Handle {
        self.begin(self.intent(RetryClass::Once))
    }

    fn keyed(&mut self, key: u128) -> Handle {
        let key = Some(Key { key, issued: WallTime(1), expiry: WallTime(2) });
        self.begin(Intent { key, ..self.intent(RetryClass::Once) })
    }

    /// Calls sent since last asked.
    fn calls(&mut self) -> Vec<wire::Call> {
        let mut calls = Vec::new();
        self.sent.retain(|entry| match entry {
            Entry::Call(call) => {
                calls.push(call.clone());
                false
            }
            _ => true,
        });
        calls
    }

    /// The one call sent since last asked.
    fn call(&mut self) -> wire::Call {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    /// Acks sent since last asked.
    fn acks(&mut self) -> Vec<wire::Ack> {
        let mut acks = Vec::new();
        self.sent.retain(|entry| match entry {
            Entry::Ack(ack) => {
                acks.push(ack.clone());
                false
            }
            _ => true,
        });
        acks
    }

    fn answer(&mut self, call: &wire::Call, answer: Answer) {
        self.receive(Entry::Reply(reply_to(call, answer)));
    }

    fn ok(&mut self, call: &wire::Call) {
        self.answer(call, Answer::Ok(Bytes::from_static(b"fine")));
    }

    fn refuse(&mut self, call: &wire::Call, refusal: Refusal) {
        self.answer(call, refused(refusal, false));
    }

    /// Lets time pass, tick by tick as the shell would.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.client.next_tick().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.client.tick(self.now);
            self.take();
        }
        self.now = end;
    }

    /// How the call ended. It must have, once.
    fn ended(&self, handle: Handle) -> &Ended {
        let ended: Vec<_> = self.done.iter().filter(|(of, _)| *of == handle).collect();
        assert_eq!(ended.len(), 1, "{:?}", self.done);
        &ended[0].1
    }

    fn is_open(&self, handle: Handle) -> bool {
        self.done.iter().all(|(of, _)| *of != handle)
    }

    /// Why and with what outcome it failed.
    fn failure(&self, handle: Handle) -> (&Why, Outcome) {
        match &self.ended(handle).conclusion {
            Conclusion::Failed(failure) => (&failure.why, failure.outcome),
            Conclusion::Ok(_) => panic!("the call succeeded"),
        }
    }

    fn failed_as(&self, handle: Handle, refusal: Refusal, outcome: Outcome) {
        assert_eq!(self.failure(handle), (&Why::Refused(refusal), outcome));
    }

    fn succeeded(&self, handle: Handle) -> bool {
        matches!(&self.ended(handle).conclusion, Conclusion::Ok(body) if &body[..] == b"fine")
    }
}

fn refused(refusal: Refusal, ambiguous: bool) -> Answer {
    Answer::Refused(Refused { refusal, ambiguous, retry_after: None, message: String::new() })
}

fn reply_to(call: &wire::Call, answer: Answer) -> Reply {
    Reply { registration: call.registration, id: call.id, attempt: call.attempt, replayed: false, answer }
}

impl Client {
    /// No table holds anything of a call.
    fn is_clean(&self) -> bool {
        self.calls.len() == 0
            && self.calls.timers() == 0
            && self.queue.is_empty()
            && self.keyed.is_empty()
            && self.under_way == 0
            && !self.numbers.has_holes()
    }
}
