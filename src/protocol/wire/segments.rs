//! The segments of a message that was received: nearly always one.

use std::ops::Deref;

use capnp::message::{ReaderOptions, ReaderSegments};
use capnp::serialize::{BufferSegments, NoAllocBufferSegments};

/// A message in stream framing. One segment costs no allocation; of several there is a table, or each look at one would be a walk past those before it.
pub(crate) enum Segments<T> {
    One(NoAllocBufferSegments<T>),
    Many(BufferSegments<T>),
}

impl<T: AsRef<[u8]> + Deref<Target = [u8]>> Segments<T> {
    /// Reads the table at the beginning of `bytes`, which are aligned to 8.
    ///
    /// # Errors
    /// If there is none, or it names more than there is.
    pub fn new(bytes: T, options: ReaderOptions) -> capnp::Result<Self> {
        // The number of segments, less one, is what a message begins with.
        if bytes.starts_with(&[0; 4]) {
            NoAllocBufferSegments::from_buffer(bytes, options).map(Segments::One)
        } else {
            BufferSegments::new(bytes, options).map(Segments::Many)
        }
    }
}

impl<T: AsRef<[u8]> + Deref<Target = [u8]>> ReaderSegments for Segments<T> {
    fn get_segment(&self, id: u32) -> Option<&[u8]> {
        match self {
            Segments::One(one) => one.get_segment(id),
            Segments::Many(many) => many.get_segment(id),
        }
    }

    fn len(&self) -> usize {
        match self {
            Segments::One(_) => 1,
            Segments::Many(many) => many.len(),
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
