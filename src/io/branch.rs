//! A further IO thread of a bound socket: a gate and a ROUTER of its own, for the connections that the first thread accepts and hands over.
//!
//! What happens at them crosses to the first thread by queues, bounded in bytes, and so does what is to be done with them. Nothing is decided here: the
//! owner of the socket sees one [`Router`](super::Router), however many threads there are.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::close::CloseReason;
use super::endpoint::Endpoint;
use super::gate::Common;
use super::held::encoded_size;
use super::places::Place;
use super::router::{Router, RouterEvent, RouterOptions};
use super::spin::{self, Cause};
use super::stream::{Peer, PeerAddress, Unregistered};
use super::thread::IoThread;
use crate::protocol::ConnectionId;

/// Bytes of messages that a branch has heard and its owner has not taken; then it hears no more for a while. Eight batches of the first thread.
const ROOM: usize = 4 << 20;

/// What a message counts for besides its bytes.
const MESSAGE: usize = 256;

/// Events, and orders, that are taken in one go.
const BATCH: usize = 64;

/// A stranger that was accepted by another thread.
pub(crate) struct Handed {
    pub stream: Unregistered,
    pub address: PeerAddress,
    pub place: Place,
    pub load: Load,
}

/// What the accepting thread knows of a branch.
pub(crate) struct Deputy {
    handed: mpsc::UnboundedSender<Handed>,
    connections: Arc<AtomicUsize>,
}

/// One connection of a branch, for as long as it lives.
pub(crate) struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deputy {
    /// Its connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a stranger over. If the branch has ended, so has the connection.
    pub fn hand_over(&self, stream: Unregistered, address: PeerAddress, place: Place) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let load = Load(self.connections.clone());
        let _ = self.handed.send(Handed { stream, address, place, load });
    }
}

/// What a branch is told.
enum Order {
    Send(ConnectionId, Vec<Bytes>, Arc<AtomicUsize>),
    Close(ConnectionId),
    CloseFor(ConnectionId, String),
    TooSlow(ConnectionId),
    Complain(String, ConnectionId, String),
    IdleTimeout(ConnectionId, Option<Duration>),
    Drain(Duration),
}

/// What a branch tells.
enum Heard {
    /// With the bytes that the branch's own socket holds for the connection.
    Opened(ConnectionId, Peer, Arc<AtomicUsize>),
    Event(RouterEvent),
}

impl Heard {
    /// The room that it takes.
    fn cost(&self) -> usize {
        match self {
            Heard::Event(RouterEvent::Message(_, frames)) => (MESSAGE + encoded_size(frames)).min(ROOM),
            _ => 0,
        }
    }
}

/// A connection of a branch, as the owner knows it.
pub(super) struct Remote {
    pub branch: usize,
    /// Bytes on their way to the branch, and those that its socket holds.
    waiting: Arc<AtomicUsize>,
    outstanding: Arc<AtomicUsize>,
    /// By its owner, who wants to hear no more of it.
    pub closed: Cell<bool>,
}

impl Remote {
    /// Bytes handed over and not yet written.
    pub fn outstanding(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) + self.outstanding.load(Ordering::Relaxed)
    }
}

/// The owner's end of a branch.
pub(super) struct Branch {
    orders: mpsc::UnboundedSender<Order>,
    heard: mpsc::UnboundedReceiver<Heard>,
    room: Arc<Semaphore>,
    ended: oneshot::Receiver<()>,
    /// Joined when the branch is dropped; without orders it ends.
    _thread: IoThread,
}

/// What comes of asking a branch for news.
pub(super) enum News {
    Opened(ConnectionId, Peer, Remote),
    Event(RouterEvent),
    /// The branch's thread has ended, and with it all its connections.
    Ended,
}

impl Branch {
    /// Starts the `number`th branch of the socket that is bound to `endpoint`.
    pub async fn start(
        number: usize,
        endpoint: &Endpoint,
        options: &RouterOptions,
        common: &Common,
    ) -> io::Result<(Branch, Deputy)> {
        let thread = IoThread::start(&format!("selfsame-io-{number}"))?;
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let (handed, strangers) = mpsc::unbounded_channel();
        let (started, is_started) = oneshot::channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let shared_room = room.clone();
        let (endpoint, options, common) = (endpoint.clone(), options.clone(), common.clone());
        let ended = thread.run(move || async move {
            let _spins = spin::request(options.spin);
            match Router::behind(endpoint, options, common, strangers).await {
                Ok(router) => {
                    let _ = started.send(Ok(()));
                    Pump { router, orders: taken, tell, held: None, room: shared_room }.run().await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        is_started.await.map_err(|_| io::Error::other("an IO thread has ended"))??;
        let branch = Branch { orders, heard, room, ended, _thread: thread };
        Ok((branch, Deputy { handed, connections: Arc::default() }))
    }

    pub fn poll(&mut self, number: usize, cx: &mut Context<'_>) -> Poll<News> {
        let Some(heard) = ready!(self.heard.poll_recv(cx)) else { return Poll::Ready(News::Ended) };
        self.room.add_permits(heard.cost());
        Poll::Ready(match heard {
            Heard::Opened(id, peer, outstanding) => {
                let (waiting, closed) = (Arc::default(), Cell::new(false));
                News::Opened(id, peer, Remote { branch: number, waiting, outstanding, closed })
            }
            Heard::Event(event) => News::Event(event),
        })
    }

    pub fn send(&self, to: ConnectionId, remote: &Remote, frames: Vec<Bytes>) {
        remote.waiting.fetch_add(encoded_size(&frames), Ordering::Relaxed);
        self.order(Order::Send(to, frames, remote.waiting.clone()));
    }

    pub fn close(&self, who: ConnectionId, remote: &Remote) {
        remote.closed.set(true);
        self.order(Order::Close(who));
    }

    pub fn close_for(&self, who: ConnectionId, remote: &Remote, why: String) {
        remote.closed.set(true);
        self.order(Order::CloseFor(who, why));
    }

    /// It has more outstanding than it may.
    pub fn too_slow(&self, who: ConnectionId, remote: &Remote) {
        remote.closed.set(true);
        self.order(Order::TooSlow(who));
    }

    pub fn complain(&self, what: String, of: ConnectionId, why: String) {
        self.order(Order::Complain(what, of, why));
    }

    pub fn set_idle_timeout(&self, who: ConnectionId, timeout: Option<Duration>) {
        self.order(Order::IdleTimeout(who, timeout));
    }

    /// Tells it to drain; [`ended`](Branch::ended) returns when it has.
    pub fn drain(&self, cap: Duration) {
        self.order(Order::Drain(cap));
    }

    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await; // a thread that has panicked has ended too
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order); // that it has ended is heard by its news
    }
}

/// A branch's own end: between its socket and the queues.
struct Pump {
    router: Router,
    orders: mpsc::UnboundedReceiver<Order>,
    tell: mpsc::UnboundedSender<Heard>,
    /// Heard, and there is no room for it.
    held: Option<Heard>,
    room: Arc<Semaphore>,
}

impl Pump {
    async fn run(mut self) {
        let room = self.room.clone();
        loop {
            let needed = self.held.as_ref().map_or(0, Heard::cost);
            let order = tokio::select! {
                event = self.router.next(), if self.held.is_none() => {
                    self.hear(event);
                    None
                }
                Ok(free) = room.acquire_many(needed as u32), if self.held.is_some() => {
                    free.forget();
                    self.held.take().into_iter().for_each(|held| drop(self.tell.send(held)));
                    None
                }
                order = self.orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return, // the owner is gone
                },
            };
            if let Some(cap) = self.take_what_is_at_hand(order) {
                return self.router.drain(cap).await;
            }
        }
    }

    /// Returns how long a drain may take, once it is ordered.
    fn take_what_is_at_hand(&mut self, mut order: Option<Order>) -> Option<Duration> {
        for _ in 0..BATCH {
            let next = order.take().or_else(|| self.orders.try_recv().ok());
            let event = if self.held.is_none() { self.router.try_next() } else { None };
            if next.is_none() && event.is_none() {
                break;
            }
            if let Some(event) = event {
                self.hear(event);
            }
            match next {
                Some(Order::Drain(cap)) => return Some(cap),
                Some(order) => self.obey(order),
                None => {}
            }
        }
        None
    }

    fn hear(&mut self, event: RouterEvent) {
        let heard = match event {
            RouterEvent::Opened(id, peer) => {
                let outstanding = self.router.outstanding_of(id).unwrap_or_default();
                Heard::Opened(id, peer, outstanding)
            }
            event => Heard::Event(event),
        };
        match self.room.try_acquire_many(heard.cost() as u32) {
            Ok(room) => {
                room.forget();
                let _ = self.tell.send(heard); // the owner is gone: no order will come either
            }
            Err(_) => self.held = Some(heard),
        }
    }

    fn obey(&mut self, order: Order) {
        spin::note(Cause::Asked);
        match order {
            Order::Send(to, frames, waiting) => {
                let size = encoded_size(&frames);
                // One that is gone, or does not read, is on its way to the owner as closed.
                let _ = self.router.send(to, frames);
                waiting.fetch_sub(size, Ordering::Relaxed);
            }
            Order::Close(who) => self.router.close(who),
            Order::CloseFor(who, why) => self.router.close_for(who, &why),
            Order::TooSlow(who) => self.router.abort(who, CloseReason::TooSlow),
            Order::Complain(what, of, why) => self.router.complain(&what, of, &why),
            Order::IdleTimeout(who, timeout) => self.router.set_idle_timeout(who, timeout),
            Order::Drain(_) => {} // taken out before
        }
    }
}
