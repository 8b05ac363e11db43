//! A ROUTER of the crate, and the way to it for connections: they are joined to it at a private Unix socket. Whose connections they are, and what becomes of
//! their messages, is its owner's business: a [`Gate`](super::gate::Gate), or the [`Exchange`](super::exchange::Exchange) of a thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeromq::{Socket as _, SocketRecv, SocketSend, ZmqMessage};

use super::inner::{INNER_TIMEOUT, Listening, connect, socket_options};
use super::stream::is_want;
use crate::protocol::ConnectionId;

/// How many connections may wait for the crate's accept loop; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// See the module.
pub(crate) struct Hub {
    /// None: it was closed.
    socket: RefCell<Option<zeromq::RouterSocket>>,
    listening: Listening,
    joined: Cell<u64>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotTaken {
    /// There is no such connection, or it cannot be sent.
    Gone,
    /// 100,000 messages of the connection wait. Whether this one is among them is not known, so the connection is of no use any more.
    Stuck,
}

impl Hub {
    pub async fn open() -> io::Result<Rc<Hub>> {
        let (listening, listener) = Listening::begin(BACKLOG)?;
        let mut socket = zeromq::RouterSocket::with_options(socket_options());
        socket.bind_listener(listener).await.map_err(io::Error::other)?;
        Ok(Rc::new(Hub { socket: RefCell::new(Some(socket)), listening, joined: Cell::new(0) }))
    }

    /// Joins a connection to it; returns the private side, and what was read there already. The first message that comes of the connection is not the
    /// stranger's: it tells that the ROUTER knows the connection now, and can send to it.
    pub async fn join(&self, id: ConnectionId) -> io::Result<(UnixStream, Vec<u8>)> {
        self.joined.set(self.joined.get().saturating_add(1));
        // Boxed: what it takes is given back when it is done, and the connection may stay for days.
        let connecting = Box::pin(timeout(INNER_TIMEOUT, connect(&self.listening, id.0)));
        let joined =
            connecting.await.map_err(io::Error::from).and_then(|joined| joined.map_err(io::Error::from));
        joined.inspect_err(|error| match error.raw_os_error() {
            // For want of descriptors, or of a place in the queue: another hub would be no better.
            Some(_) if is_want(error) || error.kind() == io::ErrorKind::WouldBlock => {}
            _ => self.retire(),
        })
    }

    /// How many connections were joined to it. It keeps some 110 bytes of each for ever, which is why hubs are renewed.
    pub fn joined(&self) -> u64 {
        self.joined.get()
    }

    /// Something is wrong with it: as if more connections had been joined to it than to any, so that the next gets another.
    pub fn retire(&self) {
        self.joined.set(u64::MAX);
    }

    /// Gives it a message for a connection. Never waits.
    pub fn pass(&self, to: ConnectionId, frames: Vec<Bytes>) -> Result<(), NotTaken> {
        let mut message = VecDeque::from(frames);
        message.push_front(Bytes::copy_from_slice(&to.0.to_be_bytes()));
        let message = ZmqMessage::try_from(message).map_err(|_| NotTaken::Gone)?;
        let mut socket = self.socket.borrow_mut();
        let socket = socket.as_mut().ok_or(NotTaken::Gone)?;
        // Polled once and dropped: a send that waits holds a lock of the crate's, and all its connections up.
        match socket.send(message).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sent) => sent.map_err(|_| NotTaken::Gone),
            Poll::Pending => Err(NotTaken::Stuck),
        }
    }

    /// The next message of any connection, and which one's it is. Who stops polling loses nothing: the crate keeps what it has read.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<(ConnectionId, Vec<Bytes>)> {
        if let Some(socket) = &mut *self.socket.borrow_mut() {
            while let Poll::Ready(Ok(message)) = socket.recv().as_mut().poll(cx) {
                if let Some(message) = numbered(message) {
                    return Poll::Ready(message);
                }
            }
        }
        Poll::Pending
    }

    /// What it was given is still written, and then its connections end.
    pub fn close(&self) {
        *self.socket.borrow_mut() = None;
    }
}

/// A message without the identity of its connection, which is its number.
fn numbered(message: ZmqMessage) -> Option<(ConnectionId, Vec<Bytes>)> {
    let mut frames = message.into_vecdeque();
    let identity = frames.pop_front()?;
    let id = ConnectionId(u64::from_be_bytes(identity.as_ref().try_into().ok()?));
    Some((id, frames.into()))
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_fails_gets_no_more_connections() {
        let work = async {
            let hub = Hub::open().await.unwrap();
            hub.join(ConnectionId(1)).await.unwrap();
            assert_eq!(hub.joined(), 1);
            hub.close();
            assert!(hub.join(ConnectionId(2)).await.is_err());
            assert_eq!(hub.joined(), u64::MAX);
        };
        LocalSet::new().run_until(work).await;
    }
}
