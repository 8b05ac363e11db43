//! A map from topic frames to values that holds so many and forgets the one that was idle longest.
//!
//! It is what keeps both ends of a stream of events bounded, however many keys there are: the publisher's table of numbers and the
//! subscriber's. It is not a cache of anything that could be fetched again: what it forgets is forgotten, and its users say what that costs.

use bytes::Bytes;
use hashbrown::HashMap;

/// No slot: the end of the list of slots in either direction.
const NONE: u32 = u32::MAX;

/// See the module's documentation. All verbs take constant time but [`retain`](Recent::retain) and [`clear`](Recent::clear).
pub struct Recent<V> {
    capacity: usize,
    index: HashMap<Bytes, u32>,
    // A list through the slots in the order of use, so that the oldest and the newest are found without a search.
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

struct Slot<V> {
    topic: Bytes,
    value: Option<V>,
    newer: u32,
    older: u32,
}

impl<V> Recent<V> {
    /// An empty map that will hold `capacity` topic frames, at least one.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Recent {
            capacity,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// How many topic frames it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The value of a topic frame, without counting this as use.
    pub fn peek(&self, topic: &[u8]) -> Option<&V> {
        let slot = *self.index.get(topic)?;
        self.slots[slot as usize].value.as_ref()
    }

    /// The value of a topic frame, which becomes the one used last.
    pub fn touch(&mut self, topic: &[u8]) -> Option<&mut V> {
        let slot = *self.index.get(topic)?;
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
        self.slots[slot as usize].value.as_mut()
    }

    /// Enters a topic frame, or replaces its value, as the one used last. Returns the topic frame that had to be forgotten for it.
    pub fn insert(&mut self, topic: Bytes, value: V) -> Option<Bytes> {
        if let Some(known) = self.touch(&topic) {
            *known = value;
            return None;
        }
        let forgotten = if self.len() == self.capacity { self.forget(self.oldest) } else { None };
        let entered = Slot { topic: topic.clone(), value: Some(value), newer: NONE, older: NONE };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entered;
                slot
            }
            None => {
                self.slots.push(entered);
                self.slots.len() as u32 - 1
            }
        };
        self.index.insert(topic, slot);
        self.link(slot);
        forgotten
    }

    /// Topic frames and values, the one used last first.
    pub fn newest_first(&self) -> impl Iterator<Item = (&Bytes, &V)> {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(next as usize)?;
            next = slot.older;
            Some((&slot.topic, slot.value.as_ref()?))
        })
    }

    /// Forgets the topic frames that `keep` does not want kept.
    pub fn retain(&mut self, keep: impl Fn(&Bytes) -> bool) {
        let gone: Vec<u32> =
            self.index.iter().filter(|(topic, _)| !keep(topic)).map(|(_, slot)| *slot).collect();
        for slot in gone {
            self.forget(slot);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Recent::new(self.capacity);
    }

    fn forget(&mut self, slot: u32) -> Option<Bytes> {
        self.unlink(slot);
        let forgotten = self.slots.get_mut(slot as usize)?;
        forgotten.value = None;
        let topic = std::mem::take(&mut forgotten.topic);
        self.index.remove(&topic);
        self.free.push(slot);
        Some(topic)
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        self.slots[slot as usize].newer = NONE;
        self.slots[slot as usize].older = older;
        match older {
            NONE => self.oldest = slot,
            older => self.slots[older as usize].newer = slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Verb {
        Insert(u8, u32),
        Touch(u8),
        RetainBelow(u8),
    }

    fn verbs() -> impl Strategy<Value = Vec<Verb>> {
        let verb = prop_oneof![
            6 => (0..12u8, any::<u32>()).prop_map(|(topic, value)| Verb::Insert(topic, value)),
            3 => (0..12u8).prop_map(Verb::Touch),
            1 => (0..12u8).prop_map(Verb::RetainBelow),
        ];
        prop::collection::vec(verb, 0..200)
    }

    proptest! {
        /// Against the obvious list, newest first.
        #[test]
        fn it_holds_what_was_used_last(capacity in 1..8usize, verbs in verbs()) {
            let mut recent = Recent::new(capacity);
            let mut model: Vec<(u8, u32)> = Vec::new();
            for verb in verbs {
                match verb {
                    Verb::Insert(topic, value) => {
                        model.retain(|(known, _)| *known != topic);
                        model.insert(0, (topic, value));
                        let forgotten = (model.len() > capacity).then(|| Bytes::from(vec![model.pop().unwrap().0]));
                        prop_assert_eq!(recent.insert(Bytes::from(vec![topic]), value), forgotten);
                    }
                    Verb::Touch(topic) => {
                        let at = model.iter().position(|(known, _)| *known == topic);
                        prop_assert_eq!(recent.touch(&[topic]).copied(), at.map(|at| model[at].1));
                        if let Some(at) = at {
                            let used = model.remove(at);
                            model.insert(0, used);
                        }
                    }
                    Verb::RetainBelow(bound) => {
                        model.retain(|(known, _)| *known < bound);
                        recent.retain(|topic| topic[0] < bound);
                    }
                }
                let held: Vec<(u8, u32)> = recent.newest_first().map(|(topic, value)| (topic[0], *value)).collect();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(recent.len(), model.len());
            }
        }
    }
}
