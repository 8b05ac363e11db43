//! The server's half of the deduplication protocol: which attempt of a call runs, which waits, which gets the reply of an earlier one,
//! and which is refused. One call, one effect, one reply; and a refusal says "not executed" only when that stays true. The rules, and
//! what went wrong without them, are in `docs/wire.md`; they follow RIFL (Lee et al., SOSP 2015) and correct it for a server
//! that forgets.
//!
//! It is not a store, a queue or a scheduler: it runs nothing, waits for nothing and sends nothing. The shell hands in hellos, calls,
//! acknowledgements, what became of a handler, and the time; it gets back what to answer and what to run. Between [`Admission::Execute`]
//! and [`Dedup::complete`] any time may pass, so a store may make the intent and the completion durable in between.
//!
//! ```text
//! call ─ admit ─┬─ Execute ─ (store, queue, handler) ─ complete ─ deliveries to all who joined
//!               ├─ Joined: answered by the complete of another attempt
//!               └─ Reply: from a record, or a refusal
//! ```
//!
//! Everything is bounded by [`Limits`]. Where a bound leaves no room for the mark that makes "not executed" true, the refusal is
//! ambiguous instead: the caller then learns `Unknown`, never a falsehood.

mod admission;
mod closed;
mod counters;
mod ending;
mod expiries;
#[cfg(feature = "sabotage")]
mod fingerprint;
mod keys;
mod limits;
mod record;
mod session;
mod stored;
#[cfg(test)]
mod tests;
mod upkeep;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use super::wire::{Answer, Call, Refused, Reply};
use super::{
    CallId, ConnectionId, Incarnation, Level, Moment, PrincipalId, Refusal, Registration, RetryClass, Stamp,
    WallTime,
};
use expiries::Expiries;
use keys::Keys;
use record::Records;
use session::Session;

pub use closed::Closed;
pub use counters::Counters;
pub use ending::{Delivery, Terminal};
pub use limits::Limits;
pub use record::{Execution, Imprint, bytes as answer_bytes};
pub use stored::Change;

/// Who this server is and what its store holds: told in each welcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// This life of the server process.
    pub incarnation: Incarnation,
    /// The store's id.
    pub store: u128,
    /// Of the store's content. In a memory store it changes with the incarnation.
    pub generation: u64,
    /// What the store survives.
    pub level: Level,
    /// The count of the store's incarnations; 0 if the store does not count them.
    pub ordinal: u64,
    /// When the store began, by this server's wall clock: older keyed nonces may have run under its predecessor.
    pub born: WallTime,
}

/// The time: both clocks, since leases and retention go by the one that never steps, and expiry by the one that clients know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub moment: Moment,
    /// The wall clock.
    pub wall: WallTime,
}

/// What a hello may need of the dice.
#[derive(Clone, Copy, Debug)]
pub struct Minted {
    /// Random and never reused. Used only if a session has to be registered.
    pub registration: Registration,
    /// Unique to the welcome.
    pub stamp: Stamp,
}

/// One attempt of a call, as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What the wire says.
    pub call: &'a Call,
    /// A hash of the body: of its bytes for a sequenced nonce (a client sends the same ones again), of its canonical form for a keyed one.
    pub digest: u128,
    /// Who the connection belongs to.
    pub principal: PrincipalId,
    /// Where the answer goes.
    pub from: ConnectionId,
    /// The class of the method in the server's contract. The stricter of this and the call's holds.
    pub class: RetryClass,
}

/// Why the shell would not run a new call now: overload, draining, a store that is down, a method that it does not have. It applies only
/// to what has to run; copies of what has run, or runs, are answered all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    /// The reason.
    pub refusal: Refusal,
    /// Do not retry earlier.
    pub retry_after: Option<Duration>,
    /// For people.
    pub message: String,
}

impl Shed {
    /// A reason without an explanation.
    pub fn new(refusal: Refusal) -> Self {
        Shed { refusal, retry_after: None, message: String::new() }
    }
}

/// What to do with an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Run the handler, then [`Dedup::complete`] this, whatever happens.
    Execute(Execution),
    /// Send this back: a reply from a record, or a refusal.
    Reply(Reply),
    /// Nothing: it is answered when the attempt that runs ends.
    Joined,
}

/// Registrations are minted at random by the server, so their own bits are the hash, and no peer can make them collide.
#[derive(Default)]
struct Random(u64);

impl Hasher for Random {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

type Sessions = HashMap<Registration, Session, BuildHasherDefault<Random>>;

/// The machine. See the [module](self).
#[derive(Clone, Debug)]
pub struct Dedup {
    identity: Identity,
    limits: Limits,
    sessions: Sessions,
    /// When each session is to be looked at next: once each.
    due: BinaryHeap<Reverse<(Moment, Registration)>>,
    records: Records,
    /// Keyed records.
    keyed: Keys,
    /// Keyed records that have ended, by expiry. Running ones are not here, so they are never collected.
    expiries: Expiries,
    /// The latest expiry of a deleted record: a nonce that expires no later is refused. So no clock that steps back revives it.
    floor: WallTime,
    /// Entries, marks and ranges of all sessions.
    notes: usize,
    /// What a store beside this table has to be told; nothing if there is none.
    changes: Vec<Change>,
    counters: Counters,
}

impl Dedup {
    /// An empty store. Limits on the number of records above 2^30 count as that: they are indexed by 32 bits.
    pub fn new(identity: Identity, mut limits: Limits) -> Self {
        limits.records = limits.records.min(1 << 30);
        limits.keyed = limits.keyed.min(1 << 30);
        Dedup {
            identity,
            limits,
            sessions: Sessions::default(),
            due: BinaryHeap::new(),
            records: Records::default(),
            keyed: Keys::default(),
            expiries: Expiries::default(),
            floor: WallTime(0),
            notes: 0,
            changes: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What was done so far and what is held now.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.sessions = self.sessions.len();
        counters.records = self.records.len();
        counters.keyed = self.keyed.len();
        counters.notes = self.notes;
        counters.bytes = self.records.bytes + self.records.keyed_bytes;
        counters.keyed_bytes = self.records.keyed_bytes;
        counters
    }

    fn refused(&mut self, refusal: Refusal, ambiguous: bool, message: &str) -> Refused {
        self.counters.count(refusal);
        Refused { refusal, ambiguous, retry_after: None, message: message.into() }
    }

    fn refuse(&mut self, call: &Call, refusal: Refusal, ambiguous: bool, message: &str) -> Admission {
        let refused = self.refused(refusal, ambiguous, message);
        Admission::Reply(reply(call.registration, call.id, call.attempt, false, Answer::Refused(refused)))
    }

    fn refuse_with(&mut self, call: &Call, shed: Shed, ambiguous: bool) -> Admission {
        self.counters.count(shed.refusal);
        let Shed { refusal, retry_after, message } = shed;
        let answer = Answer::Refused(Refused { refusal, ambiguous, retry_after, message });
        Admission::Reply(reply(call.registration, call.id, call.attempt, false, answer))
    }
}

fn reply(registration: Registration, id: CallId, attempt: u32, replayed: bool, answer: Answer) -> Reply {
    Reply { registration, id, attempt, replayed, answer }
}
