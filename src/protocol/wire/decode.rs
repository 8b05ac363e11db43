//! Frames in, entries out. What comes from a peer may be anything; work and memory are bounded by its size.

use std::borrow::Cow;

use bytes::Bytes;
use capnp::message::{Reader, ReaderOptions};

use crate::generated::wire as schema;
use crate::protocol::{CallId, Incarnation, Refusal, Registration};

use super::take::take_entry;
use super::{Answer, Entry, Goodbye, Limits, Refused, Reply, Segments, aligned, copied};

/// A frame that may be so much longer than a body in it, and twice the body's length, is kept for it: 32 KiB, twice the length at which an honest message is
/// finished. Of a longer one the body is copied, or one of a few bytes would hold 16 MiB for as long as its handler takes.
const SHARED: usize = 32 * 1024;

/// A frame of this many bytes is kept as it came, if it is aligned. A shorter one is copied in any case (mostly it has to be): the buffer that it was read to
/// may be much longer.
const KEPT: usize = 64 * 1024;

/// The schema nests seven deep; a header of a later version may nest a little deeper.
const NESTING_LIMIT: i32 = 16;

/// A message taken apart.
#[derive(Debug, Default)]
pub struct Decoded {
    /// In the order of the header. One that is bad in itself does not spoil the others.
    pub entries: Vec<Result<Entry, BadEntry>>,
    /// How many entries were of a kind that this version does not know.
    pub skipped: usize,
}

/// A message of which no entry can be read. To be answered by its [`goodbye`](DecodeError::goodbye).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// [`Refusal::Malformed`] or [`Refusal::TooLarge`].
    pub refusal: Refusal,
    /// What is wrong, for people.
    pub message: String,
}

/// An entry that cannot be used, and what is needed to say so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct BadEntry {
    /// What it is.
    pub subject: Subject,
    /// [`Refusal::Malformed`], [`Refusal::TooLarge`] or, if it uses a word that this version does not know, [`Refusal::Incompatible`].
    pub refusal: Refusal,
    /// What is wrong, for people.
    pub message: Cow<'static, str>,
}

/// What a bad entry is, as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A call that can be answered.
    Call {
        /// As in the call.
        registration: Registration,
        /// As in the call. If it is not the server's own, the answer has to be [`Refusal::HelloFirst`], as for any call: an earlier
        /// incarnation, with other limits, may have run this very attempt.
        incarnation: Incarnation,
        /// As in the call.
        id: CallId,
        /// As in the call.
        attempt: u32,
    },
    /// A reply: the attempt was answered, but the answer cannot be read, so whether it ran stays unknown.
    Reply {
        /// As in the reply.
        registration: Registration,
        /// As in the reply.
        id: CallId,
        /// As in the reply.
        attempt: u32,
    },
    /// A hello. To be answered by a goodbye.
    Hello,
    /// Anything else, by the schema's name: nobody waits for an answer, or nobody knows who does.
    Other(&'static str),
}

impl DecodeError {
    /// The answer.
    pub fn goodbye(&self) -> Goodbye {
        Goodbye { reason: self.message.clone(), refusal: Some(self.refusal) }
    }
}

impl BadEntry {
    /// The answer, if somebody waits for one. For a call it says that the attempt did not run, which is true under the incarnation that
    /// the call names: every copy of it is the same bytes, under the same limits. See [`Subject::Call`].
    pub fn answer(&self) -> Option<Entry> {
        let message = self.message.clone().into_owned();
        match self.subject {
            Subject::Call { registration, id, attempt, .. } => {
                let refused = Refused { refusal: self.refusal, ambiguous: false, retry_after: None, message };
                let answer = Answer::Refused(refused);
                Some(Entry::Reply(Reply { registration, id, attempt, replayed: false, answer }))
            }
            Subject::Hello => Some(Entry::Goodbye(Goodbye { reason: message, refusal: Some(self.refusal) })),
            Subject::Reply { .. } | Subject::Other(_) => None,
        }
    }
}

/// Takes a message apart: its header, then the frames of its bodies.
///
/// Bodies come out at addresses that are multiples of 8 (an empty one anywhere). Small ones share memory with each other, and large ones may do with the
/// socket's read buffer; but none holds more than some times its own length, or a few KiB, so it may be kept for as long as a call runs.
///
/// # Errors
/// If there is no header that can be read, or the message exceeds the limits as a whole.
pub fn decode(frames: &[Bytes], limits: &Limits) -> Result<Decoded, DecodeError> {
    let Some((header, bodies)) = frames.split_first() else {
        return Err(malformed("a message without frames"));
    };
    within("frames of the message", frames.len(), limits.frames)?;
    within("bytes of the header", header.len(), limits.header as usize)?;
    let header = aligned(header.clone());
    let words = header.len() / 8;
    // Everything is read once, so an honest header needs as many words as it has. Twice as many, so that pointers that overlap are
    // no way to make a small header a large one.
    let options =
        ReaderOptions { traversal_limit_in_words: Some(2 * words + 64), nesting_limit: NESTING_LIMIT };
    let segments = Segments::new(&header[..], options)
        .map_err(|error| malformed(format!("the header is no Cap'n Proto message: {error}")))?;
    let message = Reader::new(segments, options);
    let entries = message
        .get_root::<schema::header::Reader<'_>>()
        .and_then(|header| header.get_entries())
        .map_err(|error| malformed(format!("the header cannot be read: {error}")))?;
    within("entries of the message", entries.len() as usize, limits.entries)?;

    let mut source = Source { limits, bodies: Bodies::new(bodies, limits.body), items: words };
    // Room for as many as the header can hold at four words each, whatever it claims.
    let room = (entries.len() as usize).min(words / 4);
    let mut decoded = Decoded { entries: Vec::with_capacity(room), skipped: 0 };
    for entry in entries.iter() {
        match take_entry(entry, &mut source) {
            Some(taken) => decoded.entries.push(taken),
            None => decoded.skipped += 1,
        }
    }
    Ok(decoded)
}

fn malformed(message: impl Into<String>) -> DecodeError {
    DecodeError { refusal: Refusal::Malformed, message: message.into() }
}

fn within(what: &str, is: usize, limit: usize) -> Result<(), DecodeError> {
    if is <= limit {
        return Ok(());
    }
    let message = format!("{what}: {is}, the limit is {limit}");
    Err(DecodeError { refusal: Refusal::TooLarge, message })
}

/// What the entries of a message are read from.
pub(super) struct Source<'a> {
    pub(super) limits: &'a Limits,
    pub(super) bodies: Bodies<'a>,
    /// The elements of lists that may still be taken: a word of header each, although Cap'n Proto would let a byte stand for one.
    items: usize,
}

impl Source<'_> {
    /// Takes `count` elements of lists from what is left.
    pub(super) fn items(&mut self, count: u32) -> Result<(), Problem> {
        match self.items.checked_sub(count as usize) {
            Some(left) => self.items = left,
            None => return Err(Problem::malformed("lists of more elements than the header has words")),
        }
        Ok(())
    }
}

/// The frames of bodies.
pub(super) struct Bodies<'a> {
    frames: &'a [Bytes],
    /// Those that an entry has asked for, aligned: a frame is copied once at most.
    owned: Vec<Option<Bytes>>,
    limit: u32,
    /// The bytes of bodies that may still be taken. Many entries that name the same bytes would otherwise make much work of few.
    left: usize,
}

impl<'a> Bodies<'a> {
    fn new(frames: &'a [Bytes], limit: u32) -> Self {
        Bodies { frames, owned: Vec::new(), limit, left: frames.iter().map(Bytes::len).sum() }
    }

    /// The body of `length` bytes at `offset` of frame `frame`.
    pub(super) fn take(&mut self, frame: u16, offset: u32, length: u32) -> Result<Bytes, Problem> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        if length > self.limit {
            let message = format!("a body of {length} bytes, the limit is {}", self.limit);
            return Err(Problem::too_large(message));
        }
        let at = usize::from(frame);
        let (start, end) = (offset as usize, (offset as usize).saturating_add(length as usize));
        match self.frames.get(at) {
            None => return Err(Problem::malformed("the body's frame is not there")),
            Some(frame) if frame.len() < end => {
                return Err(Problem::malformed("the body reaches beyond its frame"));
            }
            Some(_) => {}
        }
        if !offset.is_multiple_of(8) {
            return Err(Problem::malformed("the body's offset is no multiple of 8"));
        }
        match self.left.checked_sub(length as usize) {
            None => return Err(Problem::malformed("the bodies are longer than their frames")),
            Some(left) => self.left = left,
        }
        let frame = &self.frames[at];
        if frame.len() > 2 * length as usize + SHARED {
            return Ok(copied(&frame[start..end]));
        }
        if self.owned.is_empty() {
            self.owned.resize(self.frames.len(), None);
        }
        let owned = self.owned[at]
            .get_or_insert_with(|| if frame.len() < KEPT { copied(frame) } else { aligned(frame.clone()) });
        Ok(owned.slice(start..end))
    }
}

/// What is wrong with an entry.
pub(super) struct Problem {
    refusal: Refusal,
    message: Cow<'static, str>,
}

impl Problem {
    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Problem { refusal: Refusal::Malformed, message: message.into() }
    }

    pub(super) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Problem { refusal: Refusal::TooLarge, message: message.into() }
    }

    pub(super) fn with(self, subject: Subject) -> BadEntry {
        BadEntry { subject, refusal: self.refusal, message: self.message }
    }
}

impl From<capnp::Error> for Problem {
    fn from(error: capnp::Error) -> Self {
        Problem::malformed(error.to_string())
    }
}

impl From<capnp::NotInSchema> for Problem {
    fn from(unknown: capnp::NotInSchema) -> Self {
        let message =
            format!("the header uses a word that version {} does not know: {unknown}", super::VERSION);
        Problem { refusal: Refusal::Incompatible, message: message.into() }
    }
}
