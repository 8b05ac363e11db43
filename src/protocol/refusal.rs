//! Refusals: the answers that are not a handler's. When each is given is decided by the machines; here is what it means.

use std::fmt;

/// An error of the library: before a handler started, or in place of its answer.
///
/// `Display` says what happened and what to do; [`Error`](crate::Error) adds what is known beyond that, and whether the call executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The call names another incarnation of the server; the client says hello again and resends. Between client and server: no caller sees it.
    HelloFirst,
    /// The call runs already, and too many attempts wait for it, or one of the same key is open in this client.
    InProgress,
    /// The client, the server, or a cap of its tables, is full. Safe to retry, also elsewhere.
    Overloaded,
    /// The server is draining.
    ShuttingDown,
    /// The handler, or the store, could not serve the call and did nothing; or the connection was lost that a `never` call was sent on.
    Unavailable,
    /// The handler stopped half-way; all that it did were calls `.within` its request, so running it again is safe.
    Interrupted,
    /// The nonce was used for another method or other parameters.
    Mismatch,
    /// The client had closed this number before.
    Stale,
    /// The server does not know the session (any more).
    SessionUnknown,
    /// Another client uses the same session: a copied process or machine.
    SessionShared,
    /// The store has lost, or is another than, the one under which the call was first sent.
    StoreChanged,
    /// The keyed nonce is past its expiry, or older than the store.
    Expired,
    /// The call ran, but its reply was too large to keep.
    ReplyEvicted,
    /// The caller cancelled the call before it started. No caller sees it, since whoever cancels a call waits for it no longer.
    Cancelled,
    /// The call's time was up before it started.
    Deadline,
    /// The server has no such interface or method.
    UnknownMethod,
    /// Client and server disagree about the contract or the protocol's version.
    Incompatible,
    /// The message could not be decoded.
    Malformed,
    /// Body, header or metadata exceed a limit.
    TooLarge,
    /// The peer may not do this.
    Denied,
    /// The server stopped while the call ran; whether it had an effect is not known, and this is recorded.
    RecordedUnknown,
}

impl Refusal {
    /// For people: its name, what it means, and what is known beyond that.
    pub(crate) fn told(self, more: &str) -> String {
        match more {
            "" => format!("{self:?}: {self}"),
            more => format!("{self:?}: {self} ({more})"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::HelloFirst => "the server is another incarnation than the one that has welcomed this client",
            Refusal::InProgress => "the call is being made already; wait, and ask again later",
            Refusal::Overloaded => "too much is under way; try again later, or elsewhere",
            Refusal::ShuttingDown => "the server is shutting down; try again later, or elsewhere",
            Refusal::Unavailable => "the service is not available now; try again later",
            Refusal::Interrupted => "the handler stopped half-way, where it is safe to run it again; try again",
            Refusal::Mismatch => {
                "the nonce was used for another method or other parameters; repeat those, or take a new nonce"
            }
            Refusal::Stale => {
                "the call was over already for its client's session; look at what it should have changed"
            }
            Refusal::SessionUnknown => {
                "the server does not know this client's session any more; look at what the call should have changed"
            }
            Refusal::SessionShared => {
                "another client, as of a copied process or machine, uses the same session; look at what the call should have changed"
            }
            Refusal::StoreChanged => {
                "the server has another store than when the call was first sent; look at what the call should have changed"
            }
            Refusal::Expired => {
                "the nonce has expired, or is older than the server's store; look at what the call should have changed"
            }
            Refusal::ReplyEvicted => {
                "the call ran, but its reply was too large to keep; ask for what it changed by another call"
            }
            Refusal::Cancelled => "the call was cancelled before it started",
            Refusal::Deadline => "the call's time was up before it started; give it more",
            Refusal::UnknownMethod => {
                "the server has no such interface or method; is it another service's, or older than this client?"
            }
            Refusal::Incompatible => {
                "the contracts or the library's versions of client and server do not go together; build both from one schema, or from one that only adds to the other"
            }
            Refusal::Malformed => "the message cannot be decoded; something between or at the peers damages it",
            Refusal::TooLarge => "a limit is exceeded; send less, or raise the limit on both sides",
            Refusal::Denied => "the server's rules do not allow it; change them, or call as another principal",
            Refusal::RecordedUnknown => {
                "the server stopped while the call ran, and this is all that will ever be known of it; look at what it should have changed"
            }
        })
    }
}
