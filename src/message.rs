//! Cap'n Proto messages as values: owned, aligned, checked once, read without a copy.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use capnp::Word;
use capnp::message::{self, ReaderOptions, ScratchSpaceHeapAllocator};
use capnp::serialize;
use capnp::traits::Owned;

use crate::protocol::wire::{Segments, aligned};

/// A received message of the contract's struct `T`: a reply, an event, a fault.
///
/// [`get`](Message::get) lends a reader. Readers borrow the message and are not `Send`: **readers never cross an await**. Take what you
/// need out of them ([`read`](Message::read) makes that one expression) and await afterwards.
pub struct Message<T> {
    reader: message::Reader<Segments<Bytes>>,
    of: PhantomData<fn() -> T>,
}

/// The most that reading a message of `bytes` once may traverse. An honest one needs as many words as it has; a small one whose pointers overlap could otherwise
/// stand for a huge one, and hold up the thread that reads it. Twice as many, as for a header; and some thousand more, for lists of empty structs, whose elements take none.
fn traversal_limit_in_words(bytes: usize) -> usize {
    2 * (bytes / 8) + 8 * 1024
}
/// How deep structs and lists may nest: Cap'n Proto's own default.
const NESTING_LIMIT: i32 = 64;

impl<T> Message<T> {
    /// Takes a message in stream framing, such as [`as_bytes`](Message::as_bytes) has given: so an event or a reply can be stored, and read again.
    /// Bytes at an address that is no multiple of 8 are copied.
    ///
    /// All its pointers are followed once, within a limit; so later reads need none, and a message that is kept can be read for ever. That it
    /// was written as a `T` is not checked, since a message does not say of what struct it is.
    ///
    /// # Errors
    /// If they are no whole message, if a pointer leads out of it, or if reading it once would take far longer than its size.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> capnp::Result<Self> {
        let body = aligned(bytes.into());
        let limited = ReaderOptions {
            traversal_limit_in_words: Some(traversal_limit_in_words(body.len())),
            nesting_limit: NESTING_LIMIT,
        };
        let checked = message::Reader::new(Segments::new(body, limited)?, limited);
        checked.get_root::<capnp::any_pointer::Reader<'_>>()?.target_size()?;
        Ok(Self::checked(checked.into_segments()))
    }

    fn checked(segments: Segments<Bytes>) -> Self {
        let unlimited = ReaderOptions { traversal_limit_in_words: None, nesting_limit: NESTING_LIMIT };
        Message { reader: message::Reader::new(segments, unlimited), of: PhantomData }
    }

    /// The same content always gives the same bytes, whoever laid the message out.
    pub(crate) fn canonical(&self) -> capnp::Result<Vec<u8>> {
        let words = self.reader.canonicalize()?;
        Ok(Word::words_to_bytes(&words).to_vec())
    }

    /// The message in stream framing, as it travelled.
    pub fn as_bytes(&self) -> &Bytes {
        self.reader.get_segments().bytes()
    }
}

impl<T: Owned> Message<T> {
    /// Lends a reader of the message.
    ///
    /// # Errors
    /// If the message's root is not a struct of the contract's form: the sender's schema differs.
    pub fn get(&self) -> capnp::Result<T::Reader<'_>> {
        self.reader.get_root()
    }

    /// Reads what you need in one expression that leaves no reader behind: `message.read(|m| Ok(m.get_user()?.to_string()?))?`.
    ///
    /// # Errors
    /// As [`get`](Message::get), and what the closure returns.
    pub fn read<'s, R>(&'s self, read: impl FnOnce(T::Reader<'s>) -> capnp::Result<R>) -> capnp::Result<R> {
        read(self.get()?)
    }
}

impl<T> Clone for Message<T> {
    fn clone(&self) -> Self {
        Self::checked(self.reader.get_segments().clone())
    }
}

impl<T> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message<{}>({} bytes)", std::any::type_name::<T>(), self.as_bytes().len())
    }
}

/// What a fill closure may return: nothing, or a `capnp::Result<()>`.
pub trait Filled: sealed::Sealed {
    #[doc(hidden)]
    fn filled(self) -> capnp::Result<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for capnp::Result<()> {}
}

impl Filled for () {
    fn filled(self) -> capnp::Result<()> {
        Ok(())
    }
}

impl Filled for capnp::Result<()> {
    fn filled(self) -> capnp::Result<()> {
        self
    }
}

/// Builds a body: a message of struct `T` in stream framing.
pub(crate) fn build<T, R>(fill: impl FnOnce(T::Builder<'_>) -> R) -> capnp::Result<Bytes>
where
    T: Owned,
    R: Filled,
{
    // 512 bytes hold most parameters in one segment; larger messages grow by themselves.
    const WORDS: usize = 64;
    thread_local! {
        static SCRATCH: Cell<Vec<Word>> = const { Cell::new(Vec::new()) };
    }
    // Not there the first time, nor if filling another message is what has led here.
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch = Word::allocate_zeroed_vec(WORDS);
    }
    let body = {
        let allocator = ScratchSpaceHeapAllocator::new(Word::words_to_bytes_mut(&mut scratch));
        let mut builder = message::Builder::new(allocator.second_segment_words(2 * WORDS as u32));
        fill(builder.init_root()).filled().map(|()| serialize::write_message_to_words(&builder))
    };
    SCRATCH.set(scratch);
    body.map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capnp::any_pointer;

    fn taken(body: Vec<u8>) -> capnp::Result<Message<any_pointer::Owned>> {
        Message::from_bytes(body)
    }

    /// A root of one pointer, to a list of `wide` pointers that all point to the next such list, three deep: some KiB which read as wide^3 words.
    fn overlapping(wide: u32) -> Vec<u8> {
        let list_of_pointers =
            |offset: u32, count: u32| 1 | u64::from(offset) << 2 | 6 << 32 | u64::from(count) << 35;
        let mut words = vec![1 << 48, list_of_pointers(0, wide)];
        for level in 0..3 {
            let below = if level == 2 { 0 } else { wide };
            words.extend((0..wide).map(|at| list_of_pointers(wide - at - 1, below)));
        }
        let mut body = vec![0; 4];
        body.extend_from_slice(&(words.len() as u32).to_le_bytes());
        body.extend(words.iter().flat_map(|word: &u64| word.to_le_bytes()));
        body
    }

    #[test]
    fn a_message_whose_pointers_overlap_stands_for_no_more_than_it_has() {
        assert!(taken(overlapping(1)).is_ok());
        assert!(taken(overlapping(40)).is_err());
    }

    #[test]
    fn a_message_that_was_stored_is_read_again() {
        let mut builder = message::Builder::new_default();
        builder.set_root("ann").expect("a text can be a root");
        let sent = Message::<capnp::text::Owned>::from_bytes(serialize::write_message_to_words(&builder));
        let stored = sent.expect("what a builder wrote").as_bytes().to_vec();

        // Wherever in memory the store puts it.
        for shift in 0..8 {
            let shifted = Bytes::from([&[0; 8][..shift], &stored].concat()).slice(shift..);
            let read = Message::<capnp::text::Owned>::from_bytes(shifted).expect("what was stored");
            assert!(read.get().is_ok_and(|text| text == "ann"));
            assert_eq!(read.as_bytes(), &stored);
        }
        for length in 0..stored.len() {
            assert!(taken(stored[..length].to_vec()).is_err(), "{length} bytes of it");
        }
        let mut points_out = stored;
        points_out[8] = 0xfd;
        assert!(taken(points_out).is_err());
    }

    #[test]
    fn an_honest_message_of_any_size_is_taken() {
        for length in [0, 1, 100, 3_000] {
            let mut builder = message::Builder::new_default();
            let mut texts =
                builder.init_root::<any_pointer::Builder<'_>>().init_as::<any_pointer::Builder<'_>>();
            let mut texts = texts.reborrow().initn_as::<capnp::text_list::Builder<'_>>(length);
            (0..length).for_each(|at| texts.set(at, "selfsame".repeat(at as usize % 5)));
            assert!(taken(serialize::write_message_to_words(&builder)).is_ok(), "{length}");
        }
    }
}
