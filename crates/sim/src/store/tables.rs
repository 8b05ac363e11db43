//! What a store holds, and what each operation does to it when nothing goes wrong.

use std::collections::BTreeMap;

use selfsame::protocol::dedup::Imprint;
use selfsame::protocol::store::{Found, Intent, Kept, RecordId, StoredSession};
use selfsame::protocol::wire::{Answer, Refused};
use selfsame::protocol::{CallId, Incarnation, Moment, PrincipalId, Refusal, Registration, WallTime};

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    pub principal: PrincipalId,
    pub below: u64,
    pub ranges: Vec<(u64, u64)>,
    pub seen: Moment,
}

/// A record.
#[derive(Clone, Debug)]
pub struct Row {
    pub intent: Intent,
    pub state: Kept,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub sessions: BTreeMap<Registration, Session>,
    pub rows: BTreeMap<RecordId, Row>,
    pub floor: WallTime,
}

/// Why a claim may not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    Gone,
    Passed,
    Expired,
}

/// What is recorded of a call of which nobody knows whether it ran.
pub fn nobody_knows() -> Answer {
    let (refusal, message) = (Refusal::RecordedUnknown, String::new());
    Answer::Refused(Refused { refusal, ambiguous: true, retry_after: None, message })
}

impl Session {
    /// The client has closed the number.
    pub fn has_closed(&self, number: u64) -> bool {
        number < self.below || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    fn close(&mut self, below: u64, ranges: &[(u64, u64)]) {
        let mut below = self.below.max(below);
        let mut all: Vec<_> = self.ranges.iter().chain(ranges).copied().collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (first, last) in all {
            if first <= below {
                below = below.max(last.saturating_add(1));
                continue;
            }
            match merged.last_mut() {
                Some((_, until)) if first <= until.saturating_add(1) => *until = last.max(*until),
                _ => merged.push((first, last)),
            }
        }
        merged.retain(|(_, last)| *last >= below);
        (self.below, self.ranges) = (below, merged);
    }
}

impl Tables {
    pub fn register(&mut self, registration: Registration, principal: PrincipalId, now: Moment) {
        let session = Session { principal, below: 1, ranges: Vec::new(), seen: now };
        self.sessions.entry(registration).or_insert(session);
    }

    pub fn found(&self, record: RecordId) -> Option<Found> {
        let row = self.rows.get(&record)?;
        let imprint: Imprint = row.intent.imprint;
        Some(Found { imprint, state: row.state.clone() })
    }

    /// Whether the session lives and has not passed the call, or whether the key is still valid.
    pub fn bar(&self, intent: &Intent) -> Option<Bar> {
        match intent.id {
            CallId::Sequenced(number) => match self.sessions.get(&intent.registration) {
                None => Some(Bar::Gone),
                Some(session) => session.has_closed(number).then_some(Bar::Passed),
            },
            CallId::Keyed(key) => (key.expiry <= self.floor).then_some(Bar::Expired),
        }
    }

    pub fn insert(&mut self, intent: Intent, owner: Incarnation) {
        self.rows.insert(intent.record(), Row { intent, state: Kept::Running(owner) });
    }

    /// Whether this is the owner's running record.
    pub fn runs_at(&self, record: RecordId, owner: Incarnation) -> bool {
        self.rows.get(&record).is_some_and(|row| row.state == Kept::Running(owner))
    }

    pub fn put(&mut self, intent: Intent, keep: Option<Answer>) {
        match keep {
            Some(answer) => {
                self.rows.insert(intent.record(), Row { intent, state: Kept::Ended(answer) });
            }
            None => {
                self.rows.remove(&intent.record());
            }
        }
    }

    /// False: no such session.
    pub fn close(
        &mut self,
        registration: Registration,
        below: u64,
        ranges: &[(u64, u64)],
        now: Moment,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&registration) else { return false };
        session.close(below, ranges);
        session.seen = session.seen.max(now);
        self.delete_passed(registration);
        true
    }

    /// Deletes ended records that the session has passed.
    pub fn delete_passed(&mut self, registration: Registration) {
        let Some(session) = self.sessions.get(&registration) else { return };
        let all = RecordId::Sequenced(registration, 0)..=RecordId::Sequenced(registration, u64::MAX);
        let passed: Vec<_> = self
            .rows
            .range(all)
            .filter(|(record, row)| {
                let RecordId::Sequenced(_, number) = record else { return false };
                session.has_closed(*number) && matches!(row.state, Kept::Ended(_))
            })
            .map(|(record, _)| *record)
            .collect();
        for record in passed {
            self.rows.remove(&record);
        }
    }

    pub fn has_running(&self, registration: Registration) -> bool {
        let all = RecordId::Sequenced(registration, 0)..=RecordId::Sequenced(registration, u64::MAX);
        self.rows.range(all).any(|(_, row)| matches!(row.state, Kept::Running(_)))
    }

    pub fn end(&mut self, registration: Registration) {
        self.sessions.remove(&registration);
        self.rows
            .retain(|record, _| !matches!(record, RecordId::Sequenced(whose, _) if *whose == registration));
    }

    pub fn expire(&mut self, keys: &[(PrincipalId, u128, WallTime)]) {
        for (principal, key, expiry) in keys {
            self.floor = self.floor.max(*expiry);
            self.rows.remove(&RecordId::Keyed(*principal, *key));
        }
    }

    /// What ran at an owner that is gone.
    pub fn running(&self) -> impl Iterator<Item = (RecordId, Incarnation)> {
        self.rows.iter().filter_map(|(record, row)| match row.state {
            Kept::Running(owner) => Some((*record, owner)),
            Kept::Ended(_) => None,
        })
    }

    pub fn stored_sessions(&self) -> Vec<StoredSession> {
        let stored = |(registration, session): (&Registration, &Session)| StoredSession {
            registration: *registration,
            principal: session.principal,
            below: session.below,
            ranges: session.ranges.clone(),
        };
        self.sessions.iter().map(stored).collect()
    }

    pub fn ended(&self) -> Vec<(Intent, Answer)> {
        let ended = |row: &Row| match &row.state {
            Kept::Ended(answer) => Some((row.intent, answer.clone())),
            Kept::Running(_) => None,
        };
        self.rows.values().filter_map(ended).collect()
    }
}
