//! What goes into the machine and what comes out.

use std::time::Duration;

use bytes::Bytes;

pub use crate::protocol::Outcome;
use crate::protocol::wire::{Entry, Trace};
use crate::protocol::{CallId, Key, Moment, Refusal, Registration, RetryClass, Session, WallTime};

/// A call as its caller wants it.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The interface's type id.
    pub interface: u64,
    /// The method's ordinal.
    pub method: u16,
    /// What the contract says about sending it again.
    pub retry: RetryClass,
    /// The parameters in stream framing. Every attempt sends the same bytes.
    pub body: Bytes,
    /// One deadline over all attempts.
    pub deadline: Moment,
    /// A keyed nonce, or `None` for a sequenced one. A key outlives this client, and an earlier life, or
    /// another attempt of the handler that derived it, may have sent it; so a keyed call that is not answered
    /// is never told that it did not run.
    pub key: Option<Key>,
    /// When the caller made the call, by its wall clock.
    pub issued: WallTime,
    /// W3C trace context.
    pub trace: Option<Trace>,
    /// Names and values for the handler.
    pub metadata: Vec<(String, Bytes)>,
}

/// Names an open call. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub(super) slot: u32,
    pub(super) life: u32,
}

impl Handle {
    /// A small number that no other open call has: an index into whatever the shell keeps of open calls.
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this on the present connection.
    Send(Entry),
    /// Tell the caller. The handle is dead from now on.
    Done(Handle, Ended),
    /// Drop the connection and dial again, the next endpoint if there are several. The machine takes it as
    /// gone already.
    Reconnect {
        /// For people.
        why: String,
    },
    /// For logs and counters.
    Notice(Notice),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The nonce on the wire, if the call was sent, or has a key.
    pub id: Option<CallId>,
    /// The registration to which a sequenced nonce belongs.
    pub registration: Registration,
    /// How often it was sent.
    pub attempts: u32,
    /// The answer came from the record of an earlier attempt.
    pub replayed: bool,
    /// What to tell the caller.
    pub conclusion: Conclusion,
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Conclusion {
    /// The method's result.
    Ok(Bytes),
    /// Why there is none.
    Failed(Failure),
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What went wrong.
    pub why: Why,
    /// Whether it executed.
    pub outcome: Outcome,
    /// When the server asked not to be called again earlier.
    pub retry_after: Option<Duration>,
    /// For people.
    pub message: String,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The contract's typed no.
    Declined {
        /// The type id of the fault.
        fault: u64,
        /// The fault.
        body: Bytes,
    },
    /// The handler failed, and that is recorded.
    Failed,
    /// The library, here or at the server, refused the call.
    Refused(Refusal),
    /// The time was up.
    Deadline,
}

/// What a person who watches the client may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The connection is ready for calls.
    Welcomed {
        /// Under which calls run from now on.
        registration: Registration,
        /// It is the one that this client had before: nothing was lost.
        resumed: bool,
    },
    /// The server's contract of this interface is another than ours.
    ContractDiffers {
        /// The interface's name.
        interface: &'static str,
        /// False: members of both are of another form, and calls of the interface are refused here.
        compatible: bool,
    },
    /// A call is going to be sent again.
    Retrying {
        /// The call.
        handle: Handle,
        /// Why the attempt before was refused; `None` if nothing came back in time.
        refusal: Option<Refusal>,
        /// How long it waits.
        delay: Duration,
    },
    /// Somebody else used the session, so this client goes on under another.
    SessionReplaced {
        /// The one before.
        before: Session,
        /// The one from now on.
        now: Session,
    },
    /// The server is going away.
    Goodbye {
        /// In its words.
        reason: String,
    },
}

/// What the client did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls started.
    pub calls: u64,
    /// Calls sent, each time counted.
    pub attempts: u64,
    /// Of those, because an attempt was refused or not answered in time. Paid from the budget.
    pub retries: u64,
    /// Of those, because there was a new welcome.
    pub resends: u64,
    /// Retries that the budget did not allow.
    pub starved: u64,
    /// Answers that came from a record.
    pub replayed: u64,
    /// Calls that ended as [`Outcome::Unknown`].
    pub unknown: u64,
    /// Welcomes accepted.
    pub welcomes: u64,
    /// Of those, under a registration other than before.
    pub registrations: u64,
    /// Acks sent by themselves.
    pub acks: u64,
    /// Entries that nobody waits for, or that a server does not send.
    pub stray: u64,
}
