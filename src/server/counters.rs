//! What a server counts.

use crate::protocol::gate::GateCounters;

/// What happened at a server so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerCounters {
    /// Connections that are open.
    pub connections: usize,
    /// Calls whose handler was started.
    pub executed: u64,
    /// Calls answered from a record.
    pub replayed: u64,
    /// Attempts that joined a running call.
    pub joined: u64,
    /// Attempts that were refused, for any reason.
    pub refused: u64,
    /// Of those, attempts refused because the server was full.
    pub shed: u64,
    /// Messages, or entries in them, that could not be decoded.
    pub malformed: u64,
    /// Messages that were not sent, because their peer had gone or did not read.
    pub unsent: u64,
    /// Sessions that the server keeps.
    pub sessions: usize,
    /// Records that the server keeps, running ones included.
    pub records: usize,
    /// Bytes of the replies in them.
    pub record_bytes: usize,
    /// Of these records, keyed ones: they stay until they expire ([`keyed_records`](crate::ServerBuilder::keyed_records)).
    pub keyed_records: usize,
    /// Bytes of the replies in those ([`keyed_bytes`](crate::ServerBuilder::keyed_bytes)).
    pub keyed_bytes: usize,
    /// Operations of the store that are under way, or to be asked again; always 0 of a memory store.
    pub store_pending: usize,
    /// Handlers that run, and calls that wait for the store before theirs does.
    pub running: usize,
    /// Calls that wait for a handler.
    pub queued: usize,
    /// What happened at its gate: who was turned away, and which connections were closed for what.
    pub gate: GateCounters,
}
