//! What the owner of a socket and the relays of its connections know of each other: accounts, orders and news.
//!
//! All of it belongs to one IO thread, hence cells and no locks. It moves no bytes.

mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Part;
use super::close::CloseReason;
use super::held::Held;
use super::hub::{Hub, NotTaken};
use super::stream::{Network, Peer};
use crate::protocol::ConnectionId;

pub(crate) use table::{Links, Sums};

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such connection (any more).
    #[error("the connection has gone")]
    Gone,
    /// The peer takes less than it is sent. A `Router` closes its connection; a `Dealer` keeps it, unless its message queue is full.
    #[error("the peer does not take what it is sent")]
    Full,
}

/// What the owner wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Relay,
    /// Write what was handed over, then close.
    Close(CloseReason),
    /// Close now.
    Abort(CloseReason),
}

/// What a relay tells the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Writable(ConnectionId),
    Closed(ConnectionId, CloseReason),
}

/// Who or what is behind a connection, as far as that is known.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    Name(Arc<str>),
    Network(Network),
    Connection(ConnectionId),
}

/// Settings that a [`Links`] has for all of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkLimits {
    pub outstanding: usize,
    pub low_water: usize,
    pub stall_timeout: Duration,
    pub linger: Duration,
    /// For the first whole message, from the end of the handshake on.
    pub first_message_timeout: Option<Duration>,
    /// Until the owner sets another.
    pub idle_timeout: Option<Duration>,
}

impl LinkLimits {
    /// Whether `bytes` more may be handed over. A single message may be longer than the limit, or none of its size could ever be sent.
    pub fn has_room(&self, outstanding: usize, bytes: usize) -> bool {
        outstanding == 0 || outstanding.saturating_add(bytes) <= self.outstanding
    }
}

/// One connection behind a gate.
pub(crate) struct Link {
    pub id: ConnectionId,
    pub peer: Peer,
    /// Where it is joined.
    hub: Rc<Hub>,
    /// Set by the first thing that comes out of the crate's socket for this connection.
    pub announced: Cell<bool>,
    order: Cell<Order>,
    /// Bytes handed over and not yet written to the stranger. Changed by the link's own thread alone, and read by its owner's, which may be another.
    outstanding: Arc<AtomicUsize>,
    /// The part of it that the hub has not been given.
    held: Held,
    above: Cell<bool>,
    heard: Cell<u64>,
    written: Cell<u64>,
    heard_since: Cell<(u64, Instant)>,
    written_since: Cell<(u64, Instant)>,
    idle_timeout: Cell<Option<Duration>>,
    /// When a graceful close has taken long enough.
    deadline: Cell<Option<Instant>>,
    relay: RefCell<Option<Waker>>,
    since: Instant,
    /// A whole message came.
    spoke: Cell<bool>,
    /// It is not being read, so its silence is ours.
    held_up: Cell<bool>,
    /// Its stranger is not read until its owner has taken what came.
    paused: Cell<bool>,
    unfinished: Part,
    /// What the budget knows of `outstanding`.
    known_outstanding: Part,
    /// The longest that came in and went out at once, of which buffers of that size are left; none if they are short.
    longest: Cell<(usize, usize)>,
    buffers: Part,
}

impl Link {
    pub fn new(id: ConnectionId, peer: Peer, hub: Rc<Hub>, limits: &LinkLimits) -> Link {
        let now = Instant::now();
        Link {
            id,
            peer,
            hub,
            announced: Cell::new(false),
            order: Cell::new(Order::Relay),
            outstanding: Arc::default(),
            held: Held::default(),
            above: Cell::new(false),
            heard: Cell::new(0),
            written: Cell::new(0),
            heard_since: Cell::new((0, now)),
            written_since: Cell::new((0, now)),
            idle_timeout: Cell::new(limits.idle_timeout),
            deadline: Cell::new(None),
            relay: RefCell::new(None),
            since: now,
            spoke: Cell::new(false),
            held_up: Cell::new(false),
            paused: Cell::new(false),
            unfinished: Part::new(now),
            known_outstanding: Part::new(now),
            longest: Cell::default(),
            buffers: Part::new(now),
        }
    }

    fn source(&self) -> Source {
        let named = self.peer.name.clone().map(Source::Name);
        named.or(self.peer.address.network().map(Source::Network)).unwrap_or(Source::Connection(self.id))
    }

    pub fn is_at(&self, hub: &Rc<Hub>) -> bool {
        Rc::ptr_eq(&self.hub, hub)
    }

    pub fn order(&self) -> Order {
        self.order.get()
    }

    /// Whether the owner wants to hear no more of it.
    pub fn closed_by_owner(&self) -> bool {
        self.order.get() == Order::Close(CloseReason::Requested)
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// The same, to be looked at from another thread.
    pub fn shared_outstanding(&self) -> Arc<AtomicUsize> {
        self.outstanding.clone()
    }

    /// Gives the hub a message, which never waits. If it has no room for more, the connection is closed.
    fn pass(&self, frames: Vec<Bytes>) -> Result<(), SendError> {
        self.hub.pass(self.id, frames).map_err(|not_taken| match not_taken {
            NotTaken::Gone => SendError::Gone,
            NotTaken::Stuck => {
                self.close(CloseReason::TooSlow);
                SendError::Full
            }
        })
    }

    /// Gives the hub what it has room for now, of what is held.
    pub fn pass_some(&self) {
        while let Some(frames) = self.held.pop(self.outstanding()) {
            let _ = self.pass(frames); // if it is not taken, the connection ends
        }
    }

    /// Gives the hub all that is held, room or not: it is about to go.
    pub fn pass_all(&self) {
        while let Some(frames) = self.held.pop_anyway() {
            let _ = self.pass(frames);
        }
    }

    /// Asks for an end. The first asker's reason stands, but a close can still become an abort.
    pub fn close(&self, reason: CloseReason) {
        match (self.order.get(), reason.is_graceful()) {
            (Order::Relay, true) => self.order.set(Order::Close(reason)),
            (Order::Relay, false) => self.order.set(Order::Abort(reason)),
            (Order::Close(first), false) => self.order.set(Order::Abort(first)),
            _ => return,
        }
        self.wake_relay();
    }

    fn wake_relay(&self) {
        if let Some(relay) = self.relay.take() {
            relay.wake();
        }
    }

    /// Whether its stranger is not to be read for a while.
    pub fn pause(&self, paused: bool) {
        if self.paused.replace(paused) && !paused {
            self.wake_relay();
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// The relay's own finding that the connection ends.
    pub fn ends(&self, reason: CloseReason, deadline: Instant) -> Order {
        if self.order.get() == Order::Relay {
            self.order.set(if reason.is_graceful() { Order::Close(reason) } else { Order::Abort(reason) });
        }
        self.deadline.set(Some(deadline));
        self.order.get()
    }

    /// From now on a peer that is silent for so long is closed. For peers that have promised to speak up.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.idle_timeout.set(timeout);
        self.heard_since.set((self.heard.get(), Instant::now())); // silence before the promise does not count
    }

    pub fn register(&self, cx: &Context<'_>) {
        register(&self.relay, cx);
    }

    pub fn heard(&self, bytes: usize) {
        self.heard.set(self.heard.get() + bytes as u64);
    }

    /// A whole message came.
    pub fn spoke(&self) {
        self.spoke.set(true);
    }

    /// Whether it is not being read for reasons of ours.
    pub fn set_held_up(&self, held_up: bool) {
        self.held_up.set(held_up);
    }

    /// How long it has been there.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Looks what has changed since last time, and closes what has stood still for too long.
    fn tick(&self, now: Instant, limits: &LinkLimits) {
        let still = |since: &Cell<(u64, Instant)>, count: u64| {
            if since.get().0 != count {
                since.set((count, now));
            }
            now - since.get().1
        };
        if self.held_up.get() {
            self.heard_since.set((self.heard.get(), now));
        }
        let silent = still(&self.heard_since, self.heard.get());
        if self.outstanding() == 0 {
            self.written_since.set((self.written.get(), now));
        }
        let stalled = still(&self.written_since, self.written.get());
        if stalled >= limits.stall_timeout {
            self.close(CloseReason::TooSlow);
        }
        if self.idle_timeout.get().is_some_and(|timeout| silent >= timeout) {
            self.close(CloseReason::Idle);
        }
        let mute = limits.first_message_timeout.filter(|_| !self.spoke.get());
        if mute.is_some_and(|timeout| now - self.since >= timeout) {
            self.close(CloseReason::NoMessage);
        }
        if self.deadline.get().is_some_and(|deadline| now >= deadline) {
            self.close(CloseReason::TooSlow); // turns a graceful close into an abort
        }
    }
}

/// Who is to be woken from now on.
pub(crate) fn register(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &mut *slot {
        Some(waker) => waker.clone_from(cx.waker()), // free if it is the same task's
        None => *slot = Some(cx.waker().clone()),
    }
}
