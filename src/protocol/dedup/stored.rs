//! What the machine and a store beside it tell one another: what has changed here, and what is there. When which is asked is the business of `replica`.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;

use super::super::store::{Intent, StoredSession};
use super::super::wire::Answer;
use super::super::{CallId, Level, PrincipalId, Registration, WallTime};
use super::record::{Execution, Record, bytes};
use super::session::Session;
use super::{Dedup, Now};

/// What a store has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// More numbers of the session are closed.
    Closed(Registration),
    /// The session was idle for too long. With the highest number of which something was noted that is now forgotten, or 0.
    Ended(Registration, u64),
    /// A keyed record has expired.
    Expired(PrincipalId, u128, WallTime),
}

impl Dedup {
    /// Whether other replicas write to the store as well, so that this table does not know all that has run.
    pub(super) fn is_cache(&self) -> bool {
        self.identity.level.is_shared()
    }

    pub(super) fn note(&mut self, change: Change) {
        if self.identity.level != Level::Memory {
            self.changes.push(change);
        }
    }

    /// What has changed since the last time, in order. Empty if there is no store.
    pub fn changes(&mut self) -> impl Iterator<Item = Change> {
        self.changes.drain(..)
    }

    /// What a store has to know before the handler of this execution begins. None if its class leaves no record, or if it is over.
    pub fn intent(&self, execution: Execution) -> Option<Intent> {
        let record = self
            .records
            .at(execution.slot)
            .filter(|_| self.records.execution(execution.slot) == Some(execution))?;
        record.kept.then(|| record.intent())
    }

    /// The session lives for this principal.
    pub fn knows(&self, registration: Registration, principal: PrincipalId) -> bool {
        self.sessions.get(&registration).is_some_and(|session| session.principal == principal)
    }

    /// The client has closed this call while it ran.
    pub fn has_closed(&self, intent: &Intent) -> bool {
        match (intent.id, self.sessions.get(&intent.registration)) {
            (CallId::Sequenced(number), Some(session)) => session.closed.contains(number),
            _ => false,
        }
    }

    /// The numbers that the session's client has closed: all below, and ranges above.
    pub fn closed(&self, registration: Registration) -> Option<(u64, Vec<(u64, u64)>)> {
        let session = self.sessions.get(&registration)?;
        Some((session.closed.below(), session.closed.above().collect()))
    }

    /// Takes in a session that a store has. One that is known only learns what was closed elsewhere.
    pub fn adopt(&mut self, stored: &StoredSession, now: Now) {
        let StoredSession { registration, principal, below, ref ranges } = *stored;
        if let Entry::Vacant(place) = self.sessions.entry(registration) {
            // Whether a call has come under it is not known; if so, its retention is the long one.
            place.insert(Session::new(principal, now.moment)).used = true;
            self.due.push(Reverse((now.moment.saturating_add(self.limits.retention), registration)));
        }
        let noted = self.changes.len();
        self.close(registration, principal, below, ranges, now.moment);
        // The store has just told this itself.
        self.changes.truncate(noted);
    }

    /// Takes in a record that a store has. It is not bounded: what was let in before the restart is not dropped after it.
    pub fn restore(&mut self, intent: &Intent, answer: Answer) {
        match intent.id {
            CallId::Sequenced(number) => {
                let Some(session) = self.sessions.get_mut(&intent.registration) else { return };
                if session.closed.contains(number) || session.entry(number).is_some() {
                    return;
                }
                let before = session.notes();
                let execution = self.records.insert(Record::restored(intent));
                session.recorded += 1;
                session.bytes += bytes(&answer);
                session.note(number).slot = Some(execution.slot);
                self.notes += session.notes() - before;
                self.records.settle(execution.slot, answer);
            }
            CallId::Keyed(key) => {
                if self.keyed.find(intent.principal, key.key, &self.records).is_some() {
                    return;
                }
                let execution = self.records.insert(Record::restored(intent));
                self.keyed.insert(intent.principal, key.key, execution.slot);
                self.expiries.insert((key.expiry, intent.principal, key.key));
                self.records.settle(execution.slot, answer);
            }
        }
    }

    /// Nonces that expire no later than this are refused.
    pub fn raise_floor(&mut self, floor: WallTime) {
        self.floor = self.floor.max(floor);
    }

    /// The store's count of incarnations, as it is told in the next welcome.
    pub fn count_incarnations(&mut self, ordinal: u64) {
        self.identity.ordinal = ordinal;
    }

    /// The store does not know the session any more. What runs under it runs on and tells nobody.
    pub fn end_session(&mut self, registration: Registration) {
        if let Some(mut session) = self.sessions.remove(&registration) {
            self.notes -= session.notes();
            session.clear(&mut self.records);
            self.counters.sessions_ended += 1;
        }
    }
}
