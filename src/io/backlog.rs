//! Bytes that a stream would not take yet, and the buffer that all reads of a thread share.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One read's worth: large bodies lose half their speed at 16 KiB.
const READ: usize = 64 * 1024;

/// A backlog that has emptied keeps so much room and gives the rest back.
const KEEP: usize = 1024;

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
#[derive(Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    /// Those before it are written.
    start: usize,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
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
        while !self.is_empty() {
            let written = ready!(poll_write(to, cx, &self.bytes[self.start..]))?;
            self.start += written;
            wrote(written);
        }
        self.start = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
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
