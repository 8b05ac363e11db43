//! How results get from the driver to those who wait for them: each has a place of its own, and one wake-up serves many.
//!
//! To wake a task on another thread is a call of the system, and the thread that is woken takes the core at once if there is but one: for one reply, while the
//! driver holds thirty. So the driver puts all results of a turn into their places, and wakes one of those who wait. Whoever looks for a result, or gives it up, wakes
//! the others, from their own thread; if nobody comes within a moment, the driver does.

use std::mem;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::protocol::Moment;
use crate::sabotage::planted;
use crate::sync::threads::atomic::{AtomicBool, Ordering};
use crate::sync::threads::{Arc, Mutex, PoisonError};

/// What a place holds.
enum Place<T> {
    Empty(Option<Waker>),
    Full(T),
    /// Nothing, ever again: its giver is gone, or it was taken.
    Closed,
}

/// A place for one result, from both sides.
pub(super) fn place<T>() -> (Giver<T>, Taker<T>) {
    let place = Arc::new(Mutex::new(Place::Empty(None)));
    (Giver(Some(place.clone())), Taker(place))
}

/// The driver's side. If it is dropped, whoever waits learns that nothing comes.
pub(super) struct Giver<T>(Option<Arc<Mutex<Place<T>>>>);

/// The side of whoever waits.
pub(super) struct Taker<T>(Arc<Mutex<Place<T>>>);

impl<T> Giver<T> {
    /// Puts the result into its place. Returns whom to wake, if somebody waits already.
    fn give(mut self, result: T) -> Option<Waker> {
        self.0.take().and_then(|place| fill(&place, Place::Full(result)))
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take().and_then(|place| fill(&place, Place::Closed)) {
            waker.wake();
        }
    }
}

fn fill<T>(place: &Mutex<Place<T>>, with: Place<T>) -> Option<Waker> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    match mem::replace(&mut *place, with) {
        Place::Empty(waker) => waker,
        Place::Full(_) | Place::Closed => None,
    }
}

impl<T> Taker<T> {
    /// The result; `None` if there will be none. After that there is none again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *place {
            Place::Empty(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Place::Full(_) | Place::Closed => match mem::replace(&mut *place, Place::Closed) {
                Place::Full(result) => Poll::Ready(Some(result)),
                _ => Poll::Ready(None),
            },
        }
    }
}

/// Those who are to be woken by whoever comes first.
#[derive(Default)]
pub(super) struct Sleepers {
    /// That there are some, for a look without the lock. Whoever misses them leaves them to the next.
    any: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Sleepers {
    /// Wakes one of them; the others are left to whoever comes first.
    fn wake_one(&self, wakers: &mut Vec<Waker>) {
        let Some(one) = wakers.pop() else { return };
        if wakers.is_empty() {
            return one.wake();
        }
        if planted!(OneWokenEarly) {
            one.wake_by_ref();
        }
        {
            let mut sleepers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            sleepers.append(wakers);
            self.any.store(true, Ordering::Release);
        }
        if !planted!(OneWokenEarly) {
            one.wake();
        }
    }

    /// Whether some are left.
    fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Wakes all that are left.
    pub fn wake_all(&self) {
        if !self.any() {
            return;
        }
        let sleepers = {
            let mut sleepers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Release);
            mem::take(&mut *sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }
}

/// After so long the driver wakes those whom it has left to be woken by others.
const PATIENCE: Duration = Duration::from_millis(1);

/// The driver's bell: rung once a turn, for all whose calls have ended in it.
pub(super) struct Bell {
    /// Those of this turn.
    wakers: Vec<Waker>,
    /// Those who were left to be woken by others, and since when some have been.
    sleepers: Arc<Sleepers>,
    left: Option<Moment>,
}

impl Bell {
    pub fn new(sleepers: Arc<Sleepers>) -> Self {
        Bell { wakers: Vec::new(), sleepers, left: None }
    }

    /// Puts a result into its place. Who waits for it hears the bell when it is rung.
    pub fn give<T>(&mut self, giver: Giver<T>, result: T) {
        self.wakers.extend(giver.give(result));
    }

    /// Wakes one of those who were given something, who wakes the others; and those whom nobody has woken for too long.
    pub fn ring(&mut self, now: Moment) {
        match self.left {
            Some(since) if self.sleepers.any() => {
                if now >= since + PATIENCE {
                    self.sleepers.wake_all();
                    self.left = None;
                }
            }
            _ => self.left = None,
        }
        self.sleepers.wake_one(&mut self.wakers);
        if self.sleepers.any() {
            self.left.get_or_insert(now);
        }
    }

    /// When to ring it again, although nothing happens.
    pub fn due(&self) -> Option<Moment> {
        self.left.map(|since| since + PATIENCE)
    }

    /// Gives back the memory that a burst has left behind.
    pub fn rest(&mut self) {
        self.wakers.shrink_to_fit();
    }
}
