//! Tables that give equal things one small number. The search works on these numbers: a state of the whole world is a handful of them, and what a machine
//! does in one state on one input is worked out once.

use std::hash::{Hash, Hasher};

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

/// Things by their number, in the order in which they were first met.
#[derive(Debug)]
pub struct Table<T> {
    things: Vec<T>,
    numbers: HashMap<u128, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { things: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// The number of a thing with this fingerprint: that of an equal one that is known, else a new one.
    pub fn enter(&mut self, fingerprint: u128, thing: T) -> u32 {
        *self.numbers.entry(fingerprint).or_insert_with(|| {
            self.things.push(thing);
            u32::try_from(self.things.len() - 1).expect("fewer states than memory has room for")
        })
    }

    /// The thing of this number.
    pub fn at(&self, number: u32) -> &T {
        &self.things[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }
}

/// 128 bits of what is put in. Two different things collide with a chance that no search is long enough for.
pub fn fingerprint(put: impl FnOnce(&mut Xxh3)) -> u128 {
    let mut hasher = Xxh3::new();
    put(&mut hasher);
    hasher.digest128()
}

/// The fingerprint of something that can be hashed.
pub fn hashed(thing: &impl Hash) -> u128 {
    fingerprint(|hasher| thing.hash(hasher))
}

/// The fingerprint of a text.
pub fn texted(text: &str) -> u128 {
    fingerprint(|hasher| hasher.write(text.as_bytes()))
}
