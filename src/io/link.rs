//! What the owner of a socket and the relays of its connections know of each other: accounts, orders and news.
//!
//! All of it belongs to one IO thread, hence cells and no locks. It moves no bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use super::stream::Peer;
use crate::protocol::ConnectionId;
use crate::protocol::zmtp::Violation;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The stranger ended it in an orderly way.
    Peer,
    /// It broke.
    Broken(io::ErrorKind),
    /// The stranger broke the protocol or a limit.
    Violation(Violation),
    /// The stranger did not take what it was sent: too much was outstanding, or nothing moved for too long.
    TooSlow,
    /// It said nothing for longer than it was allowed to.
    Idle,
    /// The owner of the socket closed it.
    Requested,
    /// The socket itself was drained or dropped.
    Released,
}

impl CloseReason {
    /// Whether the stranger still gets what it was sent before.
    fn is_graceful(self) -> bool {
        matches!(self, CloseReason::Requested | CloseReason::Released | CloseReason::Idle)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Peer => f.write_str("the peer ended the connection"),
            CloseReason::Broken(kind) => write!(f, "the connection broke: {kind}"),
            CloseReason::Violation(violation) => write!(f, "the peer sent {violation}"),
            CloseReason::TooSlow => f.write_str("the peer does not take what it is sent"),
            CloseReason::Idle => f.write_str("the peer said nothing for too long"),
            CloseReason::Requested => f.write_str("closed on this side"),
            CloseReason::Released => f.write_str("the socket was closed on this side"),
        }
    }
}

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

/// What happened at a gate so far. All only ever rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these: closed at once, because as many as may be were open.
    pub turned_away: u64,
    /// Of these: gone before the handshake was done, or refused by it.
    pub refused: u64,
    /// Of these: closed because the handshake took too long.
    pub handshake_timeouts: u64,
    /// Connections that came through the handshake.
    pub opened: u64,
    /// Connections closed, after they had opened.
    pub closed: u64,
    /// Of these: because the peer broke the protocol or a limit.
    pub violations: u64,
    /// Of these: because the peer did not take what it was sent.
    pub too_slow: u64,
    /// Times that accepting failed, mostly for want of descriptors.
    pub accept_errors: u64,
    /// Times that the crate's socket was renewed.
    pub renewals: u64,
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

/// Settings that a [`Links`] has for all of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkLimits {
    pub outstanding: usize,
    pub low_water: usize,
    pub stall_timeout: Duration,
    pub linger: Duration,
}

/// One connection behind a gate.
pub(crate) struct Link {
    pub id: ConnectionId,
    pub peer: Peer,
    /// Which of the crate's sockets it is connected to.
    pub core: u64,
    /// Set by the first thing that comes out of the crate's socket for this connection.
    pub announced: Cell<bool>,
    order: Cell<Order>,
    /// Bytes handed over and not yet written to the stranger.
    outstanding: Cell<usize>,
    above: Cell<bool>,
    heard: Cell<u64>,
    written: Cell<u64>,
    heard_since: Cell<(u64, Instant)>,
    written_since: Cell<(u64, Instant)>,
    idle_timeout: Cell<Option<Duration>>,
    /// When a graceful close has taken long enough.
    deadline: Cell<Option<Instant>>,
    relay: RefCell<Option<Waker>>,
}

impl Link {
    pub fn new(id: ConnectionId, peer: Peer, core: u64) -> Link {
        let now = Instant::now();
        Link {
            id,
            peer,
            core,
            announced: Cell::new(false),
            order: Cell::new(Order::Relay),
            outstanding: Cell::new(0),
            above: Cell::new(false),
            heard: Cell::new(0),
            written: Cell::new(0),
            heard_since: Cell::new((0, now)),
            written_since: Cell::new((0, now)),
            idle_timeout: Cell::new(None),
            deadline: Cell::new(None),
            relay: RefCell::new(None),
        }
    }

    pub fn order(&self) -> Order {
        self.order.get()
    }

    /// Whether the owner wants to hear no more of it.
    pub fn closed_by_owner(&self) -> bool {
        self.order.get() == Order::Close(CloseReason::Requested)
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.get()
    }

    /// Asks for an end. The first asker's reason stands, but a close can still become an abort.
    pub fn close(&self, reason: CloseReason) {
        match (self.order.get(), reason.is_graceful()) {
            (Order::Relay, true) => self.order.set(Order::Close(reason)),
            (Order::Relay, false) => self.order.set(Order::Abort(reason)),
            (Order::Close(first), false) => self.order.set(Order::Abort(first)),
            _ => return,
        }
        if let Some(relay) = self.relay.take() {
            relay.wake();
        }
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

    /// Looks what has changed since last time, and closes what has stood still for too long.
    fn tick(&self, now: Instant, limits: &LinkLimits) {
        let still = |since: &Cell<(u64, Instant)>, count: u64| {
            if since.get().0 != count {
                since.set((count, now));
            }
            now - since.get().1
        };
        let silent = still(&self.heard_since, self.heard.get());
        if self.outstanding.get() == 0 {
            self.written_since.set((self.written.get(), now));
        }
        let stalled = still(&self.written_since, self.written.get());
        if stalled >= limits.stall_timeout {
            self.close(CloseReason::TooSlow);
        }
        if self.idle_timeout.get().is_some_and(|timeout| silent >= timeout) {
            self.close(CloseReason::Idle);
        }
        if self.deadline.get().is_some_and(|deadline| now >= deadline) {
            self.close(CloseReason::TooSlow); // turns a graceful close into an abort
        }
    }
}

fn register(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &mut *slot {
        Some(waker) => waker.clone_from(cx.waker()), // free if it is the same task's
        None => *slot = Some(cx.waker().clone()),
    }
}

/// The connections of one socket.
pub(crate) struct Links {
    limits: LinkLimits,
    table: RefCell<HashMap<ConnectionId, Rc<Link>>>,
    /// At most one of each kind a connection.
    news: RefCell<VecDeque<News>>,
    owner: RefCell<Option<Waker>>,
    counters: Cell<Counters>,
}

impl Links {
    pub fn new(limits: LinkLimits) -> Links {
        Links {
            limits,
            table: RefCell::default(),
            news: RefCell::default(),
            owner: RefCell::default(),
            counters: Cell::default(),
        }
    }

    /// A number that no connection of the process had before.
    pub fn number() -> ConnectionId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub fn insert(&self, link: Rc<Link>) {
        self.table.borrow_mut().insert(link.id, link);
    }

    pub fn find(&self, id: ConnectionId) -> Option<Rc<Link>> {
        self.table.borrow().get(&id).cloned()
    }

    /// The connection has ended and is not known any more. Its owner hears of it if it ever heard of the connection.
    pub fn remove(&self, id: ConnectionId, reason: CloseReason) {
        let Some(link) = self.table.borrow_mut().remove(&id) else { return };
        if link.announced.get() {
            self.count(|counters| {
                counters.closed += 1;
                match reason {
                    CloseReason::Violation(_) => counters.violations += 1,
                    CloseReason::TooSlow => counters.too_slow += 1,
                    _ => {}
                }
            });
            self.tell(News::Closed(id, reason));
        }
    }

    pub fn len(&self) -> usize {
        self.table.borrow().len()
    }

    /// How many connections the crate's socket `core` has.
    pub fn count_of(&self, core: u64) -> usize {
        self.table.borrow().values().filter(|link| link.core == core).count()
    }

    /// Whether `bytes` more may be handed over. A single message may be longer than the limit, or none of its size could ever be sent.
    pub fn has_room(&self, link: &Link, bytes: usize) -> bool {
        link.outstanding.get() == 0 || link.outstanding.get().saturating_add(bytes) <= self.limits.outstanding
    }

    pub fn handed_over(&self, link: &Link, bytes: usize) {
        link.outstanding.set(link.outstanding.get() + bytes);
        if link.outstanding.get() > self.limits.low_water {
            link.above.set(true);
        }
    }

    pub fn written(&self, link: &Link, bytes: usize) {
        link.written.set(link.written.get() + bytes as u64);
        link.outstanding.set(link.outstanding.get().saturating_sub(bytes));
        if link.outstanding.get() <= self.limits.low_water && link.above.replace(false) {
            self.tell(News::Writable(link.id));
        }
    }

    pub fn linger_until(&self) -> Instant {
        Instant::now() + self.limits.linger
    }

    fn tell(&self, news: News) {
        self.news.borrow_mut().push_back(news);
        self.wake_owner();
    }

    pub fn wake_owner(&self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }

    pub fn next_news(&self) -> Option<News> {
        self.news.borrow_mut().pop_front()
    }

    pub fn register_owner(&self, cx: &Context<'_>) {
        register(&self.owner, cx);
    }

    pub fn count(&self, how: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        how(&mut counters);
        self.counters.set(counters);
    }

    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// How often [`tick`](Links::tick) should be called: time-outs are kept to a quarter more than they say.
    pub fn tick_interval(&self) -> Duration {
        let shortest = self.limits.stall_timeout.min(self.limits.linger);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    /// Closes what has stood still for too long.
    pub fn tick(&self) {
        let now = Instant::now();
        for link in self.table.borrow().values() {
            link.tick(now, &self.limits);
        }
    }
}
