//! One connection between a stranger and a socket of the crate, from the end of the handshakes to the last byte.
//!
//! It relays bytes in both directions, counts them, judges those that come in, and answers ZMTP's PING itself. It decodes no message.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::backlog::{Backlog, poll_read, with_scratch};
use super::close::CloseReason;
use super::link::{Link, Links, Order};
use super::spin::{self, Cause};
use super::throttle::{Rates, Throttle};
use super::turns::come_back;
use crate::protocol::gate::{Bucket, Rate};
use crate::protocol::zmtp::{Command, Inspector, Limits, Outward};

/// Reads of one direction before other tasks of the thread have their turn: up to 1 MiB.
const TURNS: usize = 16;

/// So long one read of a stranger, and all that is done with it, may take; then other tasks have their turn, and less is read the next time. Bulk is done with far
/// sooner, but 64 KiB may also be thousands of PINGs, each of which costs an answer, or tens of thousands of messages.
const BITE_TIME: Duration = Duration::from_micros(250);

/// What is read at first, and at least.
const BITE: usize = 2 * 1024;

/// Less is soon done, whatever it is: the clock is not worth asking.
const NIBBLE: usize = 512;

/// See the module.
pub(crate) struct Relay<S> {
    links: Rc<Links>,
    link: Rc<Link>,
    /// The stranger.
    outer: S,
    /// The crate's socket.
    inner: UnixStream,
    inward: Inspector,
    outward: Outward,
    /// While it is not empty the stranger is not read: it waits, not we.
    to_inner: Backlog,
    /// The crate's socket is always read, lest its writer waits. So this holds up to what may be outstanding.
    to_outer: Backlog,
    commands: Bucket,
    throttle: Throttle,
    /// What may be read at once: twice as much after each read that had so much and was soon done.
    bite: usize,
    inner_ended: bool,
    half_closed: bool,
}

/// What a stranger may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub frames: Limits,
    /// More closes the connection: each may cost an answer.
    pub commands: Rate,
    /// More is not read for a while.
    pub rates: Rates,
}

/// A connection as the gate hands it over after the handshakes, with what was read beyond them.
pub(crate) struct Joined<S> {
    pub outer: S,
    pub from_outer: Vec<u8>,
    pub inner: UnixStream,
    pub from_inner: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<S> {
    /// Relays until the connection has ended on both sides; returns why.
    ///
    /// When it returns, the crate's socket has handed out every message of this connection that it ever will.
    pub fn run(
        joined: Joined<S>,
        links: Rc<Links>,
        link: Rc<Link>,
        bounds: Bounds,
    ) -> impl Future<Output = CloseReason> {
        let Joined { outer, from_outer, inner, from_inner } = joined;
        // Boxed: as a part of its own future it would be in there more than once.
        let relay = Box::new(Relay {
            links,
            link,
            outer,
            inner,
            inward: Inspector::new(bounds.frames),
            outward: Outward::default(),
            to_inner: Backlog::default(),
            to_outer: Backlog::default(),
            commands: Bucket::new(bounds.commands, Default::default()),
            throttle: Throttle::new(bounds.rates),
            bite: BITE,
            inner_ended: false,
            half_closed: false,
        });
        relay.carry(from_outer, from_inner)
    }

    async fn carry(mut self: Box<Self>, from_outer: Vec<u8>, from_inner: Vec<u8>) -> CloseReason {
        let early = poll_fn(|cx| {
            Poll::Ready(self.take_in(&from_outer, cx).and_then(|()| self.take_out(&from_inner, cx)))
        });
        let early = early.await;
        drop((from_outer, from_inner));
        let found = match early {
            Ok(()) => poll_fn(|cx| with_scratch(|scratch| self.poll_relay(cx, scratch))).await,
            Err(reason) => reason,
        };
        let order = self.link.ends(found, self.links.linger_until());
        if let Order::Close(_) = order {
            poll_fn(|cx| with_scratch(|scratch| self.poll_finish(cx, scratch))).await;
        }
        let reason = match order {
            Order::Close(reason) | Order::Abort(reason) => reason,
            Order::Relay => found,
        };
        self.release().await;
        reason
    }

    /// Ends the stranger's connection, then lets the crate's socket read what came before: its own end follows when it has.
    async fn release(self: Box<Self>) {
        let Relay { outer, mut inner, links, .. } = *self;
        let turn = links.leaving.take().await;
        drop(outer);
        let told = inner.shutdown().await;
        drop(turn);
        if told.is_ok() {
            poll_fn(|cx| with_scratch(|scratch| poll_discard(&mut inner, cx, scratch))).await;
        }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<CloseReason> {
        self.link.register(cx);
        if let Order::Close(reason) | Order::Abort(reason) = self.link.order() {
            return Poll::Ready(reason);
        }
        if let Poll::Ready(reason) = self.poll_inward(cx, scratch) {
            return Poll::Ready(reason);
        }
        self.poll_outward(cx, scratch)
    }

    fn poll_inward(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<CloseReason> {
        for _ in 0..TURNS {
            self.link.set_held_up(true);
            if self.link.is_paused() {
                return Poll::Pending;
            }
            if ready!(self.to_inner.poll_flush(&mut self.inner, cx, |_| ())).is_err() {
                return Poll::Ready(CloseReason::Released);
            }
            ready!(self.throttle.poll_ready(cx));
            self.link.set_held_up(false);
            let most = self.bite.min(scratch.len());
            let taken = match ready!(poll_read(&mut self.outer, cx, self.throttle.clip(&mut scratch[..most])))
            {
                Ok([]) => Err(CloseReason::Peer),
                Ok(bytes) => self.take_bite(bytes, most, cx),
                Err(error) => Err(CloseReason::Broken(error.kind())),
            };
            match taken {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => return Poll::Ready(reason),
            }
        }
        come_back(cx);
        Poll::Pending
    }

    fn poll_outward(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<CloseReason> {
        for _ in 0..TURNS {
            let (links, link) = (&self.links, &self.link);
            let flushed = self.to_outer.poll_flush(&mut self.outer, cx, |bytes| links.written(link, bytes));
            if let Poll::Ready(Err(error)) = flushed {
                return Poll::Ready(CloseReason::Broken(error.kind()));
            }
            self.link.pass_some();
            if let Err(reason) = self.answer_ping(cx) {
                return Poll::Ready(reason);
            }
            let taken = match ready!(poll_read(&mut self.inner, cx, scratch)) {
                Ok([]) | Err(_) => Err(CloseReason::Released),
                Ok(bytes) => self.take_out(bytes, cx),
            };
            if let Err(reason) = taken {
                return Poll::Ready(reason);
            }
        }
        come_back(cx);
        Poll::Pending
    }

    /// Takes in what was read, of which it could have been so much. False: that took long.
    fn take_bite(&mut self, bytes: &[u8], most: usize, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        let begun = (bytes.len() >= NIBBLE).then(Instant::now);
        self.take_in(bytes, cx)?;
        if begun.is_some_and(|begun| begun.elapsed() > BITE_TIME) {
            self.bite = (most / 2).max(BITE);
            return Ok(false);
        }
        if bytes.len() == most {
            self.bite = 2 * most;
        }
        Ok(true)
    }

    /// Judges what the stranger sent and passes it on, but for commands.
    fn take_in(&mut self, mut bytes: &[u8], cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.link.heard(bytes.len());
        spin::note(Cause::Heard);
        let (length, before) = (bytes.len(), self.inward.messages());
        while !bytes.is_empty() {
            let seen = self.inward.inspect(bytes).map_err(CloseReason::Violation)?;
            let (pass, rest) = bytes.split_at(seen.pass);
            self.to_inner.write(&mut self.inner, cx, pass, |_| ()).map_err(|_| CloseReason::Released)?;
            bytes = &rest[seen.skip..];
            if seen.command.is_some() && !self.commands.take(self.link.age()) {
                return Err(CloseReason::Commands);
            }
            if let Some(Command::Ping(context)) = seen.command {
                self.outward.ask(context);
                self.answer_ping(cx)?;
            }
        }
        self.account(self.inward.messages() - before, length);
        Ok(())
    }

    /// So much came in.
    fn account(&mut self, messages: u64, bytes: usize) {
        if messages > 0 {
            self.link.spoke();
            self.links.stretched(&self.link, self.inward.longest_frame(), 0);
        }
        let unfinished = usize::try_from(self.inward.unfinished()).unwrap_or(usize::MAX);
        self.links.set_unfinished(&self.link, unfinished);
        if self.throttle.charge(messages, bytes) {
            self.links.count(|counters| counters.throttled += 1);
        }
    }

    /// Passes on what the crate's socket sent. An answer to a PING has its place where a message ends.
    fn take_out(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), CloseReason> {
        // Our own side sends no commands after its READY, and has no limits.
        let cut = self.outward.pass(bytes).map_err(|_| CloseReason::Released)?;
        let (first, rest) = bytes.split_at(cut.first);
        self.write_out(first, cx)?;
        if let Some(pong) = cut.pong {
            self.write_pong(&pong, cx)?;
        }
        self.write_out(rest, cx)
    }

    /// Answers between messages, and only when the stranger has taken all that came before: one that asks and does not read gets no heap of answers.
    fn answer_ping(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        if !self.to_outer.is_empty() {
            return Ok(());
        }
        self.outward.due().map_or(Ok(()), |pong| self.write_pong(&pong, cx))
    }

    fn write_pong(&mut self, pong: &[u8], cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.links.handed_over(&self.link, pong.len());
        self.write_out(pong, cx)
    }

    fn write_out(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let (links, link) = (&self.links, &self.link);
        let written = self.to_outer.write(&mut self.outer, cx, bytes, |bytes| links.written(link, bytes));
        written.map_err(|error| CloseReason::Broken(error.kind()))
    }

    /// Writes out what was handed over, says that this is all, and waits for the stranger to end. What the stranger still says is lost.
    fn poll_finish(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        self.link.register(cx);
        if let Order::Abort(_) = self.link.order() {
            return Poll::Ready(());
        }
        if !self.half_closed {
            match self.poll_outward(cx, scratch) {
                Poll::Ready(CloseReason::Released) => self.inner_ended = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            let all_said = self.inner_ended || self.link.outstanding() == 0;
            if all_said && self.to_outer.is_empty() {
                match Pin::new(&mut self.outer).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => self.half_closed = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {} // encryption has something left to write
                }
            }
        }
        poll_discard(&mut self.outer, cx, scratch)
    }
}

/// Reads to the end, or to an error, and keeps nothing.
fn poll_discard<R: AsyncRead + Unpin>(from: &mut R, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
    for _ in 0..TURNS {
        if let Ok([]) | Err(_) = ready!(poll_read(from, cx, scratch)) {
            return Poll::Ready(());
        }
    }
    come_back(cx);
    Poll::Pending
}
