//! Messages of one connection that were handed over and for which the crate's socket has no room yet.
//!
//! The crate's writer gathers what it is given into one buffer, which never shrinks. So it is given little at a time, and the rest waits here as it is,
//! uncopied. How much may wait is the link's to say: all of it counts as outstanding.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Bytes that are between the crate's socket and the stranger: two messages as the encoder makes them. A longer one goes alone.
const INSIDE: usize = 32 * 1024;

/// As many, once the connection is busy: as much as the crate's writer gathers. Each time that it is given something costs a turn of the thread; given
/// 32 KiB at a time, bodies of 16 KiB lost some 20 % of their speed.
const INSIDE_WHEN_BUSY: usize = 128 * 1024;

/// A connection is busy when so many bytes have had to wait: a short burst does not make its buffers grow.
const BUSY: usize = 2 << 20;

/// If nothing had to wait for so long, the count of them begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages that may wait: as many as the crate's own queue takes. Each takes some memory, however short it is.
const MESSAGES: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Held {
    messages: RefCell<VecDeque<(usize, Vec<Bytes>)>>,
    bytes: Cell<usize>,
    /// Bytes that have had to wait, without a longer silence between them, and when the last came.
    waited: Cell<Option<(usize, Instant)>>,
}

impl Held {
    /// Whether a message has to wait here, with so much outstanding before it.
    pub fn must_wait(&self, outstanding: usize, size: usize) -> bool {
        self.bytes.get() > 0 || !self.has_room(outstanding, size)
    }

    /// Keeps a message. False: there are too many.
    pub fn push(&self, size: usize, frames: Vec<Bytes>) -> bool {
        let mut messages = self.messages.borrow_mut();
        if messages.len() >= MESSAGES {
            return false;
        }
        messages.push_back((size, frames));
        self.bytes.set(self.bytes.get() + size);
        let now = Instant::now();
        let before = self.waited.get().filter(|(_, last)| now - *last < PAUSE).map_or(0, |(bytes, _)| bytes);
        self.waited.set(Some((before.saturating_add(size), now)));
        true
    }

    /// The next message, if there is room for it.
    pub fn pop(&self, outstanding: usize) -> Option<Vec<Bytes>> {
        let inside = outstanding.saturating_sub(self.bytes.get());
        let fits = self.messages.borrow().front().is_some_and(|(size, _)| self.has_room(inside, *size));
        fits.then(|| self.pop_anyway()).flatten()
    }

    /// The next message, room or not: the socket is about to go.
    pub fn pop_anyway(&self) -> Option<Vec<Bytes>> {
        let mut messages = self.messages.borrow_mut();
        let (size, frames) = messages.pop_front()?;
        if messages.is_empty() {
            *messages = VecDeque::new(); // a burst is not to be paid for ever
        }
        self.bytes.set(self.bytes.get() - size);
        Some(frames)
    }

    fn has_room(&self, inside: usize, size: usize) -> bool {
        let busy = self.waited.get().is_some_and(|(bytes, _)| bytes > BUSY);
        inside == 0 || inside + size <= if busy { INSIDE_WHEN_BUSY } else { INSIDE }
    }
}

/// What a message takes on the wire.
pub(super) fn encoded_size(frames: &[Bytes]) -> usize {
    frames.iter().map(|frame| frame.len() + if frame.len() > 255 { 9 } else { 2 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_out_as_much_as_there_is_room_for() {
        let held = Held::default();
        let mut outstanding = 0;
        for number in 0..4 {
            assert_eq!(held.must_wait(outstanding, INSIDE), number > 0, "the first has room");
            outstanding += INSIDE;
            if number > 0 {
                assert!(held.push(INSIDE, vec![Bytes::from(vec![number])]));
            }
        }
        for number in 1..4 {
            assert_eq!(held.pop(outstanding), None, "one fills it");
            assert_eq!(held.pop(outstanding - 1), None, "the message before is not all written");
            outstanding -= INSIDE;
            assert_eq!(held.pop(outstanding), Some(vec![Bytes::from(vec![number])]));
        }
        assert_eq!((held.bytes.get(), held.messages.borrow().capacity()), (0, 0));
    }

    #[test]
    fn what_is_longer_than_all_the_room_goes_alone() {
        let held = Held::default();
        assert!(!held.must_wait(0, 10 * INSIDE));
        assert!(held.must_wait(1, 10 * INSIDE));
        assert!(held.push(10 * INSIDE, vec![]) && held.push(1, vec![]));
        assert_eq!(held.pop(10 * INSIDE + 2), None);
        assert_eq!(held.pop(10 * INSIDE + 1), Some(vec![]));
        assert!(held.must_wait(1, 1), "what came before goes first");
    }

    #[test]
    fn their_number_is_bounded() {
        let held = Held::default();
        assert!((0..MESSAGES).all(|_| held.push(2, vec![])));
        assert!(!held.push(2, vec![]));
        assert_eq!(held.bytes.get(), 2 * MESSAGES);
    }

    #[test]
    fn a_busy_connection_is_given_more_at_once() {
        let held = Held::default();
        assert!(held.must_wait(INSIDE, INSIDE));
        assert!((0..BUSY / INSIDE).all(|_| held.push(INSIDE, vec![])));
        assert_eq!(held.pop(held.bytes.get() + INSIDE), None, "not yet");
        assert!(held.push(1, vec![]));
        let outstanding = held.bytes.get() + INSIDE;
        for _ in 1..INSIDE_WHEN_BUSY / INSIDE {
            assert_eq!(held.pop(outstanding), Some(vec![]));
        }
        assert_eq!(held.pop(outstanding), None, "they fill it");
    }
}
