//! The fingerprint of the deduplication machine; see `protocol::fingerprint`.

use std::hash::Hasher;

use super::record::{Execution, Record, Records};
use super::{Dedup, Moment};
use crate::protocol::fingerprint::shown;

impl Dedup {
    /// Adds all that decides what the machine does next.
    pub(in crate::protocol) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let Dedup {
            identity,
            limits: _,
            sessions,
            due: _,
            records,
            // Follow from the records.
            keyed: _,
            expiries,
            floor,
            notes: _,
            changes,
            counters: _,
        } = self;
        shown(&(identity, expiries, floor, changes), hasher);
        let mut sessions: Vec<_> = sessions.iter().collect();
        sessions.sort_unstable_by_key(|(registration, _)| **registration);
        for (registration, session) in sessions {
            let mut session = session.clone();
            session.seen = Moment::ZERO;
            shown(&(registration, session), hasher);
        }
        let Records { slots, free, serial: _, bytes: _, keyed_bytes: _ } = records;
        shown(free, hasher);
        for slot in slots {
            match slot {
                Some(Record { registration, principal, id, kept, imprint, state, serial: _ }) => {
                    shown(&(registration, principal, id, kept, imprint, state), hasher);
                }
                None => shown(&None::<()>, hasher),
            }
        }
    }

    /// What an execution's handle says apart from its serial: its place, and whether it still runs there. An ended one means nothing.
    pub(in crate::protocol) fn place(&self, execution: Execution) -> Option<u32> {
        (self.records.execution(execution.slot) == Some(execution)).then_some(execution.slot)
    }
}
