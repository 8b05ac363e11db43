//! Entries in, frames out.

use bytes::Bytes;
use capnp::Word;
use capnp::message::{Builder, ScratchSpaceHeapAllocator};
use capnp::serialize;

use crate::generated::wire as schema;

use super::put::{count, put_entry};
use super::size::entry_words;
use super::{Answer, Entry, Goodbye, Limits, Refused, Reply};

/// A message of this many bytes is to be sent. Measured: from 16 KiB on nothing is gained per entry, and what is longer makes buffers grow at both ends,
/// which a connection keeps. So 16 KiB.
pub const FLUSH: usize = 16 * 1024;

/// A body of this many bytes or more travels as a frame of its own, uncopied. Below, copying it to the shared frame costs less than a
/// frame does; above, it does not (packed bodies of 16 KiB ran at half the speed of framed ones).
pub const OWN_FRAME: usize = 4 * 1024;

/// The words of a header without entries: root pointer, root, tag of the list.
const EMPTY_HEADER: usize = 3;

/// A buffer of an encoder that is not larger than this is kept whatever happens: a few small entries fit, so that an exchange of single calls
/// allocates none.
const KEPT: usize = 4 * 1024;

/// Gathers entries to one message. Keep it: its buffers are used again by the next message.
///
/// Push until [`is_full`](Encoder::is_full), or until there is nothing more to say, then [`finish`](Encoder::finish).
#[derive(Debug)]
pub struct Encoder {
    limits: Limits,
    entries: Vec<(Entry, Place)>,
    /// What the header is going to take, exactly.
    header_words: usize,
    /// The frame of small bodies so far.
    shared: Vec<u8>,
    /// The large bodies.
    own: Vec<Bytes>,
    own_bytes: usize,
    /// Where headers are built.
    scratch: Vec<Word>,
}

/// Where an entry's body is. The frame's number depends on whether there is going to be a shared frame, hence on later entries.
#[derive(Clone, Copy, Debug)]
enum Place {
    Nowhere,
    Shared { offset: u32, length: u32 },
    Own { index: usize, length: u32 },
}

/// An entry that the encoder did not take: given back, nothing is changed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotTaken {
    /// The entry.
    pub entry: Entry,
    /// True: it goes into the next message; [`finish`](Encoder::finish) this one. False: it exceeds a limit by itself.
    pub full: bool,
    /// Which limit, and by how much.
    pub message: String,
}

impl Encoder {
    /// An empty message under these limits.
    pub fn new(limits: Limits) -> Self {
        Encoder {
            limits,
            entries: Vec::new(),
            header_words: EMPTY_HEADER,
            shared: Vec::new(),
            own: Vec::new(),
            own_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// From now on takes bodies of up to `bytes`: what the welcome said.
    pub fn set_body_limit(&mut self, bytes: u32) {
        self.limits.body = bytes;
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// If it exceeds a limit by itself, or the message is full.
    pub fn push(&mut self, mut entry: Entry) -> Result<(), Box<NotTaken>> {
        shorten_texts(&mut entry, self.limits.text);
        let words = entry_words(&entry);
        if let Some(message) = self.exceeds_a_limit(&entry, words) {
            return Err(Box::new(NotTaken { entry, full: false, message }));
        }
        if self.is_full() {
            let message = format!("the message is full: {} entries, {} bytes", self.len(), self.bytes());
            return Err(Box::new(NotTaken { entry, full: true, message }));
        }
        let place = match body_of(&mut entry) {
            Some(body) => {
                let body = std::mem::take(body);
                self.place(body)
            }
            None => Place::Nowhere,
        };
        self.header_words += words;
        self.entries.push((entry, place));
        Ok(())
    }

    /// The entries so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all frames so far.
    pub fn bytes(&self) -> usize {
        framed(self.header_words) + self.shared.len() + self.own_bytes
    }

    /// Whether the message is to be finished before another entry is taken: it has reached [`FLUSH`] bytes or a limit.
    pub fn is_full(&self) -> bool {
        // One entry may use half of the header's limit, so another fits while half is free. Another body may need a frame, besides the
        // header and the shared one.
        !self.is_empty()
            && (self.bytes() >= FLUSH
                || framed(self.header_words) > self.limits.header as usize / 2
                || self.len() >= self.limits.entries
                || self.own.len() + 2 >= self.limits.frames)
    }

    /// The message: the header, then the bodies' frames. No frames if there are no entries. The encoder is empty afterwards.
    pub fn finish(&mut self) -> Vec<Bytes> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let mut frames = Vec::with_capacity(2 + self.own.len());
        frames.push(self.header());
        if !self.shared.is_empty() {
            // A copy of exact size: the buffer itself is kept for the next message.
            frames.push(Bytes::copy_from_slice(&self.shared));
        }
        frames.append(&mut self.own);
        self.let_go_of_idle_buffers();
        self.clear();
        frames
    }

    /// Forgets what was pushed.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.header_words = EMPTY_HEADER;
        self.shared.clear();
        self.own.clear();
        self.own_bytes = 0;
    }

    /// Gives back its buffers, if nothing is in them.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Encoder::new(self.limits);
        }
    }

    fn exceeds_a_limit(&self, entry: &Entry, words: usize) -> Option<String> {
        let limits = &self.limits;
        let over = |what: &str, is: usize, limit: usize| {
            (is > limit).then(|| format!("{what}: {is}, the limit is {limit}"))
        };
        let metadata = match entry {
            Entry::Call(call) => call.metadata.as_slice(),
            _ => &[],
        };
        let metadata_bytes = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        over("bytes of the body", body(entry).map_or(0, Bytes::len), limits.body as usize)
            .or_else(|| over("bytes of metadata", metadata_bytes, limits.metadata_bytes))
            .or_else(|| over("names of metadata", metadata.len(), limits.metadata_count))
            .or_else(|| over("bytes of the entry's header", words * 8, limits.header as usize / 2))
    }

    fn place(&mut self, body: Bytes) -> Place {
        let length = body.len() as u32; // within limits.body, a u32
        if body.is_empty() {
            Place::Nowhere
        } else if body.len() >= OWN_FRAME {
            self.own_bytes += body.len();
            self.own.push(body);
            Place::Own { index: self.own.len() - 1, length }
        } else {
            let offset = self.shared.len() as u32; // below FLUSH, or the message would be full
            self.shared.extend_from_slice(&body);
            self.shared.resize(self.shared.len().next_multiple_of(8), 0);
            Place::Shared { offset, length }
        }
    }

    fn header(&mut self) -> Bytes {
        if self.scratch.len() < self.header_words {
            self.scratch = Word::allocate_zeroed_vec(self.header_words.next_power_of_two());
        }
        let scratch = &mut Word::words_to_bytes_mut(&mut self.scratch)[..self.header_words * 8];
        // The allocator zeroes what it is given, so it is given what the header takes and no more.
        let mut message = Builder::new(ScratchSpaceHeapAllocator::new(scratch));
        let header = message.init_root::<schema::header::Builder<'_>>();
        let mut list = header.init_entries(count(self.entries.len()));
        let first_own = if self.shared.is_empty() { 0 } else { 1 };
        for (at, (entry, place)) in self.entries.iter().enumerate() {
            let mut to = list.reborrow().get(count(at));
            match *place {
                Place::Nowhere => {}
                Place::Shared { offset, length } => {
                    to.set_offset(offset);
                    to.set_length(length);
                }
                Place::Own { index, length } => {
                    to.set_frame((first_own + index) as u16); // few: they reach FLUSH
                    to.set_length(length);
                }
            }
            put_entry(entry, to);
        }
        Bytes::from(serialize::write_message_to_words(&message))
    }

    /// A server has an encoder a connection, ten thousand perhaps, and a burst must not be paid for ever. So a buffer is kept while messages need
    /// it, and the first that needs little, such as a heartbeat, ends that.
    fn let_go_of_idle_buffers(&mut self) {
        let idle = |bytes: usize, used: usize| bytes > KEPT && used < bytes / 8;
        if idle(self.entries.capacity() * size_of::<(Entry, Place)>(), size_of_val(self.entries.as_slice())) {
            self.entries = Vec::new();
        }
        if idle(self.shared.capacity(), self.shared.len()) {
            self.shared = Vec::new();
        }
        if idle(self.scratch.len() * 8, self.header_words * 8) {
            self.scratch = Vec::new();
        }
    }
}

/// The bytes of a message of one segment.
fn framed(words: usize) -> usize {
    8 + words * 8
}

fn body_of(entry: &mut Entry) -> Option<&mut Bytes> {
    match entry {
        Entry::Call(call) => Some(&mut call.body),
        Entry::Reply(reply) => match &mut reply.answer {
            Answer::Ok(body) | Answer::Declined { body, .. } => Some(body),
            Answer::Failed(_) | Answer::Refused(_) => None,
        },
        Entry::Event(event) => Some(&mut event.body),
        _ => None,
    }
}

fn body(entry: &Entry) -> Option<&Bytes> {
    match entry {
        Entry::Call(call) => Some(&call.body),
        Entry::Reply(Reply { answer: Answer::Ok(body) | Answer::Declined { body, .. }, .. }) => Some(body),
        Entry::Event(event) => Some(&event.body),
        _ => None,
    }
}

fn shorten_texts(entry: &mut Entry, limit: usize) {
    match entry {
        Entry::Reply(Reply { answer: Answer::Failed(text), .. })
        | Entry::Reply(Reply { answer: Answer::Refused(Refused { message: text, .. }), .. })
        | Entry::Goodbye(Goodbye { reason: text, .. }) => text.truncate(floor_char_boundary(text, limit)),
        _ => {}
    }
}

fn floor_char_boundary(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
