//! Breadth first through every state of a space: the first broken promise that is found has the shortest trace there is. It knows nothing of what the states
//! mean.

use std::hash::Hash;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Something that can be explored.
pub trait Space {
    /// One state: small, since all of them are kept.
    type State: Copy + Eq + Hash;
    /// Something that may happen.
    type Event: Copy;

    /// Where it begins.
    fn start(&mut self) -> Self::State;
    /// All that may happen in a state.
    fn events(&mut self, state: &Self::State, events: &mut Vec<Self::Event>);
    /// The state after an event. None: nothing changes, or it leads out of the bounds.
    fn after(&mut self, state: &Self::State, event: Self::Event) -> Option<Self::State>;
    /// The promise that is broken in a state.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Report<E> {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// Events on the shortest way to the farthest state.
    pub depth: usize,
    /// Every state within the bounds was visited.
    pub complete: bool,
    /// The first broken promise, and the shortest way to it.
    pub broken: Option<(&'static str, Vec<E>)>,
}

struct Visited<S, E> {
    /// In the order in which they were met; each with where it was met from, and by what.
    states: Vec<(S, u32, Option<E>)>,
    numbers: HashTable<u32>,
    hashes: DefaultHashBuilder,
}

impl<S: Copy + Eq + Hash, E: Copy> Visited<S, E> {
    /// False if it was there.
    fn enter(&mut self, state: S, from: u32, event: Option<E>) -> bool {
        use std::hash::BuildHasher;
        let Visited { states, numbers, hashes } = self;
        let hash = hashes.hash_one(state);
        let same = |number: &u32| states[*number as usize].0 == state;
        let again = |number: &u32| hashes.hash_one(states[*number as usize].0);
        match numbers.entry(hash, same, again) {
            hashbrown::hash_table::Entry::Occupied(_) => false,
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(u32::try_from(states.len()).expect("fewer states than memory has room for"));
                states.push((state, from, event));
                true
            }
        }
    }

    fn way_to(&self, mut number: u32) -> Vec<E> {
        let mut way = Vec::new();
        while let (_, from, Some(event)) = self.states[number as usize] {
            way.push(event);
            number = from;
        }
        way.reverse();
        way
    }
}

/// Visits every state, until one breaks a promise or there are more than `limit`.
pub fn explore<W: Space>(space: &mut W, limit: usize) -> Report<W::Event> {
    let mut visited =
        Visited { states: Vec::new(), numbers: HashTable::new(), hashes: DefaultHashBuilder::default() };
    visited.enter(space.start(), 0, None);
    let mut report = Report { states: 1, steps: 0, depth: 0, complete: false, broken: None };
    let (mut next, mut level_ends) = (0, 1);
    let mut events = Vec::new();
    while next < visited.states.len() {
        if next == level_ends {
            report.depth += 1;
            level_ends = visited.states.len();
        }
        let state = visited.states[next].0;
        events.clear();
        space.events(&state, &mut events);
        for &event in &events {
            let Some(after) = space.after(&state, event) else { continue };
            report.steps += 1;
            if !visited.enter(after, next as u32, Some(event)) {
                continue;
            }
            if let Some(promise) = space.broken(&after) {
                let way = visited.way_to(visited.states.len() as u32 - 1);
                return Report { states: visited.states.len(), broken: Some((promise, way)), ..report };
            }
        }
        next += 1;
        if visited.states.len() > limit {
            return Report { states: visited.states.len(), ..report };
        }
    }
    Report { states: visited.states.len(), complete: true, ..report }
}
