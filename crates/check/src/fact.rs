//! What can be observed from outside. Plain data.

/// Microseconds on a clock that all parts of the run share.
pub type Time = u64;

/// The identity of a call on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nonce {
    /// A number of a registration.
    Sequenced {
        /// What the server minted.
        registration: u128,
        /// From 1.
        number: u64,
    },
    /// A key of a principal.
    Keyed {
        /// Whose key it is.
        principal: u64,
        /// The key.
        key: u128,
    },
}

/// What the contract says about calling again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// At most one effect, retried.
    Once,
    /// At most one effect, never retried.
    Never,
    /// As many executions as it takes.
    Idempotent,
    /// No effect; its executions are logged as if they were some.
    ReadOnly,
}

impl Class {
    /// More than one effect breaks the promise.
    pub fn is_strict(self) -> bool {
        matches!(self, Class::Once | Class::Never)
    }
}

/// What a caller was told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The reply, by its hash.
    Ok(u64),
    /// The contract's typed no, by its hash. The handlers of a checked run do nothing before they decline.
    Declined(u64),
    /// The handler failed; it may have had its effect.
    Failed,
    /// It executed, but its reply is gone.
    Yes,
    /// It did not execute and never will.
    No,
    /// It may have executed.
    Unknown {
        /// Asking again under the same nonce can tell no more: the nonce has expired, or its store has been lost.
        lasting: bool,
    },
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replied {
    /// The reply, by its hash.
    Ok(u64),
    /// The contract's typed no, by its hash.
    Declined(u64),
    /// The handler failed, by the hash of what it said.
    Failed(u64),
    /// The record says that nobody knows.
    RecordedUnknown,
    /// The client had closed the call before.
    Stale,
    /// No such session.
    SessionUnknown,
    /// The keyed nonce has expired.
    Expired,
    /// It ran, and its reply was too large to keep.
    ReplyEvicted,
}

impl Replied {
    /// An answer that every attempt of the call has to get.
    pub fn is_terminal(self) -> bool {
        matches!(self, Replied::Ok(_) | Replied::Declined(_) | Replied::Failed(_) | Replied::RecordedUnknown)
    }

    /// An answer after which no effect may start.
    pub fn is_final_refusal(self) -> bool {
        matches!(self, Replied::Stale | Replied::SessionUnknown | Replied::Expired)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A caller made a call. One intention may be called several times under one key.
    Call {
        /// Names this call in the log.
        call: u64,
        /// The intention behind it.
        purpose: u64,
        /// What its contract promises.
        class: Class,
        /// The key, if it was called under one.
        key: Option<Nonce>,
        /// A hash of its parameters.
        body: u64,
        /// The counter that each execution adds one to, if that is all that its parameters say: then effects do not name a purpose.
        tally: Option<u64>,
        /// When its caller stops waiting.
        deadline: Time,
    },
    /// A caller was told.
    Told {
        /// The call.
        call: u64,
        /// Its nonce, if it was sent.
        nonce: Option<Nonce>,
        /// What.
        told: Told,
    },
    /// The caller cancelled, or is dead: it will not be told.
    Left {
        /// The call.
        call: u64,
    },
    /// A handler began.
    Start {
        /// Of the call that it serves.
        nonce: Nonce,
        /// Where.
        replica: u64,
        /// In which life of that server.
        incarnation: u64,
    },
    /// The effect happened: for good, and visible to others.
    Effect {
        /// Of the call.
        nonce: Nonce,
        /// The intention, if the parameters name it.
        purpose: Option<u64>,
        /// The counter, if they name one.
        tally: Option<u64>,
        /// A hash of the parameters as the handler had them.
        body: u64,
        /// Where.
        replica: u64,
        /// In which life of that server.
        incarnation: u64,
    },
    /// A reply was put on the wire.
    Reply {
        /// Of the call.
        nonce: Nonce,
        /// The attempt that it answers.
        attempt: u32,
        /// By whom.
        replica: u64,
        /// In which life of that server.
        incarnation: u64,
        /// What it says.
        replied: Replied,
    },
    /// From now on nothing is disturbed any more.
    Healed,
    /// Something was counted that has a bound.
    Measure {
        /// What. No spaces.
        what: String,
        /// How much there is.
        value: u64,
        /// How much there may be.
        at_most: u64,
    },
}
