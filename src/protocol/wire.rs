//! The header frame: entries to frames and back. `schemas/wire.capnp` is its schema, `docs/wire.md` explains it to the byte.
//!
//! [`Encoder`] gathers entries to a message, [`decode()`] takes one apart. Neither knows what an entry means, who sent it or whether it is
//! in order: that is for the machines beside this one. The leading empty frame of a plain REQ socket and the topic frame of an event
//! are not part of what is decoded here: the shell takes them off, and puts them back on the way out.

mod align;
mod decode;
mod encode;
mod limits;
mod mapping;
mod put;
mod saved;
mod segments;
mod size;
mod take;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub use align::aligned;
pub(crate) use align::copied;
pub use decode::{BadEntry, DecodeError, Decoded, Subject, decode};
pub use encode::{Encoder, FLUSH, NotTaken, OWN_FRAME};
pub use limits::Limits;
pub use mapping::{numbered_refusal, refusal_number};
pub use saved::{SavedCall, SavedCallError, decode_saved, encode_saved};
pub(crate) use segments::Segments;

use super::{CallId, Incarnation, Level, Refusal, Registration, RetryClass, Session, Stamp, WallTime};

/// The version of the protocol that this library speaks.
pub const VERSION: u16 = 1;

/// The version that both are going to speak if the other side speaks all up to `theirs`: the lower of the two. `None` if that is 0,
/// which is no version: the hello is then refused as [`Refusal::Incompatible`].
pub fn negotiate(theirs: u16) -> Option<u16> {
    Some(theirs.min(VERSION)).filter(|version| *version > 0)
}

/// One entry of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Call`].
    Call(Call),
    /// See [`Reply`].
    Reply(Reply),
    /// See [`Cancel`].
    Cancel(Cancel),
    /// See [`Ack`].
    Ack(Ack),
    /// To be answered by a pong with the same number.
    Ping(u64),
    /// The answer to a ping.
    Pong(u64),
    /// See [`Goodbye`].
    Goodbye(Goodbye),
    /// See [`Event`].
    Event(Event),
    /// See [`Numbers`].
    Numbers(Numbers),
}

/// The client's first entry on a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// Echoed by the welcome.
    pub id: u64,
    /// The highest version that the client speaks.
    pub version: u16,
    /// The client's life.
    pub session: Session,
    /// The registration to resume.
    pub resume: Option<Registration>,
    /// As in a call.
    pub acked_below: u64,
    /// The interfaces that the client is going to call.
    pub contracts: Vec<Contract>,
}

/// What a peer knows of one interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contract {
    /// The interface's type id.
    pub interface: u64,
    /// Of all that its compiled schema says.
    pub fingerprint: u64,
    /// `(member, form)`: two contracts are compatible if each member that both have is of one form.
    pub shape: Vec<(u64, u64)>,
}

/// The server's answer to a hello.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Welcome {
    /// The hello's id.
    pub hello: u64,
    /// The version that both are going to speak.
    pub version: u16,
    /// Under which the client's calls run from now on.
    pub registration: Registration,
    /// The server's life.
    pub incarnation: Incarnation,
    /// Unique to this welcome.
    pub stamp: Stamp,
    /// The store's id.
    pub store: u128,
    /// Of the store's content.
    pub generation: u64,
    /// What the store survives.
    pub level: Level,
    /// The count of the store's incarnations; 0 if the store does not count them.
    pub ordinal: u64,
    /// How long an idle session is kept.
    pub retention: Duration,
    /// Calls that may be open at once under one registration.
    pub window: u32,
    /// The interval of pings on an otherwise silent connection.
    pub heartbeat: Duration,
    /// The longest body that the server takes, in bytes.
    pub body_limit: u32,
    /// Of the hello's contracts: those whose fingerprints differ, with the server's shape.
    pub contracts: Vec<Contract>,
}

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Under which it runs.
    pub registration: Registration,
    /// The server's current life, from this connection's welcome.
    pub incarnation: Incarnation,
    /// The stamp of the welcome under which the call was first sent.
    pub first_stamp: Stamp,
    /// The nonce.
    pub id: CallId,
    /// The interface's type id.
    pub interface: u64,
    /// The method's ordinal.
    pub method: u16,
    /// As the client's contract has it.
    pub retry: RetryClass,
    /// From 1; never repeats in a call.
    pub attempt: u32,
    /// Until the caller's deadline. Whole milliseconds on the wire, rounded up.
    pub time_left: Duration,
    /// All sequenced calls of this registration below this number are closed at the client.
    pub acked_below: u64,
    /// W3C trace context.
    pub trace: Option<Trace>,
    /// When the caller made the call, by its clock; the same in every attempt. Ignored for a keyed nonce, which bears its own.
    pub issued: WallTime,
    /// Names and values for the handler.
    pub metadata: Vec<(String, Bytes)>,
    /// The parameters: a Cap'n Proto message in stream framing, 8-byte aligned.
    pub body: Bytes,
}

/// W3C trace context, version 00.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: u128,
    /// The span of the caller.
    pub parent: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

/// The answer to one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// As in the call.
    pub registration: Registration,
    /// As in the call.
    pub id: CallId,
    /// The attempt that is answered.
    pub attempt: u32,
    /// From the record of an earlier attempt.
    pub replayed: bool,
    /// The answer.
    pub answer: Answer,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The method's result, a Cap'n Proto message, 8-byte aligned.
    Ok(Bytes),
    /// The contract's typed no.
    Declined {
        /// The type id of the fault.
        fault: u64,
        /// The fault, a Cap'n Proto message, 8-byte aligned.
        body: Bytes,
    },
    /// The handler failed, and this is recorded.
    Failed(String),
    /// See [`Refused`].
    Refused(Refused),
}

/// An error of the library, before the handler or instead of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// False: this attempt certainly did not run and never will. True: that is not known.
    pub ambiguous: bool,
    /// Do not retry earlier.
    pub retry_after: Option<Duration>,
    /// For people.
    pub message: String,
}

/// Nobody waits for this call any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Cancel {
    /// As in the call.
    pub registration: Registration,
    /// As in the call.
    pub id: CallId,
}

/// Acknowledgements without a call to carry them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack {
    /// As in a call.
    pub registration: Registration,
    /// As a call's `acked_below`.
    pub below: u64,
    /// Ranges `(first, last)`, inclusive, of closed numbers at or above `below`.
    pub closed: Vec<(u64, u64)>,
}

/// The sender is going away, or refuses what it got on this connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Goodbye {
    /// For people.
    pub reason: String,
    /// None at an orderly shutdown.
    pub refusal: Option<Refusal>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The publisher's incarnation.
    pub publisher: u64,
    /// Counts up when the publisher, having forgotten a key, numbers it anew.
    pub epoch: u64,
    /// Of this topic and key in this epoch, from 1.
    pub sequence: u64,
    /// The type id of the event's struct.
    pub type_id: u64,
    /// W3C trace context.
    pub trace: Option<Trace>,
    /// The event, a Cap'n Proto message, 8-byte aligned.
    pub body: Bytes,
}

/// The last number of each topic and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// The publisher's incarnation.
    pub publisher: u64,
    /// The sync that this answers, 0 in a beacon.
    pub sync: u64,
    /// The whole topic frame, epoch, sequence.
    pub last: Vec<Last>,
    /// The list was cut at the publisher's limit.
    pub more: bool,
    /// In the answer to a sync: the interval of the beacons that follow, in whole milliseconds. Zero in a beacon.
    pub interval: Duration,
    /// In the answer to a sync: topics, without key, that the subscriber asked for and may not read.
    pub denied: Vec<String>,
}

/// The last number of one topic and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Last {
    /// Topic, `/`, key.
    pub topic: Bytes,
    /// As in an event.
    pub epoch: u64,
    /// As in an event.
    pub sequence: u64,
}
