//! A socket that binds: a ROUTER of the crate behind a [gate](super), with connections that are numbered, bounded and can be closed.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::branch::{Branch, Handed, News as BranchNews, Remote};
use super::close::CloseReason;
use super::descriptors;
use super::endpoint::Endpoint;
use super::gate::{Common, Door, Gate};
use super::held::encoded_size;
use super::link::{Link, LinkLimits, News, Order, SendError};
use super::relay::Bounds;
use super::spin::Spin;
use super::stream::{Listener, Peer};
use super::throttle::Rates;
#[cfg(feature = "tls")]
use super::tls::Acceptor;
use super::turns::come_back;
use crate::protocol::ConnectionId;
use crate::protocol::gate::{GateCounters, Rate};
use crate::protocol::zmtp::{Limits, SocketType};

/// Commands of one connection. Heartbeats come every few seconds, at the most eager every 10 ms; and a peer may have queued some while this process was
/// stopped.
pub(super) const COMMANDS: Rate = Rate { per_second: 100, burst: 1000 };

/// How a [`Router`] shows itself, and its limits.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// The socket type that strangers are shown: ROUTER or PUB. Any other takes no peer.
    pub shows: SocketType,
    /// How long a stranger may take for greeting and READY. 5 s: enough for any network, and few places are held by silence.
    pub handshake_timeout: Duration,
    /// Strangers at once, greeted or not; one more is closed at once. As many as there are descriptors for, at three each; to find out, the process's
    /// soft limit of descriptors is raised to the hard one. All sockets of the process together never have more than that.
    pub connections_limit: usize,
    /// Strangers at once from one address. A quarter of those if `None`.
    pub address_limit: Option<usize>,
    /// Handshakes under way; strangers beyond wait with the system. 1,024: as many a second at least come through, whatever others do.
    pub handshakes_limit: usize,
    /// How long a stranger may take for its first whole message. 30 s: honest ones say hello, or subscribe, at once.
    pub first_message_timeout: Option<Duration>,
    /// How long a stranger may be silent, until the owner sets another time for it. A server: 60 s, four times what it gives those who said hello, since who
    /// said none can do nothing. A publisher: for ever, as a subscriber that has subscribed has no more to say.
    pub idle_timeout: Option<Duration>,
    /// Messages of one stranger; it is not read for a while if there are more. No limit.
    pub messages_rate: Option<Rate>,
    /// Bytes of one stranger; it is not read for a while if there are more. No limit.
    pub bytes_rate: Option<Rate>,
    /// Commands of one stranger; more close its connection. 100 a second, 1,000 at once.
    pub commands_rate: Rate,
    /// Bytes in one frame. 16 MiB: larger things belong in a store, not in a message.
    pub frame_limit: u64,
    /// Frames in one message. 1,026: what the decoder of headers takes, and the empty frame of a REQ socket.
    pub frames_limit: u32,
    /// Bytes in one message. 32 MiB. An unfinished message is held in memory, so this is what one connection can cost.
    pub message_limit: u64,
    /// Bytes of unfinished messages of all strangers together; beyond, whose weighs most by bytes and time is closed. 256 MiB: sixteen of the longest frames.
    pub unfinished_limit: usize,
    /// Bytes of the buffers that long messages have left behind, over all connections; beyond, whose weigh most by bytes and time is closed. 256 MiB.
    pub buffers_limit: usize,
    /// Bytes that may be handed over to one connection and not written to its stranger. 64 MiB: two of the longest messages. More closes it.
    pub outstanding_limit: usize,
    /// Bytes that may be handed over to all connections together; beyond, who has taken none for longest, times what it has outstanding, is closed. 512 MiB:
    /// eight connections that do not read at all.
    pub all_outstanding_limit: usize,
    /// When so few are left after there were more, [`RouterEvent::Writable`] says so. 64 KiB: one write's worth, so the pipe does not run dry.
    pub low_water: usize,
    /// How long a stranger may take none of what is outstanding. 30 s, as for a host that has vanished.
    pub stall_timeout: Duration,
    /// How long a connection that is closed in an orderly way may take to write what was handed over. 2 s: several round trips.
    pub linger: Duration,
    /// What encrypts, if strangers have to come by TLS; then the endpoint is a `tls://` one.
    #[cfg(feature = "tls")]
    pub tls: Option<Acceptor>,
    /// IO threads that connections are spread over. 1.
    pub threads: usize,
    /// How its threads wait. Off.
    pub spin: Spin,
    /// After so many connections the crate's socket is renewed, since it keeps some 110 bytes of each for ever. 50,000: 5 MiB.
    pub renew_after: u64,
}

impl RouterOptions {
    /// Shows a ROUTER: takes DEALER and REQ.
    pub fn router() -> RouterOptions {
        RouterOptions {
            shows: SocketType::Router,
            handshake_timeout: Duration::from_secs(5),
            connections_limit: descriptors::connections_limit(),
            address_limit: None,
            handshakes_limit: 1024,
            first_message_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(60)),
            messages_rate: None,
            bytes_rate: None,
            commands_rate: COMMANDS,
            frame_limit: 16 << 20,
            frames_limit: 1026,
            message_limit: 32 << 20,
            unfinished_limit: 256 << 20,
            buffers_limit: 256 << 20,
            outstanding_limit: 64 << 20,
            all_outstanding_limit: 512 << 20,
            low_water: 64 << 10,
            stall_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            #[cfg(feature = "tls")]
            tls: None,
            threads: 1,
            spin: Spin::Off,
            renew_after: 50_000,
        }
    }

    /// Shows a PUB: takes SUB and XSUB, whose subscriptions come as messages of one frame: 1 or 0, then the topic.
    pub fn publisher() -> RouterOptions {
        RouterOptions { shows: SocketType::Pub, idle_timeout: None, ..RouterOptions::router() }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            frames: Limits {
                frame: self.frame_limit,
                frames: self.frames_limit,
                message: self.message_limit,
            },
            commands: self.commands_rate,
            rates: Rates { messages: self.messages_rate, bytes: self.bytes_rate },
        }
    }

    pub(super) fn link_limits(&self) -> LinkLimits {
        LinkLimits {
            outstanding: self.outstanding_limit,
            low_water: self.low_water,
            stall_timeout: self.stall_timeout,
            linger: self.linger,
            first_message_timeout: self.first_message_timeout,
            idle_timeout: self.idle_timeout,
        }
    }
}

/// What happens at a [`Router`]. Of one connection: `Opened`, then messages, then `Closed`, and nothing after it.
#[derive(Debug)]
pub enum RouterEvent {
    /// A stranger is there and can be sent to.
    Opened(ConnectionId, Peer),
    /// A message, as its frames; never empty. Frames are slices of read buffers of up to 64 KiB: copy what is to be kept.
    Message(ConnectionId, Vec<Bytes>),
    /// No more than [`RouterOptions::low_water`] is outstanding, after more was.
    Writable(ConnectionId),
    /// The connection has ended, whoever ended it.
    Closed(ConnectionId, CloseReason),
}

/// See the module. Lives on the [`IoThread`](super::IoThread) on which it was bound.
pub struct Router {
    gate: Rc<Gate>,
    endpoint: Endpoint,
    /// Taken by a drain.
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    /// The other threads, and the connections that they have.
    branches: Vec<Branch>,
    remotes: HashMap<ConnectionId, Remote>,
    /// Whose turn it is to be asked first: this thread's, which is 0, or a branch's.
    turn: usize,
}

/// Messages that are dropped in one go, since their connection was closed: of two-byte messages one may have left a hundred thousand.
const DROPPED: usize = 64;

impl Router {
    /// Binds, and accepts from now on. To be called on an [`IoThread`](super::IoThread).
    ///
    /// # Errors
    /// The address is taken, is not this machine's, or may not be bound; or there is no folder for temporary files.
    pub async fn bind(endpoint: &Endpoint, options: RouterOptions) -> io::Result<Router> {
        #[cfg(feature = "tls")]
        super::tls::check(endpoint, options.tls.is_some(), "RouterOptions::tls").map_err(io::Error::other)?;
        let common = Common::new(&options);
        let gate = Gate::new(options, common.clone()).await?;
        let (listener, endpoint) = Listener::bind(endpoint).await?;
        let (mut branches, mut deputies) = (Vec::new(), Vec::new());
        for number in 1..gate.options.threads {
            let (branch, deputy) = Branch::start(number, &endpoint, &gate.options, &common).await?;
            branches.push(branch);
            deputies.push(deputy);
        }
        let mut router = Router::open(gate, Door::Street(listener, deputies), endpoint);
        router.branches = branches;
        Ok(router)
    }

    /// The part of a socket that is on a further thread.
    pub(super) async fn behind(
        endpoint: Endpoint,
        options: RouterOptions,
        common: Common,
        strangers: mpsc::UnboundedReceiver<Handed>,
    ) -> io::Result<Router> {
        Ok(Router::open(Gate::new(options, common).await?, Door::Hall(strangers), endpoint))
    }

    fn open(gate: Gate, door: Door, endpoint: Endpoint) -> Router {
        let gate = Rc::new(gate);
        let (stop, stopped) = oneshot::channel();
        let serving = spawn_local(gate.clone().serve(door, stopped));
        let (branches, remotes) = (Vec::new(), HashMap::new());
        Router { gate, endpoint, stop: Some(stop), serving, branches, remotes, turn: 0 }
    }

    /// Where it is bound, with the port that was chosen.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next event. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> RouterEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, if one is at hand. Whoever gets `None` must come back by [`next`](Router::next): only that is woken.
    pub fn try_next(&mut self) -> Option<RouterEvent> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// Each thread has its turn.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<RouterEvent> {
        let threads = 1 + self.branches.len();
        for step in 0..threads {
            let thread = (self.turn + step) % threads;
            let polled = match thread {
                0 => self.poll_here(cx),
                other => self.poll_branch(other - 1, cx),
            };
            if polled.is_ready() {
                self.turn = (thread + 1) % threads;
                return polled;
            }
        }
        Poll::Pending
    }

    fn poll_branch(&mut self, number: usize, cx: &mut Context<'_>) -> Poll<RouterEvent> {
        loop {
            let event = ready!(self.poll_branch_once(number, cx));
            let closed = |id| self.remotes.get(&id).is_some_and(|remote| remote.closed.get());
            // Said before its thread heard that it is closed.
            if !matches!(event, RouterEvent::Message(id, _) if closed(id)) {
                return Poll::Ready(event);
            }
        }
    }

    fn poll_branch_once(&mut self, number: usize, cx: &mut Context<'_>) -> Poll<RouterEvent> {
        Poll::Ready(match ready!(self.branches[number].poll(number, cx)) {
            BranchNews::Opened(id, peer, remote) => {
                self.remotes.insert(id, remote);
                RouterEvent::Opened(id, peer)
            }
            BranchNews::Event(event) => {
                if let RouterEvent::Closed(id, _) = &event {
                    self.remotes.remove(id);
                }
                event
            }
            BranchNews::Ended => {
                // Its connections are told one by one.
                let mut lost = self.remotes.iter().filter(|(_, remote)| remote.branch == number);
                let Some(id) = lost.next().map(|(id, _)| *id) else { return Poll::Pending };
                self.remotes.remove(&id);
                RouterEvent::Closed(id, CloseReason::Released)
            }
        })
    }

    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<RouterEvent> {
        let links = &self.gate.links;
        links.register_owner(cx);
        for _ in 0..DROPPED {
            match links.next_news() {
                Some(News::Writable(id)) => return Poll::Ready(RouterEvent::Writable(id)),
                Some(News::Closed(id, reason)) => return Poll::Ready(RouterEvent::Closed(id, reason)),
                None => {}
            }
            let (id, frames) = ready!(self.gate.poll_receive(cx));
            if let Some(event) = self.admit(id, frames) {
                return Poll::Ready(event);
            }
        }
        come_back(cx);
        Poll::Pending
    }

    fn admit(&self, id: ConnectionId, frames: Vec<Bytes>) -> Option<RouterEvent> {
        let link = self.gate.links.find(id)?;
        if !link.announced.replace(true) {
            // The gate's own message: the ROUTER knows the connection now.
            self.gate.links.count(|counters| counters.opened += 1);
            return Some(RouterEvent::Opened(id, link.peer.clone()));
        }
        if link.closed_by_owner() {
            return None;
        }
        Some(RouterEvent::Message(id, frames))
    }

    /// Hands a message of one frame or more over. Never waits: a connection that takes no more is closed.
    ///
    /// # Errors
    /// [`SendError::Gone`] if there is no such connection; [`SendError::Full`] if too much is outstanding there, and then it is closed.
    pub fn send(&mut self, to: ConnectionId, frames: Vec<Bytes>) -> Result<(), SendError> {
        if let Some((branch, remote)) = self.remote(to) {
            if remote.closed.get() {
                return Err(SendError::Gone);
            }
            if !self.gate.links.limits.has_room(remote.outstanding(), encoded_size(&frames)) {
                branch.too_slow(to, remote);
                return Err(SendError::Full);
            }
            branch.send(to, remote, frames);
            return Ok(());
        }
        let link = self.open_link(to)?;
        let handed = self.gate.links.hand_over(&link, frames);
        if handed == Err(SendError::Full) {
            link.close(CloseReason::TooSlow);
        }
        handed
    }

    /// Bytes handed over for this connection and not yet written to its stranger. 0 if there is no such connection.
    pub fn outstanding(&self, to: ConnectionId) -> usize {
        if let Some((_, remote)) = self.remote(to) {
            return remote.outstanding();
        }
        self.gate.links.find(to).map_or(0, |link| link.outstanding())
    }

    /// The same, to be looked at from another thread.
    pub(super) fn outstanding_of(&self, to: ConnectionId) -> Option<Arc<AtomicUsize>> {
        self.gate.links.find(to).map(|link| link.shared_outstanding())
    }

    fn remote(&self, who: ConnectionId) -> Option<(&Branch, &Remote)> {
        let remote = self.remotes.get(&who)?;
        Some((&self.branches[remote.branch], remote))
    }

    /// Whether more than half of what may be outstanding is: to give it more to answer would end in closing it.
    pub fn is_behind(&self, who: ConnectionId) -> bool {
        self.outstanding(who) > self.gate.options.outstanding_limit / 2
    }

    /// Closes a connection: what was handed over has [`RouterOptions::linger`] to be written, what the stranger says is dropped from now on.
    /// [`RouterEvent::Closed`] follows.
    pub fn close(&mut self, who: ConnectionId) {
        if let Some((branch, remote)) = self.remote(who) {
            return branch.close(who, remote);
        }
        if let Some(link) = self.gate.links.find(who) {
            link.close(CloseReason::Requested);
        }
    }

    /// Closes a connection at once, and counts why.
    pub(super) fn abort(&mut self, who: ConnectionId, why: CloseReason) {
        if let Some(link) = self.gate.links.find(who) {
            link.close(why);
        }
    }

    /// As [`close`](Router::close), for a rule that its owner found broken; it is told like those that the gate finds.
    pub fn close_for(&mut self, who: ConnectionId, why: &dyn std::fmt::Display) {
        if let Some((branch, remote)) = self.remote(who) {
            return branch.close_for(who, remote, why.to_string());
        }
        if let Some(link) = self.gate.links.find(who) {
            self.gate.links.complain("a connection was closed", &link.peer, why);
            link.close(CloseReason::Requested);
        }
    }

    /// Tells of something wrong that a connection said; no more often than the gate tells of what it finds.
    pub fn complain(&self, what: &str, of: ConnectionId, why: &dyn std::fmt::Display) {
        if let Some((branch, _)) = self.remote(of) {
            return branch.complain(what.to_owned(), of, why.to_string());
        }
        if let Some(link) = self.gate.links.find(of) {
            self.gate.links.complain(what, &link.peer, why);
        }
    }

    /// From now on this connection is closed if it is silent for so long; `None`: never, as it is at first. For peers that promised to speak up.
    pub fn set_idle_timeout(&mut self, who: ConnectionId, timeout: Option<Duration>) {
        if let Some((branch, _)) = self.remote(who) {
            return branch.set_idle_timeout(who, timeout);
        }
        if let Some(link) = self.gate.links.find(who) {
            link.set_idle_timeout(timeout);
        }
    }

    /// Connections that came through the handshake and have not ended.
    pub fn connections(&self) -> usize {
        self.gate.links.len() + self.remotes.len()
    }

    /// What has happened so far.
    pub fn counters(&self) -> GateCounters {
        self.gate.links.counters()
    }

    /// Accepts and hears nothing more, and returns when all that was handed over is written and the strangers have ended their connections, or after
    /// `cap`.
    pub async fn drain(mut self, cap: Duration) {
        self.stop = None;
        for link in self.gate.links.all() {
            link.pass_all();
        }
        // Its end is what tells the gate that everything was said.
        self.gate.close();
        for branch in &self.branches {
            branch.drain(cap);
        }
        let _ = timeout(cap, &mut self.serving).await; // what is left then goes with the drop
        for branch in &mut self.branches {
            branch.ended().await;
        }
    }

    fn open_link(&self, to: ConnectionId) -> Result<Rc<Link>, SendError> {
        let link = self.gate.links.find(to).ok_or(SendError::Gone)?;
        if link.announced.get() && link.order() == Order::Relay { Ok(link) } else { Err(SendError::Gone) }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
