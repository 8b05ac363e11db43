//! The segments of a message that was received: nearly always one.

use std::ops::{Deref, Range};

use capnp::message::{ReaderOptions, ReaderSegments};
use capnp::serialize::{BufferSegments, NoAllocBufferSegments};

/// A message in stream framing, and where in it its segments are.
#[derive(Clone, Debug)]
pub(crate) struct Segments<T> {
    bytes: T,
    places: Places,
}

/// Of one segment this costs no allocation; of several there is a table, or each look at one would be a walk past those before it.
#[derive(Clone, Debug)]
enum Places {
    One(Range<usize>),
    Many(Box<[Range<usize>]>),
}

impl<T: Deref<Target = [u8]>> Segments<T> {
    /// Reads the table at the beginning of `bytes`, which are aligned to 8.
    ///
    /// # Errors
    /// If there is none, or it names more than there is.
    pub fn new(bytes: T, options: ReaderOptions) -> capnp::Result<Self> {
        // The number of segments, less one, is what a message begins with.
        let places = if bytes.starts_with(&[0; 4]) {
            let table = NoAllocBufferSegments::from_buffer(&bytes[..], options)?;
            Places::One(place(&bytes, table.get_segment(0)))
        } else {
            let table = BufferSegments::new(&bytes[..], options)?;
            Places::Many((0..table.len()).map(|id| place(&bytes, table.get_segment(id as u32))).collect())
        };
        Ok(Segments { bytes, places })
    }

    /// All of it, in stream framing.
    pub fn bytes(&self) -> &T {
        &self.bytes
    }
}

/// Where this piece of `bytes` is.
fn place(bytes: &[u8], piece: Option<&[u8]>) -> Range<usize> {
    piece.map_or(0..0, |piece| {
        let start = piece.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + piece.len()
    })
}

impl<T: Deref<Target = [u8]>> ReaderSegments for Segments<T> {
    fn get_segment(&self, id: u32) -> Option<&[u8]> {
        let places = match &self.places {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        };
        let place = places.get(id as usize)?;
        self.bytes.get(place.clone())
    }

    fn len(&self) -> usize {
        match &self.places {
            Places::One(_) => 1,
            Places::Many(places) => places.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use capnp::message::{AllocationStrategy, Builder, HeapAllocator, Reader};
    use capnp::{serialize, text_list};

    use super::*;

    #[test]
    fn one_segment_and_many_read_the_same() {
        for words in [1, 1024] {
            let allocator = HeapAllocator::new()
                .first_segment_words(words)
                .allocation_strategy(AllocationStrategy::FixedSize);
            let mut message = Builder::new(allocator);
            let mut texts = message.initn_root::<text_list::Builder<'_>>(20);
            (0..20).for_each(|at| texts.set(at, "selfsame"));
            let bytes = super::super::aligned(serialize::write_message_to_words(&message).into());
            let segments = Segments::new(bytes, ReaderOptions::new()).expect("a valid message");
            assert_eq!(segments.len() > 1, words == 1);
            let reader = Reader::new(segments, ReaderOptions::new());
            let texts = reader.get_root::<text_list::Reader<'_>>().expect("the root");
            assert!(texts.len() == 20 && texts.iter().all(|text| text.expect("a text") == "selfsame"));
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for bytes in [&[][..], &[0; 7], &[0, 0, 0, 0, 1, 0, 0, 0], &[0xff; 16], &[1, 0, 0, 0, 0, 0, 0, 0]] {
            let bytes = super::super::aligned(bytes::Bytes::copy_from_slice(bytes));
            assert!(Segments::new(bytes.clone(), ReaderOptions::new()).is_err(), "{bytes:?}");
        }
    }
}
