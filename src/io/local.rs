//! A connection within the process, for channels to a service in the same process: the same events as a socket's, no socket.

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use super::{CloseReason, Dealer, DealerEvent, Router, RouterEvent, SendError};
use super::{DealerOptions, DialError, Endpoint, Peer, PeerAddress};
use crate::protocol::ConnectionId;
use crate::protocol::gate::GateCounters;
use crate::protocol::zmtp::SocketType;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The one connection of a [`LocalPort`].
const ONLY: ConnectionId = ConnectionId(1);

/// The server's end. Not bounded itself: both ends bound the calls that are open.
pub struct LocalPort {
    heard: UnboundedReceiver<Vec<Bytes>>,
    say: UnboundedSender<Vec<Bytes>>,
    announced: bool,
}

/// The client's end.
pub struct LocalLink {
    heard: UnboundedReceiver<Vec<Bytes>>,
    say: UnboundedSender<Vec<Bytes>>,
}

/// Both ends of a connection.
pub fn local() -> (LocalPort, LocalLink) {
    let (to_server, at_server) = mpsc::unbounded_channel();
    let (to_client, at_client) = mpsc::unbounded_channel();
    let port = LocalPort { heard: at_server, say: to_client, announced: false };
    (port, LocalLink { heard: at_client, say: to_server })
}

/// What a server serves: a bound socket, or a channel in its own process.
pub enum Port {
    /// See [`Router`].
    Router(Router),
    /// See [`LocalPort`].
    Local(LocalPort),
}

impl Port {
    /// The next event; none will follow `None`.
    pub async fn next(&mut self) -> Option<RouterEvent> {
        match self {
            Port::Router(router) => Some(router.next().await),
            Port::Local(port) if !port.announced => Some(port.announce()),
            Port::Local(port) => Some(RouterEvent::Message(ONLY, port.heard.recv().await?)),
        }
    }

    /// The next event, if one is at hand.
    pub fn try_next(&mut self) -> Option<RouterEvent> {
        match self {
            Port::Router(router) => router.try_next(),
            Port::Local(port) => Some(RouterEvent::Message(ONLY, port.heard.try_recv().ok()?)),
        }
    }

    /// See [`Router::send`].
    pub fn send(&mut self, to: ConnectionId, frames: Vec<Bytes>) -> Result<(), SendError> {
        match self {
            Port::Router(router) => router.send(to, frames),
            Port::Local(port) => port.say.send(frames).map_err(|_| SendError::Gone),
        }
    }

    /// See [`Router::is_behind`]. Within the process nothing is outstanding.
    pub fn is_behind(&self, who: ConnectionId) -> bool {
        matches!(self, Port::Router(router) if router.is_behind(who))
    }

    /// See [`Router::close`]. The process does not turn itself away.
    pub fn close(&mut self, who: ConnectionId) {
        if let Port::Router(router) = self {
            router.close(who);
        }
    }

    /// See [`Router::set_idle_timeout`]. The process does not lose itself.
    pub fn set_idle_timeout(&mut self, who: ConnectionId, timeout: Option<Duration>) {
        if let Port::Router(router) = self {
            router.set_idle_timeout(who, timeout);
        }
    }

    /// See [`Router::complain`]. The process has no reason to complain of itself.
    pub fn complain(&self, what: &str, of: ConnectionId, why: &dyn std::fmt::Display) {
        if let Port::Router(router) = self {
            router.complain(what, of, why);
        }
    }

    /// See [`Router::counters`]. Within the process there is no gate.
    pub fn counters(&self) -> GateCounters {
        match self {
            Port::Router(router) => router.counters(),
            Port::Local(_) => GateCounters::default(),
        }
    }

    /// See [`Router::drain`].
    pub async fn drain(self, cap: Duration) {
        if let Port::Router(router) = self {
            router.drain(cap).await;
        }
    }
}

impl LocalPort {
    fn announce(&mut self) -> RouterEvent {
        self.announced = true;
        let (address, socket) = (PeerAddress::Ipc, SocketType::Dealer);
        RouterEvent::Opened(ONLY, Peer { address, socket, name: None })
    }
}

/// What a client talks over: a socket, or a channel in its own process.
pub enum Link {
    /// See [`Dealer`].
    Dealer(Dealer),
    /// See [`LocalLink`].
    Local(LocalLink),
}

impl Link {
    /// The next event.
    pub async fn next(&mut self) -> DealerEvent {
        match self {
            Link::Dealer(dealer) => dealer.next().await,
            Link::Local(link) => link
                .heard
                .recv()
                .await
                .map_or(DealerEvent::Closed(CloseReason::Released), DealerEvent::Message),
        }
    }

    /// The next event, if one is at hand.
    pub fn try_next(&mut self) -> Option<DealerEvent> {
        match self {
            Link::Dealer(dealer) => dealer.try_next(),
            Link::Local(link) => match link.heard.try_recv() {
                Ok(frames) => Some(DealerEvent::Message(frames)),
                // The end is told by `next`, which is what waits for it.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            },
        }
    }

    /// See [`Dealer::outstanding`]. Within the process nothing is.
    pub fn outstanding(&self) -> usize {
        match self {
            Link::Dealer(dealer) => dealer.outstanding(),
            Link::Local(_) => 0,
        }
    }

    /// See [`Dealer::send`].
    pub fn send(&mut self, frames: Vec<Bytes>) -> Result<(), SendError> {
        match self {
            Link::Dealer(dealer) => dealer.send(frames),
            Link::Local(link) => link.say.send(frames).map_err(|_| SendError::Gone),
        }
    }
}

/// A dial under way, to be kept in a state and awaited by reference.
pub struct Dialling(Pin<Box<dyn Future<Output = Result<Dealer, DialError>>>>);

impl Dialling {
    /// Dials when it is first polled.
    pub fn new(endpoint: Endpoint, options: DealerOptions) -> Self {
        Dialling(Box::pin(async move { Dealer::dial(&endpoint, options).await }))
    }
}

impl Future for Dialling {
    type Output = Result<Dealer, DialError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
