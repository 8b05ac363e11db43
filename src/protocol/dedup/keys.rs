//! Which key has which record: a hash table of eight bytes a key, since a million of them stay for a day and every keyed call looks here. It knows no
//! records; whether a place is the key's is asked of whoever has them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::super::PrincipalId;
use super::record::{Records, Slot};
use crate::protocol::CallId;

/// Places of keyed records. Peers choose the keys, so they are hashed under a secret; no result depends on the order.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    table: HashTable<Place>,
    secret: RandomState,
}

/// A record, with enough of its key's hash to move it when the table grows.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    slot: Slot,
}

impl Place {
    /// The table takes its bits from both ends of the hash.
    fn spread(&self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

impl Keys {
    fn place(&self, principal: PrincipalId, key: u128, slot: Slot) -> Place {
        Place { hash: self.secret.hash_one((principal, key)) as u32, slot }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The record of a key.
    pub fn find(&self, principal: PrincipalId, key: u128, records: &Records) -> Option<Slot> {
        let sought = self.place(principal, key, 0);
        let is_its = |place: &Place| {
            place.hash == sought.hash
                && records.at(place.slot).is_some_and(|record| {
                    record.principal == principal
                        && matches!(record.id, CallId::Keyed(other) if other.key == key)
                })
        };
        Some(self.table.find(sought.spread(), is_its)?.slot)
    }

    /// The key, which had none, has this record.
    pub fn insert(&mut self, principal: PrincipalId, key: u128, slot: Slot) {
        let place = self.place(principal, key, slot);
        self.table.insert_unique(place.spread(), place, Place::spread);
    }

    /// The key has no record any more, if it was this one.
    pub fn remove(&mut self, principal: PrincipalId, key: u128, slot: Slot) {
        let place = self.place(principal, key, slot);
        if let Ok(entry) = self.table.find_entry(place.spread(), |other| other.slot == slot) {
            entry.remove();
        }
    }
}
