//! The queue from those who publish to the publisher's thread: bounded in bytes, since an event takes its room before it is queued and the thread gives it back
//! when it has passed the event on. Not what an event is, or who gets it.

use crate::sabotage::planted;
use crate::sync::tasks::{Semaphore, TryAcquireError, mpsc};
use crate::sync::threads::Arc;

/// The bytes that are free.
#[derive(Debug)]
struct Room {
    free: Semaphore,
    capacity: usize,
}

/// The end of those who publish.
#[derive(Clone, Debug)]
pub(super) struct Backlog<E> {
    room: Arc<Room>,
    events: mpsc::UnboundedSender<E>,
}

/// The end of the publisher's thread.
#[derive(Debug)]
pub(super) struct Intake<E> {
    room: Arc<Room>,
    events: mpsc::UnboundedReceiver<E>,
}

/// The queue was closed, by its own end or by the publisher's.
#[derive(Debug)]
pub(super) struct Closed;

/// The two ends of a queue for events of so many bytes in all.
pub(super) fn backlog<E>(capacity: usize) -> (Backlog<E>, Intake<E>) {
    let (events, taken) = mpsc::unbounded_channel();
    let room = Arc::new(Room { free: Semaphore::new(capacity), capacity });
    (Backlog { room: room.clone(), events }, Intake { room, events: taken })
}

impl<E> Backlog<E> {
    /// Queues an event at once. The event back: there is no room for it now.
    ///
    /// # Errors
    /// The queue is closed.
    pub fn try_push(&self, event: E, cost: u32) -> Result<Option<E>, Closed> {
        match self.room.free.try_acquire_many(cost) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return Err(Closed),
            Err(TryAcquireError::NoPermits) => return Ok(Some(event)),
        }
        self.hand_over(event).map(|()| None)
    }

    /// Queues an event when there is room for it: whoever comes first gets it first.
    ///
    /// # Errors
    /// The queue is closed.
    pub async fn push(&self, event: E, cost: u32) -> Result<(), Closed> {
        self.room.free.acquire_many(cost).await.map_err(|_| Closed)?.forget();
        self.hand_over(event)
    }

    /// Takes no more events. Those that have their room still come through.
    pub fn close(&self) {
        self.room.free.close();
    }

    /// The room was taken; the other end gives it back.
    fn hand_over(&self, event: E) -> Result<(), Closed> {
        self.events.send(event).map_err(|_| Closed)
    }
}

impl<E> Intake<E> {
    /// Events, so many at most. 0: all who might publish are gone.
    pub async fn take(&mut self, into: &mut Vec<E>, most: usize) -> usize {
        let Some(first) = self.events.recv().await else { return 0 };
        let rest = std::iter::from_fn(|| self.events.try_recv().ok());
        into.extend(std::iter::once(first).chain(rest).take(most));
        into.len()
    }

    /// So many bytes were passed on.
    pub fn give_back(&self, bytes: usize) {
        self.room.free.add_permits(bytes);
    }

    /// Whether all that took its room has been given back: nothing is queued, and nothing on its way into the queue.
    pub fn is_whole(&self) -> bool {
        if planted!(QueueTakenForAll) {
            return self.events.is_empty();
        }
        self.room.free.available_permits() == self.room.capacity
    }
}
