//! How many calls are open on a channel, of as many as may be: what bounds the queue from callers to the driver; and which of them have which ticket. Not what
//! becomes of a call.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::sabotage::planted;
use crate::sync::threads::Arc;
use crate::sync::threads::atomic::{AtomicUsize, Ordering};

/// The places of open calls. Callers take them, the driver's [`Desk`] gives them back.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicUsize,
    limit: usize,
}

impl Places {
    pub fn new(limit: usize) -> Self {
        Places { taken: AtomicUsize::new(0), limit }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes one. False: all are taken.
    pub fn take(&self) -> bool {
        if planted!(PlaceCountedFirst) {
            let full = self.taken.fetch_add(1, Ordering::Relaxed) >= self.limit;
            if full {
                self.taken.fetch_sub(1, Ordering::Relaxed);
            }
            return !full;
        }
        // Not counted first and looked at then: whoever is turned away would hold a place meanwhile, and another be turned away for it.
        let one_more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The driver's side: calls that are not concluded, by the machine's handle and by the caller's ticket.
///
/// A call leaves once, concluded or cancelled; whichever comes second finds nothing, and gives back nothing.
pub(super) struct Desk<H, C> {
    places: Arc<Places>,
    tickets: HashMap<u64, H>,
    calls: HashMap<H, (u64, C)>,
}

impl<H: Copy + Eq + Hash, C> Desk<H, C> {
    pub fn new(places: Arc<Places>) -> Self {
        Desk { places, tickets: HashMap::new(), calls: HashMap::new() }
    }

    /// A call whose place was taken when its ticket was given out.
    pub fn open(&mut self, ticket: u64, handle: H, call: C) {
        self.tickets.insert(ticket, handle);
        self.calls.insert(handle, (ticket, call));
    }

    /// Gives back the memory that calls have left behind.
    pub fn rest(&mut self) {
        self.tickets.shrink_to_fit();
        self.calls.shrink_to_fit();
    }

    pub fn call(&self, handle: H) -> Option<&C> {
        Some(&self.calls.get(&handle)?.1)
    }

    /// The machine has concluded it. None: its caller did not wait.
    pub fn conclude(&mut self, handle: H) -> Option<C> {
        let (ticket, call) = self.calls.remove(&handle)?;
        self.tickets.remove(&ticket);
        self.places.give_back();
        Some(call)
    }

    /// Its caller waits no more. None: it was concluded before.
    pub fn cancel(&mut self, ticket: u64) -> Option<H> {
        let Some(handle) = self.tickets.remove(&ticket) else {
            if planted!(PlaceGivenBackTwice) {
                self.places.give_back();
            }
            return None;
        };
        self.calls.remove(&handle);
        self.places.give_back();
        Some(handle)
    }
}
