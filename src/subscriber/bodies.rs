//! Bodies of events, for keeping. One as it came is a slice of its frame, and so of a read buffer of up to 64 KiB, which it would hold fast.

use bytes::{Bytes, BytesMut};

use crate::protocol::wire::{BadEntry, Entry};

/// A body of this many bytes is kept as it came.
const KEEP: usize = 16 * 1024;

/// Smaller ones of a message are copied next to each other, to pieces of memory of so many bytes: whoever keeps one of them holds no more than that.
const TOGETHER: usize = 1024;

/// The copies of one message's bodies.
pub(super) struct Bodies {
    /// Of a piece, what is left of it.
    room: BytesMut,
    /// What may come yet, in bytes.
    ahead: usize,
}

impl Bodies {
    pub fn of(entries: &[Result<Entry, BadEntry>]) -> Bodies {
        let lengths = entries.iter().map(|entry| match entry {
            Ok(Entry::Event(event)) => place(event.body.len()),
            _ => 0,
        });
        Bodies { room: BytesMut::new(), ahead: lengths.sum() }
    }

    /// The same body, for keeping.
    pub fn keep(&mut self, body: Bytes) -> Bytes {
        if body.len() >= KEEP {
            return body;
        }
        let place = place(body.len());
        if self.room.capacity() < place {
            self.room = BytesMut::with_capacity(self.ahead.min(TOGETHER).max(place));
        }
        self.ahead = self.ahead.saturating_sub(place);
        self.room.extend_from_slice(&body);
        self.room.resize(place, 0);
        let mut kept = self.room.split().freeze();
        kept.truncate(body.len());
        kept
    }
}

/// Each begins at a multiple of 8, as Cap'n Proto wants it.
fn place(length: usize) -> usize {
    length.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::Event;

    #[test]
    fn bodies_stay_what_they_are_and_hold_little_besides() {
        let lengths = [3, 0, 64, 1000, 64, 5000, 0, 8, KEEP, 1];
        let bodies: Vec<Bytes> = lengths.iter().map(|length| Bytes::from(vec![7; *length])).collect();
        let event = |body: &Bytes| {
            let body = body.clone();
            Ok(Entry::Event(Event { publisher: 1, epoch: 0, sequence: 1, type_id: 7, trace: None, body }))
        };
        let mut copies = Bodies::of(&bodies.iter().map(event).collect::<Vec<_>>());
        let kept: Vec<Bytes> = bodies.iter().map(|body| copies.keep(body.clone())).collect();
        assert_eq!(kept, bodies);
        let as_they_came: Vec<bool> =
            kept.iter().zip(&bodies).map(|(kept, body)| kept.as_ptr() == body.as_ptr()).collect();
        assert_eq!(
            as_they_came.iter().filter(|same| **same).count(),
            1,
            "the one that is large: {as_they_came:?}"
        );
        assert!(kept.iter().all(|body| body.is_empty() || body.as_ptr().addr().is_multiple_of(8)));
        // More than were announced.
        assert_eq!(copies.keep(Bytes::from_static(&[1; 2000])), [1; 2000][..]);
    }
}
