//! The connections of one socket: their table, what they come to together, and which is closed if that is too much.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::{Link, LinkLimits, News, Order, SendError, Source, register};
use crate::io::budget::{Budget, weight};
use crate::io::close::{CloseReason, count_end};
use crate::io::held::encoded_size;
use crate::io::hub::Hub;
use crate::io::turns::{AT_ONCE, Turns};
use crate::protocol::ConnectionId;
use crate::protocol::gate::{Complaints, GateCounters};

/// By how much what is outstanding has to change before the budget hears of it.
const GRAIN: usize = 4 * 1024;

/// Buffers of so many bytes count. The crate gathers as much anyway, where there is much to write.
const LONG: usize = 128 * 1024;

/// Buffers that were not in use for so long weigh no more than if it was longer: or a small one would go for a day's silence, and large new ones stay.
const LONG_UNUSED: Duration = Duration::from_secs(10);

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

    /// Closes whose part weighs most, of those that come from where most is held, until the budget is kept. What other threads hold is theirs to close.
    fn relieve(&self, budget: &Budget, part: impl Fn(&Link) -> (usize, Instant), close: impl Fn(&Link)) {
        let now = Instant::now();
        let table = self.table.borrow();
        while budget.is_exceeded() {
            let relaying = || table.values().filter(|link| link.order.get() == Order::Relay);
            let mut held: HashMap<Source, usize> = HashMap::new();
            relaying().for_each(|link| *held.entry(link.source()).or_default() += part(link).0);
            let weighed = relaying().map(|link| {
                let (bytes, since) = part(link);
                ((held[&link.source()], weight(bytes, since, now)), link)
            });
            match weighed.max_by_key(|(weighs, _)| *weighs) {
                Some(((_, weight), heaviest)) if weight > 0 => close(heaviest),
                _ => return,
            }
        }
    }

    /// Closes the connections of a hub that is to go, in an orderly way: whoever is closed may come again.
    pub fn release(&self, hub: &Rc<Hub>) {
        for link in self.table.borrow().values().filter(|link| link.is_at(hub)) {
            link.close(CloseReason::Renewed);
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
