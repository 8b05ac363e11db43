//! What waits for one subscriber: events in order, and at most one list of numbers at its place among them.
//!
//! The list has a place because numbers run ahead of nothing: whoever reads "the last number is 10" takes events up to 10 that come later
//! for duplicates. So it is handed over after the events that were queued before it, and before those that were queued after.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::wire::{Event, Numbers};

/// What an event costs besides its topic frame and body: 72 bytes in a header, and about as much in a queue. So a flood of empty events is
/// bounded too.
pub const EVENT_OVERHEAD: usize = 80;

/// An event with its number, shared by the queues of all its subscribers.
#[derive(Debug, PartialEq)]
pub struct Numbered {
    /// Topic, `/`, key.
    pub topic: Bytes,
    /// As it goes on the wire.
    pub event: Event,
}

impl Numbered {
    /// What it counts for in a queue, in bytes.
    pub fn cost(&self) -> usize {
        self.topic.len() + self.event.body.len() + EVENT_OVERHEAD
    }
}

/// One message to one subscriber.
#[derive(Debug, PartialEq)]
pub enum Parcel {
    /// Events of one topic frame, at least one.
    Events(Vec<Arc<Numbered>>),
    /// The answer to a sync, or a beacon.
    Numbers {
        /// The topic frame of the message.
        topic: Bytes,
        /// Its only entry.
        numbers: Numbers,
    },
}

#[derive(Default)]
pub(super) struct Queue {
    events: VecDeque<Arc<Numbered>>,
    bytes: usize,
    /// How many events ever left the queue: the position of the one in front.
    head: u64,
    /// To be handed over when `head` is there.
    numbers: Option<(u64, Bytes, Numbers)>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.numbers.is_none()
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Whether an event of this cost fits. One that is larger than the whole queue fits an empty one, or it would fit never.
    pub fn has_room(&self, cost: usize, limit: usize) -> bool {
        self.events.is_empty() || self.bytes + cost <= limit
    }

    pub fn push(&mut self, event: Arc<Numbered>) {
        self.bytes += event.cost();
        self.events.push_back(event);
    }

    /// The event that waited longest. A list of numbers that stood behind it moves to the front: nothing of what it says is ahead of it.
    pub fn pop(&mut self) -> Option<Arc<Numbered>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.cost();
        self.head += 1;
        Some(event)
    }

    /// Queues numbers, as of now, in place of those that still wait; which are returned.
    pub fn put_numbers(&mut self, topic: Bytes, numbers: Numbers) -> Option<Numbers> {
        let place = self.head + self.events.len() as u64;
        self.numbers.replace((place, topic, numbers)).map(|(_, _, replaced)| replaced)
    }

    pub fn has_numbers(&self) -> bool {
        self.numbers.is_some()
    }

    /// The next message: numbers whose turn it is, or events of one topic frame up to `limit` bytes (one at least).
    pub fn take(&mut self, limit: usize) -> Option<Parcel> {
        if let Some((_, topic, numbers)) = self.numbers.take_if(|(place, ..)| *place <= self.head) {
            return Some(Parcel::Numbers { topic, numbers });
        }
        let until = self.numbers.as_ref().map_or(u64::MAX, |(place, ..)| *place);
        let first = self.pop()?;
        let mut bytes = first.cost();
        let mut events = vec![first];
        while let Some(next) = self.events.front() {
            bytes += next.cost();
            if self.head >= until || next.topic != events[0].topic || bytes > limit {
                break;
            }
            events.extend(self.pop());
        }
        Some(Parcel::Events(events))
    }
}
