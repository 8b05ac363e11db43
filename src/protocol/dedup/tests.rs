//! The statements of the guarantee as far as they can be seen at the server's machine, each under its number (9, 10, 15, 21 and 22 are
//! the client's or a durable store's); here the rig that they share.

mod bounds;
mod model;
mod statements;
mod stories;

use bytes::Bytes;

use super::record::{Record, State};
use super::session::Session;
use super::*;
use crate::protocol::Key;
use crate::protocol::wire::{Ack, Cancel, Hello};

/// A server's machine, its clock and its dice.
pub(super) struct Rig {
    pub dedup: Dedup,
    pub now: Now,
    minted: u128,
}

/// What a client knows after its welcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub principal: PrincipalId,
    pub registration: Registration,
    pub incarnation: Incarnation,
    pub stamp: Stamp,
    pub from: ConnectionId,
}

pub(super) const INCARNATION: Incarnation = Incarnation(7);
pub(super) const BORN: WallTime = WallTime(1_000_000);

impl Rig {
    pub fn new() -> Self {
        Rig::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let identity = Identity { incarnation: INCARNATION, born: BORN, ..Identity::default() };
        let now = Now { moment: Moment::from_secs(100), wall: WallTime(BORN.0 + 60_000) };
        Rig { dedup: Dedup::new(identity, limits), now, minted: 0 }
    }

    /// Says hello as somebody, resuming a registration or not.
    pub fn greet(&mut self, principal: PrincipalId, resume: Option<Registration>) -> Result<Client, Refused> {
        self.minted += 1;
        let minted = Minted {
            registration: Registration(self.minted << 64 | self.minted.wrapping_mul(0x9e37_79b9)),
            stamp: Stamp(self.minted as u64),
        };
        let hello = Hello { id: 1, version: 1, resume, ..Hello::default() };
        let welcome = self.dedup.hello(&hello, principal, minted, self.now)?;
        assert_eq!((welcome.hello, welcome.stamp), (1, minted.stamp));
        Ok(Client {
            principal,
            registration: welcome.registration,
            incarnation: welcome.incarnation,
            stamp: welcome.stamp,
            from: ConnectionId(self.minted as u64),
        })
    }

    pub fn client(&mut self) -> Client {
        self.greet(PrincipalId::ANYONE, None).unwrap()
    }

    /// Delivers an attempt, as often as you like.
    pub fn deliver(&mut self, client: &Client, call: &Call, shed: Option<Shed>) -> Admission {
        let attempt = Attempt {
            call,
            digest: xxhash_rust::xxh3::xxh3_128(&call.body),
            principal: client.principal,
            from: client.from,
            class: call.retry,
        };
        let admission = self.dedup.admit(&attempt, shed, self.now);
        self.dedup.audit();
        admission
    }

    pub fn admit(&mut self, client: &Client, call: &Call) -> Admission {
        self.deliver(client, call, None)
    }

    /// Delivers an attempt that has to run.
    pub fn execute(&mut self, client: &Client, call: &Call) -> Execution {
        match self.admit(client, call) {
            Admission::Execute(execution) => execution,
            other => panic!("{call:?} should run, not {other:?}"),
        }
    }

    /// Delivers an attempt that has to be answered at once.
    pub fn answer(&mut self, client: &Client, call: &Call) -> Reply {
        match self.admit(client, call) {
            Admission::Reply(reply) => {
                assert_eq!(
                    (reply.registration, reply.id, reply.attempt),
                    (call.registration, call.id, call.attempt)
                );
                reply
            }
            other => panic!("{call:?} should be answered, not {other:?}"),
        }
    }

    /// Delivers an attempt that has to be refused: why, and whether that leaves open if it ran.
    pub fn refusal(&mut self, client: &Client, call: &Call) -> (Refusal, bool) {
        refusal(&self.answer(client, call))
    }

    /// The same, when the shell sheds.
    pub fn shed(&mut self, client: &Client, call: &Call, why: Refusal) -> (Refusal, bool) {
        match self.deliver(client, call, Some(Shed::new(why))) {
            Admission::Reply(reply) => refusal(&reply),
            other => panic!("{call:?} should be refused, not {other:?}"),
        }
    }

    pub fn complete(&mut self, execution: Execution, terminal: Terminal) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        self.dedup.complete(execution, terminal, self.now, &mut deliveries);
        self.dedup.audit();
        deliveries
    }

    /// A call that is admitted and answered with this body.
    pub fn run(&mut self, client: &Client, call: &Call, body: &'static [u8]) {
        let execution = self.execute(client, call);
        let deliveries = self.complete(execution, ok(body));
        assert_eq!(deliveries.len(), 1);
        assert_eq!(deliveries[0].reply.answer, Answer::Ok(Bytes::from_static(body)));
    }

    pub fn ack(&mut self, client: &Client, below: u64, closed: &[(u64, u64)]) {
        let ack = Ack { registration: client.registration, below, closed: closed.to_vec() };
        self.dedup.ack(&ack, client.principal, self.now);
        self.dedup.audit();
    }

    pub fn cancel(&mut self, client: &Client, call: &Call) -> Option<Execution> {
        let cancel = Cancel { registration: call.registration, id: call.id };
        self.dedup.cancel(&cancel, client.principal, self.now)
    }

    /// Lets time pass on both clocks and sweeps until there is no more to do.
    pub fn pass(&mut self, time: Duration) {
        self.now.moment += time;
        self.now.wall.0 += time.as_millis() as u64;
        while self.dedup.sweep(self.now).is_some_and(|next| next <= self.now.moment) {}
        self.dedup.audit();
    }
}

impl Client {
    /// The first attempt of a sequenced `once` call.
    pub fn call(&self, number: u64) -> Call {
        Call {
            registration: self.registration,
            incarnation: self.incarnation,
            first_stamp: self.stamp,
            id: CallId::Sequenced(number),
            interface: 0xface,
            method: 3,
            retry: RetryClass::Once,
            attempt: 1,
            time_left: Duration::from_secs(5),
            acked_below: 0,
            trace: None,
            metadata: Vec::new(),
            issued: WallTime(0),
            body: Bytes::from_static(b"parameters"),
        }
    }

    /// The first attempt of a keyed `once` call, valid for an hour from 30 s after the store's birth.
    pub fn keyed(&self, key: u128) -> Call {
        let issued = WallTime(BORN.0 + 30_000);
        let key = Key { key, issued, expiry: WallTime(issued.0 + 3_600_000) };
        Call { id: CallId::Keyed(key), ..self.call(1) }
    }
}

/// The same call, another attempt.
pub(super) fn attempt(call: &Call, attempt: u32) -> Call {
    Call { attempt, ..call.clone() }
}

pub(super) fn classed(call: Call, retry: RetryClass) -> Call {
    Call { retry, ..call }
}

pub(super) fn ok(body: &'static [u8]) -> Terminal {
    Terminal::Ok(Bytes::from_static(body))
}

pub(super) fn unavailable() -> Terminal {
    Terminal::Unavailable { message: "no database".into(), retry_after: Some(Duration::from_millis(20)) }
}

pub(super) fn interrupted() -> Terminal {
    Terminal::Interrupted { message: "half-way".into(), retry_after: None }
}

pub(super) fn refusal(reply: &Reply) -> (Refusal, bool) {
    match &reply.answer {
        Answer::Refused(refused) => (refused.refusal, refused.ambiguous),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

impl Dedup {
    /// Adds up again what the machine counts as it goes.
    pub(super) fn audit(&self) {
        let notes: usize = self.sessions.values().map(Session::notes).sum();
        assert_eq!(self.notes, notes, "notes");
        assert_eq!(self.due.len(), self.sessions.len(), "each session is due once");
        let (mut bytes, mut keyed_bytes, mut ended) = (0, 0, 0);
        for (slot, record) in self.records.iter() {
            match record.id {
                CallId::Sequenced(_) => bytes += record.bytes(),
                CallId::Keyed(key) => {
                    keyed_bytes += record.bytes();
                    if record.kept {
                        assert_eq!(
                            self.keyed.find(record.principal, key.key, &self.records),
                            Some(slot),
                            "a keyed record is found"
                        );
                        ended += usize::from(matches!(record.state, State::Done(_)));
                    }
                }
            }
        }
        assert_eq!((self.records.bytes, self.records.keyed_bytes), (bytes, keyed_bytes), "bytes");
        assert_eq!(self.expiries.iter().count(), ended, "each ended keyed record expires");
        for (registration, session) in &self.sessions {
            let mut recorded = 0;
            let mut bytes = 0;
            for (number, entry) in session.entries() {
                assert!(!session.closed.contains(*number), "closed numbers are forgotten");
                let Some(slot) = entry.slot else { continue };
                let record = self.records.at(slot).expect("an entry points at a record");
                assert_eq!((record.registration, record.id), (*registration, CallId::Sequenced(*number)));
                recorded += usize::from(record.kept);
                bytes += record.bytes();
            }
            assert_eq!((session.recorded, session.bytes), (recorded, bytes), "a session's records");
            let running = |record: &Record| {
                record.registration == *registration && matches!(record.state, State::Running(_))
            };
            assert_eq!(
                session.running,
                self.records.iter().filter(|(_, r)| running(r)).count(),
                "a session's runs"
            );
        }
    }
}
