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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::{Event, decode};

    fn event(sequence: u64, length: usize) -> Arc<Numbered> {
        let body = Bytes::from(vec![1; length]);
        let event = Event { publisher: 1, epoch: 0, sequence, type_id: 7, trace: None, body };
        Arc::new(Numbered { topic: Bytes::from("t/"), event })
    }

    fn sequences(messages: &[Message]) -> Vec<Vec<u64>> {
        let sequence = |entry| match entry {
            Ok(Entry::Event(event)) => event.sequence,
            other => panic!("{other:?}"),
        };
        let of_message = |message: &Message| {
            assert_eq!(message[0], "t/");
            decode(&message[1..], &Limits::default()).unwrap().entries.into_iter().map(sequence).collect()
        };
        messages.iter().map(of_message).collect()
    }

    #[test]
    fn the_same_parcel_is_encoded_once() {
        let mut envelope = Envelope::new(Limits::default());
        let events = vec![event(1, 8), event(2, 8)];
        let first = envelope.seal(Parcel::Events(events.clone()))[0][1].as_ptr();
        assert_eq!(envelope.seal(Parcel::Events(events.clone()))[0][1].as_ptr(), first);
        assert_eq!(sequences(envelope.seal(Parcel::Events(events[1..].to_vec()))), [[2]]);
        envelope.seal(Parcel::Numbers { topic: Bytes::from("n"), numbers: Default::default() });
        assert_eq!(sequences(envelope.seal(Parcel::Events(events))), [[1, 2]]);
    }

    #[test]
    fn what_does_not_fit_one_message_takes_two() {
        let mut envelope = Envelope::new(Limits { entries: 2, body: 100, ..Limits::default() });
        let events = vec![event(1, 8), event(2, 200), event(3, 8), event(4, 8)];
        assert_eq!(sequences(envelope.seal(Parcel::Events(events))), [vec![1, 3], vec![4]]);
        assert!(envelope.seal(Parcel::Events(vec![event(5, 200)])).is_empty());
    }
}
