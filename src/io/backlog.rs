//! Bytes that a stream would not take yet, and the buffer that all reads of a thread share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One read's worth: large bodies lose half their speed at 16 KiB.
const READ: usize = 64 * 1024;

/// A backlog that has emptied keeps so much room and gives the rest back.
const KEEP: usize = 1024;

/// The longest piece of a backlog: one write's worth.
const PIECE: usize = READ;

thread_local! {
    // A connection that has nothing to say costs no buffer: a poll reads into this one, and moves on what it read before it returns.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Lends the thread's read buffer. Not to be called again from within `read`.
pub(crate) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// Reads once; nothing is the end of the stream.
pub(crate) fn poll_read<'a, R>(
    from: &mut R,
    cx: &mut Context<'_>,
    scratch: &'a mut [u8],
) -> Poll<io::Result<&'a [u8]>>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = ReadBuf::new(scratch);
    ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
    let length = buffer.filled().len();
    Poll::Ready(Ok(&scratch[..length]))
}

/// What waits to be written to one stream.
///
/// In pieces: as one buffer it would be copied whole whenever it grows or its beginning is written, and the thread would stand still for as long as tens of MiB take.
#[derive(Default)]
pub(crate) struct Backlog {
    /// None is empty, but for one that is kept for its room and alone.
    pieces: VecDeque<Vec<u8>>,
    /// Those of the first piece before it are written.
    start: usize,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.pieces.front().is_none_or(Vec::is_empty)
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pieces.back().is_none_or(|last| last.len() >= PIECE) {
                self.pieces.push_back(Vec::new());
            }
            let Some(last) = self.pieces.back_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - last.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Writes what waits; ready when nothing does, here or within the stream. `wrote` hears of every piece.
    pub fn poll_flush<W>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        wrote: impl Fn(usize),
    ) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        let mut more = self.pieces.len();
        while let Some(first) = self.pieces.front_mut().filter(|first| !first.is_empty()) {
            let written = ready!(poll_write(to, cx, &first[self.start..]))?;
            self.start += written;
            wrote(written);
            if self.start == first.len() {
                self.start = 0;
                first.clear();
                if more > 1 || first.capacity() > KEEP {
                    self.pieces.pop_front();
                }
                more -= 1;
            }
        }
        Pin::new(to).poll_flush(cx)
    }

    /// Writes `bytes` after what waits, and keeps what the stream does not take now.
    pub fn write<W>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
        wrote: impl Fn(usize),
    ) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        while self.is_empty() && !bytes.is_empty() {
            match poll_write(to, cx, bytes)? {
                Poll::Ready(written) => {
                    wrote(written);
                    bytes = &bytes[written..];
                }
                Poll::Pending => break,
            }
        }
        if !bytes.is_empty() {
            self.push(bytes);
        }
        Ok(())
    }
}

fn poll_write<W: AsyncWrite + Unpin>(
    to: &mut W,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::task::Waker;

    /// Takes so many bytes at each write, and none where that is 0.
    struct Slow {
        takes: VecDeque<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.takes.pop_front() {
                None | Some(0) => Poll::Pending,
                Some(most) => {
                    let taken = most.min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..taken]);
                    Poll::Ready(Ok(taken))
                }
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order_and_is_told(
            said in proptest::collection::vec(0_usize..200_000, 1..12),
            takes in proptest::collection::vec(prop_oneof![Just(0), 1_usize..100_000], 0..40),
        ) {
            let mut cx = Context::from_waker(Waker::noop());
            let mut slow = Slow { takes: takes.into(), taken: Vec::new() };
            let (mut backlog, mut all, told) = (Backlog::default(), Vec::new(), Cell::new(0));
            let wrote = |bytes| told.set(told.get() + bytes);
            for (at, length) in said.into_iter().enumerate() {
                let bytes = vec![at as u8; length];
                all.extend_from_slice(&bytes);
                let _ = backlog.poll_flush(&mut slow, &mut cx, wrote);
                backlog.write(&mut slow, &mut cx, &bytes, wrote).unwrap();
                prop_assert_eq!(told.get(), slow.taken.len());
            }
            slow.takes = vec![usize::MAX; 100].into();
            prop_assert!(backlog.poll_flush(&mut slow, &mut cx, wrote).is_ready());
            prop_assert!(backlog.is_empty());
            prop_assert!(backlog.pieces.iter().map(Vec::capacity).sum::<usize>() <= KEEP);
            prop_assert_eq!(told.get(), all.len());
            prop_assert!(slow.taken == all);
        }
    }
}
