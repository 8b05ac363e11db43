//! What a server asks of its store, and what the store may answer: the one interface between the machine in `replica` and whatever keeps records
//! beyond the life of a process. Not a store: those are in `crate::store`, and a simulated one in the simulator.
//!
//! The rules that every store keeps:
//!
//! - **Durable means durable.** [`Done::Stored`] and [`Done::Claimed`] are told only when the operation survives a crash of the process, and, if the
//!   store's level says so, of the machine.
//! - **One claim wins.** Of all claims of one record, by any replica, one is [`Claimed`](Done::Claimed) until the record is gone.
//! - **Definite means definite.** [`Done::NotDone`] is told only of an operation that had no effect and never will. What may still take effect is
//!   [`InDoubt`](Done::InDoubt).
//! - Operations of one record are asked one after another. Others may be done in any order, or at once, except in a store with a single
//!   owner (`durable`), which does them in the order in which they were asked.

use super::dedup::Imprint;
use super::wire::Answer;
use super::{CallId, Incarnation, PrincipalId, Registration, WallTime};

/// Names one operation under way. Never reused in one life of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Which record: of a sequenced call its registration and number, of a keyed call its principal and key. Statement 1 of the guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordId {
    /// A number of a registration.
    Sequenced(Registration, u64),
    /// A key of a principal.
    Keyed(PrincipalId, u128),
}

/// A call that is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The session under which it came.
    pub registration: Registration,
    /// Whose session that is.
    pub principal: PrincipalId,
    /// The nonce.
    pub id: CallId,
    /// What a later attempt has to match.
    pub imprint: Imprint,
}

impl Intent {
    /// The record that the call has, or is going to have.
    pub fn record(&self) -> RecordId {
        match self.id {
            CallId::Sequenced(number) => RecordId::Sequenced(self.registration, number),
            CallId::Keyed(key) => RecordId::Keyed(self.principal, key.key),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Keeps a new session. → `Stored`.
    Register {
        /// Just minted.
        registration: Registration,
        /// Whose it is.
        principal: PrincipalId,
    },
    /// Is this session live, and this principal's? Only asked of a store that several replicas share. → `Session`, `Gone`.
    Resume {
        /// The session.
        registration: Registration,
        /// Whose it should be.
        principal: PrincipalId,
    },
    /// Writes down that a call is about to run: inserts its record as running, owned by this incarnation; then, later than that, looks whether the session
    /// lives and has not passed the number (sequenced), or whether the expiry is above the floor (keyed), and undoes the insert if not.
    /// In an atomic store this opens the transaction that the handler works in. → `Claimed`, `Found`, `Passed`, `Gone`, `Expired`.
    Claim(Intent),
    /// What became of a claim or, in an atomic store, of its [`Finish`](Op::Finish), that ended in doubt. Waits until the transaction in doubt has ended
    /// by inserting the same record again, and undoes that: looking would not wait. → `Claimed` (the running record is this incarnation's own),
    /// `Found`, `Absent`, `Passed`, `Gone`.
    Settle(Intent),
    /// Ends a claimed record: keeps its answer, or removes it. Only if it is still this incarnation's running record; else → `Found`, or `Absent`.
    /// → `Stored`.
    Finish {
        /// The claim, for a store that keeps a transaction open meanwhile.
        claim: Ticket,
        /// As claimed.
        intent: Intent,
        /// The answer to keep, or none: the call did nothing that matters, and may run again.
        keep: Option<Answer>,
    },
    /// Looks at a record that somebody else runs. If its owner's lease has expired, or `abandon` is set and the owner is this incarnation, it becomes
    /// a recorded Unknown by compare-and-swap. Only asked of a store that several replicas share. → `Found`, `Absent`.
    Look {
        /// The record.
        record: RecordId,
        /// The caller knows that this incarnation runs no such call.
        abandon: bool,
    },
    /// The client has closed these numbers: raises the watermark and deletes ended records that it passes, in one transaction; running ones
    /// stay. Also refreshes the session. It need not be durable at once, but never partly. → `Stored`, `Gone`.
    Close {
        /// The session.
        registration: Registration,
        /// All numbers below are closed.
        below: u64,
        /// `(first, last)`, inclusive, above.
        ranges: Vec<(u64, u64)>,
    },
    /// The session is over: it goes, with its records. Only asked of a store with a single owner. → `Stored`.
    End(Registration),
    /// These keyed records have expired: raises the floor to the latest expiry, then deletes them, in one transaction. Only asked of a store with a
    /// single owner. → `Stored`.
    Expire(Vec<(PrincipalId, u128, WallTime)>),
    /// Time for housekeeping: a bounded number of idle sessions, expired keyed records (raising the floor) and unfinished records of dead owners. Only
    /// asked of a store that several replicas share. → `Stored`.
    Sweep,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Done, and durable.
    Stored,
    /// Registered, in a store that several replicas share.
    Registered {
        /// The store's count of incarnations now.
        ordinal: u64,
    },
    /// The session lives.
    Session {
        /// All numbers below are closed.
        below: u64,
        /// `(first, last)`, inclusive, above.
        ranges: Vec<(u64, u64)>,
        /// The store's count of incarnations now.
        ordinal: u64,
    },
    /// The record is this incarnation's: run the handler.
    Claimed,
    /// There is a record.
    Found(Found),
    /// There is no record, and of the operation in question there will be none.
    Absent,
    /// The session's committed watermark has passed the number.
    Passed,
    /// No such session.
    Gone,
    /// The keyed nonce expires no later than one whose record was deleted.
    Expired,
    /// Somebody holds the record and did not let go of it in time. Nothing was done.
    Busy,
    /// It had no effect and never will.
    NotDone(String),
    /// It may have had, or still get, its effect.
    InDoubt(String),
}

/// A record as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Of the call that has it.
    pub imprint: Imprint,
    /// How far it is.
    pub state: Kept,
}

/// How far a stored call is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It runs, at this owner.
    Running(Incarnation),
    /// It has ended.
    Ended(Answer),
}

/// What a store says, unasked or asked.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// The store is open. Comes once, first.
    Opened(Box<Opened>),
    /// An operation has ended. Comes once for each, unless the store stops.
    Done(Ticket, Done),
    /// The store cannot be reached for now; operations asked meanwhile are `NotDone`.
    Down(String),
    /// It can again.
    Up,
    /// The store will do nothing any more: what was asked and not answered may be done or not. A failed write or fsync, or a database that has become
    /// another one. Comes last.
    Stopped(String),
}

/// What a store holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opened {
    /// The store's id.
    pub store: u128,
    /// Of its content.
    pub generation: u64,
    /// The count of its incarnations, this one included.
    pub ordinal: u64,
    /// When it began.
    pub born: WallTime,
    /// The latest expiry of a deleted keyed record.
    pub floor: WallTime,
    /// Sessions, of a store with a single owner. Others are resumed one by one.
    pub sessions: Vec<StoredSession>,
    /// Ended records, of a store with a single owner: intents without completion have become recorded Unknowns before.
    pub records: Vec<(Intent, Answer)>,
}

/// A session as the store has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredSession {
    /// Which.
    pub registration: Registration,
    /// Whose.
    pub principal: PrincipalId,
    /// All numbers below are closed.
    pub below: u64,
    /// `(first, last)`, inclusive, above.
    pub ranges: Vec<(u64, u64)>,
}
