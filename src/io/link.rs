//! What the owner of a socket and the relays of its connections know of each other: accounts, orders and news.
//!
//! All of it belongs to one IO thread, hence cells and no locks. It moves no bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::budget::{Budget, Part, weight};
use super::close::{CloseReason, count_end};
use super::held::{Held, encoded_size};
use super::hub::{Hub, NotTaken};
use super::stream::Peer;
use super::turns::{AT_ONCE, Turns};
use crate::protocol::ConnectionId;
use crate::protocol::gate::{Complaints, GateCounters};

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

/// By how much what is outstanding has to change before the budget hears of it.
const GRAIN: usize = 4 * 1024;

/// Buffers of so many bytes count. The crate gathers as much anyway, where there is much to write.
const LONG: usize = 128 * 1024;

/// Buffers that were not in use for so long weigh no more than if it was longer: or a small one would go for a day's silence, and large new ones stay.
const LONG_UNUSED: Duration = Duration::from_secs(10);

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

/// What the connections of one socket come to together, on whatever threads they are. Clones are one.
#[derive(Clone)]
pub(crate) struct Sums {
    unfinished: Budget,
    outstanding: Budget,
    buffers: Budget,
    /// Changed when connections come, go or misbehave, and not by messages.
    counters: Arc<Mutex<GateCounters>>,
}

impl Sums {
    /// With limits of bytes for unfinished messages, for what is outstanding, and for buffers that are left behind.
    pub fn new(unfinished: usize, outstanding: usize, buffers: usize) -> Sums {
        Sums {
            unfinished: Budget::new(unfinished),
            outstanding: Budget::new(outstanding),
            buffers: Budget::new(buffers),
            counters: Arc::default(),
        }
    }

    fn counters(&self) -> MutexGuard<'_, GateCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of one socket that are on one thread.
pub(crate) struct Links {
    pub limits: LinkLimits,
    /// For letting go of a connection that has ended.
    pub leaving: Turns,
    table: RefCell<HashMap<ConnectionId, Rc<Link>>>,
    /// At most one of each kind a connection.
    news: RefCell<VecDeque<News>>,
    owner: RefCell<Option<Waker>>,
    sums: Sums,
    complaints: RefCell<Complaints>,
    origin: Instant,
}

impl Links {
    pub fn new(limits: LinkLimits, sums: Sums) -> Links {
        Links {
            limits,
            leaving: Turns::new(AT_ONCE),
            table: RefCell::default(),
            news: RefCell::default(),
            owner: RefCell::default(),
            sums,
            complaints: RefCell::new(Complaints::new(Duration::ZERO)),
            origin: Instant::now(),
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
        self.sums.unfinished.set(&link.unfinished, 0);
        self.sums.outstanding.set(&link.known_outstanding, 0);
        self.sums.buffers.set(&link.buffers, 0);
        self.count(|counters| count_end(counters, reason));
        if reason.is_fault() {
            self.complain("a connection was closed", &link.peer, &reason);
        }
        if link.announced.get() {
            self.count(|counters| counters.closed += 1);
            self.tell(News::Closed(id, reason));
        }
    }

    /// Tells of a peer that broke a rule, unless too many did just now.
    pub fn complain(&self, what: &str, peer: &dyn fmt::Display, reason: &dyn fmt::Display) {
        if let Some(untold) = self.complaints.borrow_mut().tell(self.origin.elapsed()) {
            tracing::warn!(%peer, %reason, untold, "{what}");
        }
    }

    /// Its unfinished message takes so many bytes now. If that is too much in all, somebody's connection is closed.
    pub fn set_unfinished(&self, link: &Link, bytes: usize) {
        if self.sums.unfinished.set(&link.unfinished, bytes) {
            self.relieve_unfinished();
        }
    }

    fn relieve_unfinished(&self) {
        let part = |link: &Link| (link.unfinished.bytes(), link.unfinished.since());
        self.relieve(&self.sums.unfinished, part, |link| {
            link.close(CloseReason::Unfinished);
            self.sums.unfinished.set(&link.unfinished, 0);
        });
    }

    /// Tells the budget what is outstanding, if it has changed by enough: small messages are not worth their while.
    fn know_outstanding(&self, link: &Link) {
        let (bytes, known) = (link.outstanding(), link.known_outstanding.bytes());
        if bytes.abs_diff(known) < GRAIN && (bytes > 0 || known == 0) {
            return;
        }
        if self.sums.outstanding.set(&link.known_outstanding, bytes) {
            self.relieve_outstanding();
        }
    }

    fn relieve_outstanding(&self) {
        // Who takes what it is sent, however slowly, has stood still for no longer than a tick.
        let part = |link: &Link| (link.known_outstanding.bytes(), link.written_since.get().1);
        self.relieve(&self.sums.outstanding, part, |link| {
            link.close(CloseReason::TooSlow);
            self.sums.outstanding.set(&link.known_outstanding, 0);
        });
    }

    /// A message has come, of frames as long as this at most on this connection so far, or one of so many bytes goes out. The crate's buffers never shrink.
    pub fn stretched(&self, link: &Link, inward: u64, outward: usize) {
        let inward = usize::try_from(inward).unwrap_or(usize::MAX);
        if inward.max(outward) < LONG {
            return;
        }
        let long = |bytes: usize| if bytes < LONG { 0 } else { bytes };
        let (before_in, before_out) = link.longest.get();
        let longest = (before_in.max(long(inward)), before_out.max(long(outward)));
        link.longest.set(longest);
        link.buffers.used();
        // One that is closing has given its part back.
        let relays = link.order.get() == Order::Relay;
        if relays && self.sums.buffers.set(&link.buffers, longest.0.saturating_add(longest.1)) {
            self.relieve_buffers();
        }
    }

    fn relieve_buffers(&self) {
        if !self.sums.buffers.is_exceeded() {
            return;
        }
        let holds = |link: &&Rc<Link>| link.order.get() == Order::Relay && link.buffers.bytes() > 0;
        // To close the only one would help nobody: its next message makes it as large again.
        if self.table.borrow().values().filter(holds).nth(1).is_none() {
            return;
        }
        let oldest = Instant::now().checked_sub(LONG_UNUSED);
        let part = |link: &Link| {
            let since = link.buffers.since();
            (link.buffers.bytes(), oldest.map_or(since, |oldest| since.max(oldest)))
        };
        self.relieve(&self.sums.buffers, part, |link| {
            link.close(CloseReason::Buffers);
            self.sums.buffers.set(&link.buffers, 0);
        });
    }

    /// Closes whose part weighs most, until the budget is kept. What other threads hold is theirs to close.
    fn relieve(&self, budget: &Budget, part: impl Fn(&Link) -> (usize, Instant), close: impl Fn(&Link)) {
        let now = Instant::now();
        let table = self.table.borrow();
        while budget.is_exceeded() {
            let weighed = table.values().filter(|link| link.order.get() == Order::Relay).map(|link| {
                let (bytes, since) = part(link);
                (weight(bytes, since, now), link)
            });
            match weighed.max_by_key(|(weight, _)| *weight) {
                Some((weight, heaviest)) if weight > 0 => close(heaviest),
                _ => return,
            }
        }
    }

    pub fn all(&self) -> Vec<Rc<Link>> {
        self.table.borrow().values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.table.borrow().len()
    }

    /// Hands a message over: to the hub, or to wait until that has room.
    ///
    /// # Errors
    /// [`SendError::Full`] if too much is outstanding, [`SendError::Gone`] if the hub does not know the connection; nothing is handed over then.
    pub fn hand_over(&self, link: &Link, frames: Vec<Bytes>) -> Result<(), SendError> {
        if frames.is_empty() {
            return Err(SendError::Gone); // no message, and the crate would panic
        }
        let (size, outstanding) = (encoded_size(&frames), link.outstanding());
        if !self.limits.has_room(outstanding, size) {
            return Err(SendError::Full);
        }
        if !link.held.must_wait(outstanding, size) {
            link.pass(frames)?;
        } else if !link.held.push(size, frames) {
            return Err(SendError::Full);
        }
        self.stretched(link, 0, size);
        self.handed_over(link, size);
        Ok(())
    }

    pub fn handed_over(&self, link: &Link, bytes: usize) {
        link.outstanding.store(link.outstanding() + bytes, Ordering::Relaxed);
        if link.outstanding() > self.limits.low_water {
            link.above.set(true);
        }
        self.know_outstanding(link);
    }

    pub fn written(&self, link: &Link, bytes: usize) {
        link.written.set(link.written.get() + bytes as u64);
        link.outstanding.store(link.outstanding().saturating_sub(bytes), Ordering::Relaxed);
        self.know_outstanding(link);
        if link.outstanding() <= self.limits.low_water && link.above.replace(false) {
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
        self.next_news_if(|_| true)
    }

    pub fn next_news_if(&self, wanted: impl FnOnce(&News) -> bool) -> Option<News> {
        let mut news = self.news.borrow_mut();
        if news.front().is_some_and(wanted) { news.pop_front() } else { None }
    }

    pub fn register_owner(&self, cx: &Context<'_>) {
        register(&self.owner, cx);
    }

    pub fn count(&self, how: impl FnOnce(&mut GateCounters)) {
        how(&mut self.sums.counters());
    }

    /// Of all threads.
    pub fn counters(&self) -> GateCounters {
        *self.sums.counters()
    }

    /// How often [`tick`](Links::tick) should be called: time-outs are kept to a quarter more than they say.
    pub fn tick_interval(&self) -> Duration {
        let LinkLimits { stall_timeout, linger, first_message_timeout, idle_timeout, .. } = self.limits;
        let others = [Some(linger), first_message_timeout, idle_timeout].into_iter().flatten();
        let shortest = others.fold(stall_timeout, Duration::min);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    /// Closes what has stood still for too long.
    pub fn tick(&self) {
        let now = Instant::now();
        for link in self.table.borrow().values() {
            link.tick(now, &self.limits);
        }
        // What made it too much may be on a thread that has nothing to close.
        self.relieve_unfinished();
        self.relieve_outstanding();
        self.relieve_buffers();
        if let Some(untold) = self.complaints.borrow_mut().remainder(self.origin.elapsed()) {
            tracing::warn!(untold, "more connections were closed");
        }
    }
}
