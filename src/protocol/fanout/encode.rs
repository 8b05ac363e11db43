//! Parcels to messages, which the queues of subscribers in step with each other share.

use std::sync::Arc;

use bytes::Bytes;

use super::queue::{Numbered, Parcel};
use crate::protocol::wire::{Encoder, Entry, Limits};

/// A message: its frames.
pub type Message = Vec<Bytes>;

/// Makes messages of parcels. Subscribers to the same topics that keep up get the same parcels one after another, so the last one's
/// messages are kept and given again: a further subscriber costs no encoding.
pub struct Envelope {
    encoder: Encoder,
    last: Vec<Arc<Numbered>>,
    messages: Vec<Message>,
}

impl Envelope {
    /// Nothing encoded yet.
    pub fn new(limits: Limits) -> Self {
        Envelope { encoder: Encoder::new(limits), last: Vec::new(), messages: Vec::new() }
    }

    /// The messages of a parcel: the topic frame, the header, the bodies. Mostly one; more if the header would be too long. None of an event
    /// that exceeds the limits by itself: whoever publishes is told before.
    pub fn seal(&mut self, parcel: Parcel) -> &[Message] {
        match parcel {
            Parcel::Events(events) => {
                let same = events.len() == self.last.len()
                    && events.iter().zip(&self.last).all(|(one, other)| Arc::ptr_eq(one, other));
                if !same {
                    let topic = events.first().map(|first| first.topic.clone()).unwrap_or_default();
                    self.encode(&topic, events.iter().map(|event| Entry::Event(event.event.clone())));
                    self.last = events;
                }
            }
            Parcel::Numbers { topic, numbers } => {
                self.encode(&topic, std::iter::once(Entry::Numbers(numbers)));
                self.last.clear();
            }
        }
        &self.messages
    }

    /// Lets go of the messages that were kept.
    pub fn clear(&mut self) {
        self.last.clear();
        self.messages.clear();
    }

    fn encode(&mut self, topic: &Bytes, entries: impl Iterator<Item = Entry>) {
        self.messages.clear();
        for entry in entries {
            if let Err(refused) = self.encoder.push(entry)
                && refused.full
            {
                self.finish(topic);
                // An empty message is not full, so it takes the entry unless a limit forbids.
                let _ = self.encoder.push(refused.entry);
            }
        }
        self.finish(topic);
    }

    fn finish(&mut self, topic: &Bytes) {
        let message = self.encoder.finish();
        if !message.is_empty() {
            self.messages.push([vec![topic.clone()], message].concat());
        }
    }
}
