//! What a durable store holds, told without a file: maps, and sets of numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::store::{Done, Found, Intent, Kept, Op, Opened, RecordId};
use crate::protocol::wire::{Answer, Refused};
use crate::protocol::{CallId, Incarnation, Refusal, Registration, WallTime};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    floor: WallTime,
    /// The numbers below 100 that are closed, of each session.
    sessions: BTreeMap<Registration, BTreeSet<u64>>,
    records: BTreeMap<RecordId, (Intent, Kept)>,
}

impl Model {
    /// What a store says that it holds.
    pub fn of(opened: &Opened) -> Self {
        let mut model = Model { floor: opened.floor, ..Model::default() };
        for session in &opened.sessions {
            let mut closed: BTreeSet<u64> = (0..session.below).collect();
            for (first, last) in &session.ranges {
                closed.extend(*first..=*last);
            }
            model.sessions.insert(session.registration, closed);
        }
        for (intent, answer) in &opened.records {
            model.records.insert(intent.record(), (*intent, Kept::Ended(answer.clone())));
        }
        model
    }

    fn is_over(&self, id: RecordId) -> Option<Done> {
        match id {
            RecordId::Keyed(..) => None,
            RecordId::Sequenced(registration, number) => match self.sessions.get(&registration) {
                None => Some(Done::Gone),
                Some(closed) => closed.contains(&number).then_some(Done::Passed),
            },
        }
    }

    pub fn apply(&mut self, op: &Op, incarnation: Incarnation) -> Done {
        match op {
            Op::Register { registration, .. } => {
                self.sessions.insert(*registration, BTreeSet::from([0]));
            }
            Op::Claim(intent) => {
                let id = intent.record();
                if let Some((found, state)) = self.records.get(&id) {
                    return Done::Found(Found { imprint: found.imprint, state: state.clone() });
                }
                if let CallId::Keyed(key) = intent.id
                    && key.expiry <= self.floor
                {
                    return Done::Expired;
                }
                if let Some(over) = self.is_over(id) {
                    return over;
                }
                self.records.insert(id, (*intent, Kept::Running(incarnation)));
                return Done::Claimed;
            }
            Op::Finish { intent, keep, .. } => {
                let id = intent.record();
                if self.is_over(id).is_some() {
                    self.records.remove(&id);
                    return Done::Stored;
                }
                match self.records.get_mut(&id) {
                    None => return Done::Absent,
                    Some((found, Kept::Ended(answer))) => {
                        return Done::Found(Found {
                            imprint: found.imprint,
                            state: Kept::Ended(answer.clone()),
                        });
                    }
                    Some(record) => match keep {
                        Some(answer) => *record = (*intent, Kept::Ended(answer.clone())),
                        None => drop(self.records.remove(&id)),
                    },
                }
            }
            Op::Close { registration, below, ranges } => {
                let Some(closed) = self.sessions.get_mut(registration) else { return Done::Gone };
                closed.extend(0..*below);
                ranges.iter().for_each(|(first, last)| closed.extend(*first..=*last));
                let closed = closed.clone();
                self.records.retain(|id, (_, state)| match id {
                    RecordId::Sequenced(of, number) if of == registration && closed.contains(number) => {
                        matches!(state, Kept::Running(_))
                    }
                    _ => true,
                });
            }
            Op::End(registration) => {
                self.sessions.remove(registration);
                self.records.retain(|id, _| !matches!(id, RecordId::Sequenced(of, _) if of == registration));
            }
            Op::Expire(expired) => {
                for (principal, key, expiry) in expired {
                    self.floor = self.floor.max(*expiry);
                    let id = RecordId::Keyed(*principal, *key);
                    self.records.retain(|at, (intent, state)| {
                        let expired = matches!(intent.id, CallId::Keyed(key) if key.expiry <= *expiry);
                        *at != id || !expired || matches!(state, Kept::Running(_))
                    });
                }
            }
            Op::Resume { .. } | Op::Settle(_) | Op::Look { .. } | Op::Sweep => {
                unreachable!("never asked here")
            }
        }
        Done::Stored
    }

    /// After a new incarnation has opened it.
    pub fn recovered(&self, rerun: bool) -> Self {
        let mut model = self.clone();
        model.records.retain(|id, (_, state)| {
            let runs = matches!(state, Kept::Running(_));
            !runs || (!rerun && self.is_over(*id).is_none())
        });
        for (_, state) in model.records.values_mut() {
            if let Kept::Running(_) = state {
                *state = Kept::Ended(Answer::Refused(Refused {
                    refusal: Refusal::RecordedUnknown,
                    ambiguous: true,
                    retry_after: None,
                    message: "the server stopped while the call ran; whether it had its effect is not known"
                        .into(),
                }));
            }
        }
        model
    }
}
