//! What the machine has done and what it holds, for metrics and for tests.

use super::super::Refusal;

/// Refusals are few, and their numbers dense.
const REFUSALS: usize = Refusal::RecordedUnknown as usize + 1;

/// Counts since the start, and sizes now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hellos that resumed a session.
    pub resumed: u64,
    /// Hellos for which a session was registered.
    pub registered: u64,
    /// Sessions that ended because they had been silent for longer than their retention.
    pub sessions_ended: u64,
    /// Attempts for which a handler was to be run.
    pub admitted: u64,
    /// Attempts that were answered from a record.
    pub replayed: u64,
    /// Attempts that joined a running one.
    pub joined: u64,
    /// Runs that ended with a record.
    pub recorded: u64,
    /// Runs that ended without one, since nothing, or nothing that matters, had been done.
    pub dropped: u64,
    /// Replies too large to keep.
    pub tombstones: u64,
    /// Keyed records that have expired.
    pub expired: u64,
    /// Runs that ended a second time, or after their record was gone.
    pub late: u64,
    refused: [u64; REFUSALS],
    /// Sessions now.
    pub sessions: usize,
    /// Records now, running ones included.
    pub records: usize,
    /// Of these, keyed ones.
    pub keyed: usize,
    /// Entries, marks and ranges that the sessions hold now.
    pub notes: usize,
    /// Bytes of replies kept now, all in all.
    pub bytes: usize,
    /// Of these, of keyed records.
    pub keyed_bytes: usize,
}

impl Counters {
    /// Attempts and hellos that were refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }

    pub(super) fn count(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }
}
