//! The open calls: what is known of each, the set of its unsettled attempts, and when each is to be looked at again.
//!
//! It holds facts; what follows from them is decided in the files beside this one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::terms::{Handle, Intent};
use crate::protocol::wire::Refused;
use crate::protocol::{CallId, Moment, Stamp};
use crate::sabotage::{planted, visit};

/// Attempts of which it is not known that they did not run, and never will.
///
/// An attempt enters before it is handed to the socket, and leaves when the server says of this very attempt
/// that it was refused and not executed. As long as one is in, no "not executed" may be told to the caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsettled {
    attempts: [Attempt; Unsettled::ROOM],
    len: usize,
    /// A member that never settles: an earlier life may have sent the call, or more attempts are unsettled
    /// than there is room for.
    forever: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    number: u32,
    /// No reply to it is to be expected any more.
    answered: bool,
}

impl Unsettled {
    /// Five attempts, and three reconnects, of one call. With more than these at once the oldest counts as
    /// unsettled for good, which at worst makes a "no" an "unknown".
    const ROOM: usize = 8;

    pub(super) fn insert(&mut self, number: u32) {
        if self.len == Self::ROOM {
            self.attempts.rotate_left(1);
            self.len -= 1;
            self.forever = true;
        }
        self.attempts[self.len] = Attempt { number, answered: false };
        self.len += 1;
    }

    /// The server says that this attempt was not executed and never will be.
    pub(super) fn settle(&mut self, number: u32) {
        if planted!(SettlesEarlierToo) {
            self.len = 0;
        }
        if let Some(at) = self.attempts[..self.len].iter().position(|attempt| attempt.number == number) {
            self.attempts[at..self.len].rotate_left(1);
            self.len -= 1;
        }
    }

    pub(super) fn never_settles(&mut self) {
        self.forever = true;
    }

    /// There was an answer to this attempt that settles nothing.
    pub(super) fn answered(&mut self, number: u32) {
        for attempt in self.attempts[..self.len].iter_mut().filter(|attempt| attempt.number == number) {
            attempt.answered = true;
        }
    }

    /// The connection on which they would have been answered is gone.
    pub(super) fn unanswerable(&mut self) {
        if planted!(LostIsNotExecuted) {
            self.len = 0;
        }
        self.attempts[..self.len].iter_mut().for_each(|attempt| attempt.answered = true);
    }

    /// Whether a reply to one of them may still come.
    pub(super) fn awaits(&self) -> bool {
        self.attempts[..self.len].iter().any(|attempt| !attempt.answered)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0 && !self.forever
    }
}

/// What an open call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its turn to be sent.
    Queued,
    /// An answer, or the time-out of the attempt.
    InFlight,
    /// The end of its back-off.
    BackingOff,
    /// An answer, or the next welcome: on this connection it is not sent again.
    Quiet,
}

/// An open call.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub intent: Intent,
    /// Its place in the order in which calls were started.
    pub order: u64,
    pub state: State,
    /// When it is to be looked at again, at the latest at its deadline.
    pub wake: Moment,
    /// Its number under the present registration, from the first sending on. None for a keyed call.
    pub number: Option<u64>,
    /// The stamp of the welcome under which it was first sent under its present identity. Some: it holds a
    /// place in the window.
    pub first: Option<Stamp>,
    pub unsettled: Unsettled,
    /// The numbers of its first and its latest attempt; 0 = none.
    pub earliest: u32,
    pub latest: u32,
    pub sent: Moment,
    /// Which welcome of this client the latest attempt was sent under.
    pub welcome: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// How often that counted: the first time and each retry, but not what a new welcome made necessary.
    pub tries: u32,
    pub refused: Option<Refused>,
}

impl Open {
    pub(super) fn new(intent: Intent, order: u64) -> Self {
        let mut unsettled = Unsettled::default();
        if intent.key.is_some() && !planted!(KeyedBeginsSettled) {
            unsettled.never_settles();
        }
        Open {
            wake: intent.deadline,
            intent,
            order,
            state: State::Queued,
            number: None,
            first: None,
            unsettled,
            earliest: 0,
            latest: 0,
            sent: Moment::ZERO,
            welcome: 0,
            attempts: 0,
            tries: 0,
            refused: None,
        }
    }

    /// An attempt is about to be handed out.
    pub(super) fn enter(&mut self, attempt: u32, now: Moment, welcome: u64) {
        self.unsettled.insert(attempt);
        if self.earliest == 0 {
            self.earliest = attempt;
        }
        self.latest = attempt;
        self.sent = now;
        self.welcome = welcome;
        self.attempts = self.attempts.saturating_add(1);
        self.tries = self.tries.max(1);
    }

    pub(super) fn id(&self) -> Option<CallId> {
        self.intent.key.map(CallId::Keyed).or(self.number.map(CallId::Sequenced))
    }
}

/// All open calls, in slots that are used again, and their timers.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The life of a new slot, before its first call: above those of slots that have been given back.
    born: u32,
    started: u64,
    /// Each open call has one entry that counts, at its `wake`; older entries are skipped when they come up,
    /// and swept out when they outnumber the calls. That is cheaper than taking them out: most calls end long
    /// before their timer.
    timers: BinaryHeap<Reverse<(Moment, Handle)>>,
}

#[derive(Clone, Debug)]
struct Slot {
    life: u32,
    call: Option<Open>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, intent: Intent) -> Handle {
        self.started += 1;
        let call = Open::new(intent, self.started);
        let wake = call.wake;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { life: self.born, call: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.life = place.life.wrapping_add(1);
        place.call = Some(call);
        let handle = Handle { slot, life: place.life };
        self.arm(handle, wake);
        handle
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<Open> {
        let slot = self.slots.get_mut(handle.slot as usize).filter(|slot| slot.life == handle.life)?;
        let call = slot.call.take()?;
        self.free.push(handle.slot);
        if self.len() == 0 {
            self.timers.clear();
        }
        Some(call)
    }

    /// Gives back what calls that have ended took, if all have.
    pub(super) fn rest(&mut self) {
        if self.len() == 0 {
            let born = self.slots.iter().map(|slot| slot.life).fold(self.born, u32::max);
            *self = Calls { born, started: self.started, ..Calls::default() };
        }
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Open> {
        self.slots.get(handle.slot as usize).filter(|slot| slot.life == handle.life)?.call.as_ref()
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Open> {
        self.slots.get_mut(handle.slot as usize).filter(|slot| slot.life == handle.life)?.call.as_mut()
    }

    /// The open call in a slot.
    pub(super) fn in_slot(&self, slot: u32) -> Option<Handle> {
        let place = self.slots.get(slot as usize)?;
        place.call.is_some().then_some(Handle { slot, life: place.life })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle, &Open)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, place)| Some((Handle { slot, life: place.life }, place.call.as_ref()?)))
    }

    /// The handles of all open calls, oldest first.
    pub(super) fn in_order(&self) -> Vec<Handle> {
        let mut calls: Vec<_> = self.iter().map(|(handle, call)| (call.order, handle)).collect();
        calls.sort_unstable();
        calls.into_iter().map(|(_, handle)| handle).collect()
    }

    /// Puts the call into a state, to be looked at again at `wake` or at its deadline.
    pub(super) fn set(&mut self, handle: Handle, state: State, wake: Moment) {
        let Some(call) = self.get_mut(handle) else { return };
        let wake = wake.min(call.intent.deadline);
        let changed = call.wake != wake;
        visit!("client: state", "{:?} -> {state:?}", call.state);
        call.state = state;
        call.wake = wake;
        if changed {
            self.arm(handle, wake);
        }
    }

    fn arm(&mut self, handle: Handle, wake: Moment) {
        self.timers.push(Reverse((wake, handle)));
        if self.timers.len() > 2 * self.len() + 64 {
            let timers = std::mem::take(&mut self.timers);
            self.timers =
                timers.into_iter().filter(|Reverse((wake, handle))| self.counts(*wake, *handle)).collect();
        }
    }

    fn counts(&self, wake: Moment, handle: Handle) -> bool {
        self.get(handle).is_some_and(|call| call.wake == wake)
    }

    /// When the next call is to be looked at.
    pub(super) fn next_wake(&mut self) -> Option<Moment> {
        while let Some(Reverse((wake, handle))) = self.timers.peek().copied() {
            if self.counts(wake, handle) {
                return Some(wake);
            }
            self.timers.pop();
        }
        None
    }

    /// A call that is to be looked at now. Whoever asks has to end it or to [`set`](Calls::set) it.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<Handle> {
        if self.next_wake()? > now {
            return None;
        }
        let Reverse((_, handle)) = self.timers.pop()?;
        // Its entry is gone, so that whatever it is set to needs a new one.
        self.get_mut(handle)?.wake = Moment::MAX;
        Some(handle)
    }

    /// The slots that are used, each as its next tenant finds it, and in which order they are used again.
    #[cfg(feature = "sabotage")]
    pub(super) fn places(&self) -> (Vec<u32>, &[u32]) {
        (self.slots.iter().map(|slot| slot.life).collect(), &self.free)
    }

    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_an_attempt_leaves_the_set_only_by_its_own_number() {
        let mut unsettled = Unsettled::default();
        assert!(unsettled.is_empty() && !unsettled.awaits());
        (1..=3).for_each(|number| unsettled.insert(number));
        unsettled.settle(2);
        unsettled.settle(2);
        unsettled.settle(7);
        unsettled.settle(3);
        assert!(!unsettled.is_empty() && unsettled.awaits());
        unsettled.answered(1);
        assert!(!unsettled.is_empty() && !unsettled.awaits());
        unsettled.settle(1);
        assert!(unsettled.is_empty());
    }

    #[test]
    fn s10_more_unsettled_attempts_than_there_is_room_for_never_settle() {
        let mut unsettled = Unsettled::default();
        (1..=9).for_each(|number| unsettled.insert(number));
        (1..=9).for_each(|number| unsettled.settle(number));
        assert!(!unsettled.is_empty(), "attempt 1 has no place any more, and may have run");
        assert!(!unsettled.awaits());
    }
}
