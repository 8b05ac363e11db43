//! The store of one server: a file that survives it. It does one operation after another, each wholly or not at all, and all that it has said is durable.

use std::collections::BTreeMap;

use selfsame::protocol::store::{Done, Found, Intent, Kept, Op, Opened, RecordId, StoredSession};
use selfsame::protocol::wire::{Answer, Refused};
use selfsame::protocol::{PrincipalId, Refusal, Registration, WallTime};
use selfsame::sabotage::{Bug, is_planted};

/// What a session has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Closed {
    /// All numbers below.
    pub below: u64,
    /// And these ranges, inclusive.
    pub ranges: Vec<(u64, u64)>,
}

impl Closed {
    /// Whether a number is closed.
    pub fn contains(&self, number: u64) -> bool {
        number < self.below || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }
}

/// The content of the file.
#[derive(Clone, Debug, Default)]
pub struct File {
    lives: u64,
    sessions: BTreeMap<Registration, (PrincipalId, Closed)>,
    /// None: an intent, no completion.
    records: BTreeMap<RecordId, (Intent, Option<Answer>)>,
    floor: WallTime,
}

impl File {
    /// Whether all numbers below are closed.
    pub fn has_closed(&self, registration: Registration, below: u64) -> bool {
        self.sessions
            .get(&registration)
            .is_none_or(|(_, closed)| (1..below).all(|number| closed.contains(number)))
    }

    /// Does one operation.
    pub fn does(&mut self, op: &Op) -> Done {
        match op {
            Op::Register { registration, principal } => {
                self.sessions.insert(*registration, (*principal, Closed::default()));
                Done::Stored
            }
            Op::Claim(intent) => match self.records.get(&intent.record()) {
                Some((_, None)) => Done::InDoubt("its record is there and runs".into()),
                Some((of, Some(answer))) => {
                    Done::Found(Found { imprint: of.imprint, state: Kept::Ended(answer.clone()) })
                }
                None => {
                    self.records.insert(intent.record(), (*intent, None));
                    Done::Claimed
                }
            },
            Op::Finish { intent, keep, .. } => {
                match keep {
                    Some(answer) => {
                        if let Some(record) = self.records.get_mut(&intent.record()) {
                            record.1 = Some(answer.clone());
                        }
                    }
                    None => {
                        self.records.remove(&intent.record());
                    }
                }
                Done::Stored
            }
            Op::Close { registration, below, ranges } => {
                let Some((_, closed)) = self.sessions.get_mut(registration) else { return Done::Gone };
                closed.below = closed.below.max(*below);
                closed.ranges = ranges.clone();
                let closed = closed.clone();
                self.records.retain(|id, (_, answer)| match id {
                    RecordId::Sequenced(of, number) => {
                        answer.is_none() || of != registration || !closed.contains(*number)
                    }
                    RecordId::Keyed(..) => true,
                });
                Done::Stored
            }
            Op::End(registration) => {
                self.sessions.remove(registration);
                self.records.retain(|id, _| !matches!(id, RecordId::Sequenced(of, _) if of == registration));
                Done::Stored
            }
            Op::Expire(keys) => {
                for (principal, key, expiry) in keys {
                    self.floor = self.floor.max(*expiry);
                    self.records.remove(&RecordId::Keyed(*principal, *key));
                }
                Done::Stored
            }
            Op::Resume { .. } | Op::Settle(_) | Op::Look { .. } | Op::Sweep => {
                Done::NotDone("not asked of a file".into())
            }
        }
    }

    /// A server opens it: an intent without completion becomes a recorded Unknown first.
    pub fn opens(&mut self) -> Opened {
        self.lives += 1;
        let unknown = || {
            let (refusal, message) = (Refusal::RecordedUnknown, String::new());
            Answer::Refused(Refused { refusal, ambiguous: true, retry_after: None, message })
        };
        let sessions = &self.sessions;
        self.records.retain(|id, (_, answer)| {
            if answer.is_none() && is_planted(Bug::UnfinishedForgottenAtOpen) {
                return false;
            }
            answer.get_or_insert_with(unknown);
            match id {
                RecordId::Sequenced(of, number) => {
                    sessions.get(of).is_some_and(|(_, closed)| !closed.contains(*number))
                }
                RecordId::Keyed(..) => true,
            }
        });
        Opened {
            store: 1,
            generation: 1,
            ordinal: self.lives,
            born: WallTime(0),
            floor: self.floor,
            sessions: self
                .sessions
                .iter()
                .map(|(registration, (principal, closed))| StoredSession {
                    registration: *registration,
                    principal: *principal,
                    below: closed.below,
                    ranges: closed.ranges.clone(),
                })
                .collect(),
            records: self
                .records
                .values()
                .filter_map(|(intent, answer)| Some((*intent, answer.clone()?)))
                .collect(),
        }
    }
}
