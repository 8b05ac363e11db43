//! Prefixes of topic frames, each with a value, and the question which of them a topic frame begins with.
//!
//! A look-up costs one hash for each *length* that occurs among the prefixes and is not longer than the topic frame, however many prefixes
//! there are. It is not a trie: real prefixes are whole topics or whole keys, so few lengths occur, and a hostile set of them costs at most
//! as many hashes as a topic frame has bytes. Peers choose them: the hash has a random seed, so none can prepare prefixes that collide.

use bytes::Bytes;
use hashbrown::HashMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Prefixes<V> {
    entries: HashMap<Bytes, V>,
    // Ascending; with the number of prefixes of that length.
    lengths: Vec<(usize, usize)>,
}

impl<V: Default> Prefixes<V> {
    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a prefix, which is entered if it is new. The bytes are copied then: they come out of a read buffer.
    pub fn entry(&mut self, prefix: &[u8]) -> &mut V {
        if !self.entries.contains_key(prefix) {
            match self.lengths.binary_search_by_key(&prefix.len(), |(length, _)| *length) {
                Ok(at) => self.lengths[at].1 += 1,
                Err(at) => self.lengths.insert(at, (prefix.len(), 1)),
            }
            self.entries.insert(Bytes::copy_from_slice(prefix), V::default());
        }
        self.entries.get_mut(prefix).expect("entered above")
    }

    /// The value of a prefix, if it is known.
    pub fn find(&mut self, prefix: &[u8]) -> Option<&mut V> {
        self.entries.get_mut(prefix)
    }

    /// Whether this very prefix is known.
    pub fn contains(&self, prefix: &[u8]) -> bool {
        self.entries.contains_key(prefix)
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: &[u8]) -> Option<V> {
        let value = self.entries.remove(prefix)?;
        if let Ok(at) = self.lengths.binary_search_by_key(&prefix.len(), |(length, _)| *length) {
            self.lengths[at].1 -= 1;
            if self.lengths[at].1 == 0 {
                self.lengths.remove(at);
            }
        }
        Some(value)
    }

    /// The values of all prefixes that `topic` begins with, the shortest first.
    pub fn matching<'s>(&'s self, topic: &'s [u8]) -> impl Iterator<Item = &'s V> {
        self.lengths
            .iter()
            .map_while(|(length, _)| topic.get(..*length))
            .filter_map(|prefix| self.entries.get(prefix))
    }

    /// All prefixes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.keys()
    }

    /// All values, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"ab/".to_vec()), 0..5)
    }

    proptest! {
        #[test]
        fn a_topic_finds_exactly_the_prefixes_that_it_begins_with(
            steps in prop::collection::vec((any::<bool>(), bytes()), 0..40),
            topic in bytes(),
        ) {
            let mut prefixes = Prefixes::<Vec<u8>>::default();
            let mut model = BTreeSet::new();
            for (enter, prefix) in steps {
                if enter {
                    *prefixes.entry(&prefix) = prefix.clone();
                    model.insert(prefix);
                } else {
                    prop_assert_eq!(prefixes.remove(&prefix).is_some(), model.remove(&prefix));
                }
                prop_assert_eq!(prefixes.len(), model.len());
            }
            let found: Vec<Vec<u8>> = prefixes.matching(&topic).cloned().collect();
            let mut expected: Vec<Vec<u8>> = model.into_iter().filter(|prefix| topic.starts_with(prefix)).collect();
            expected.sort_by_key(Vec::len);
            prop_assert_eq!(found, expected);
        }
    }
}
