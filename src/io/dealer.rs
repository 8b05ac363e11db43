//! A socket that dials: one connection, which is joined to the thread's [`Exchange`] behind a gate of its own.
//!
//! It does not reconnect: when the connection ends it is over, and its owner dials another.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::close::CloseReason;
use super::endpoint::Endpoint;
use super::exchange::{Exchange, Mailbox, Member};
use super::gate::Entry;
use super::inner::{ShakeError, shake};
use super::link::{Link, LinkLimits, Links, News, Order, SendError, Sums};
use super::places::One;
use super::relay::{Bounds, Joined, Relay};
use super::router::COMMANDS;
use super::stream::{Peer, PeerAddress, Stream};
use super::throttle::Rates;
#[cfg(feature = "tls")]
use super::tls::{Connector, TlsError};
use crate::protocol::zmtp::{Handshake, Limits, Refused, SocketType};

/// How a [`Dealer`] shows itself, and its limits.
#[derive(Clone, Debug)]
pub struct DealerOptions {
    /// The socket type that the other side is shown: DEALER or SUB. Any other takes no peer.
    pub shows: SocketType,
    /// How long looking up the name and connecting may take. 5 s: a lost SYN is sent again after 1 s and 3 s.
    pub connect_timeout: Duration,
    /// How long the other side may take for the handshakes: TLS if it is spoken, greeting and READY. 5 s, as for a stranger that comes in.
    pub handshake_timeout: Duration,
    /// Bytes in one frame. 16 MiB, as a [`RouterOptions`](super::RouterOptions) has it.
    pub frame_limit: u64,
    /// Frames in one message. 1,026.
    pub frames_limit: u32,
    /// Bytes in one message. 32 MiB.
    pub message_limit: u64,
    /// Bytes that may be handed over and not yet written. 64 MiB. More is refused, and the connection goes on.
    pub outstanding_limit: usize,
    /// When so few are left after there were more, [`DealerEvent::Writable`] says so. 64 KiB.
    pub low_water: usize,
    /// How long the other side may take none of what is outstanding. 30 s.
    pub stall_timeout: Duration,
    /// How long what was handed over may take to be written after the socket is dropped. 2 s.
    pub linger: Duration,
    /// What encrypts, for a `tls://` endpoint.
    #[cfg(feature = "tls")]
    pub tls: Option<Connector>,
}

impl DealerOptions {
    /// Shows a DEALER: wants a ROUTER.
    pub fn dealer() -> DealerOptions {
        DealerOptions {
            shows: SocketType::Dealer,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            frame_limit: 16 << 20,
            frames_limit: 1026,
            message_limit: 32 << 20,
            outstanding_limit: 64 << 20,
            low_water: 64 << 10,
            stall_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Shows a SUB: wants a PUB or XPUB. Subscribes by sending a message of one frame: 1, then the topic.
    pub fn subscriber() -> DealerOptions {
        DealerOptions { shows: SocketType::Sub, ..DealerOptions::dealer() }
    }

    fn bounds(&self) -> Bounds {
        let frames =
            Limits { frame: self.frame_limit, frames: self.frames_limit, message: self.message_limit };
        // Its owner chose the other side, and takes what it sends as fast as it comes.
        Bounds { frames, commands: COMMANDS, rates: Rates::default() }
    }

    fn link_limits(&self) -> LinkLimits {
        LinkLimits {
            outstanding: self.outstanding_limit,
            low_water: self.low_water,
            stall_timeout: self.stall_timeout,
            linger: self.linger,
            first_message_timeout: None,
            idle_timeout: None,
        }
    }
}

/// Why dialling came to nothing. Nothing was sent but the handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address, nobody listens there, or the network does not lead there.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// Connecting took too long.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// Somebody listens, but ended the connection before the handshake was done.
    #[error("the other side ended the connection during the handshake: {0}")]
    Handshake(#[source] io::Error),
    /// Encryption or authentication failed: it does not speak TLS, or one side's certificate is not what the other wants.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(TlsError),
    /// Somebody listens, but speaks something else, or is no socket of the right type.
    #[error("the other side is not who it should be: {0}")]
    Refused(#[source] Refused),
    /// Somebody listens, but did not say in time who it is.
    #[error("the other side was silent during the handshake")]
    HandshakeTimeout,
    /// This process could not set up its own side, for want of descriptors or of a place for temporary files.
    #[error("the local side of the connection could not be set up: {0}")]
    Local(#[source] io::Error),
}

/// What happens at a [`Dealer`].
#[derive(Debug)]
pub enum DealerEvent {
    /// A message, as its frames; never empty. Frames are slices of read buffers of up to 64 KiB: copy what is to be kept.
    Message(Vec<Bytes>),
    /// No more than [`DealerOptions::low_water`] is outstanding, after more was.
    Writable,
    /// The connection has ended. Nothing comes after it.
    Closed(CloseReason),
}

/// See the module. Lives on the [`IoThread`](super::IoThread) on which it was dialled.
///
/// Dropping it closes the connection; what was handed over still has [`DealerOptions::linger`] to be written.
pub struct Dealer {
    exchange: Rc<Exchange>,
    mailbox: Rc<Mailbox>,
    links: Rc<Links>,
    link: Rc<Link>,
    closed: bool,
}

impl Dealer {
    /// Connects and shakes hands. To be called on an [`IoThread`](super::IoThread).
    ///
    /// # Errors
    /// As [`DialError`] says; within the two time-outs, and ten seconds for this side, which takes a moment unless its thread is in trouble.
    pub async fn dial(endpoint: &Endpoint, options: DealerOptions) -> Result<Dealer, DialError> {
        #[cfg(feature = "tls")]
        super::tls::check(endpoint, options.tls.is_some(), "DealerOptions::tls")
            .map_err(|error| DialError::Local(io::Error::other(error)))?;
        let connecting = connect(endpoint, options.connect_timeout);
        let (stream, address) = match timeout(options.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(DialError::Connect)?,
            Err(_) => return Err(DialError::ConnectTimeout),
        };
        let greeting = async {
            let (mut outer, name) = secure(stream, endpoint, &options).await?;
            let (socket, beyond) = shake(&mut outer, Handshake::new(options.shows, b"")).await?;
            Ok::<_, ShakeError>((outer, Peer { address, socket, name }, beyond))
        };
        let (outer, peer, from_outer) = match timeout(options.handshake_timeout, greeting).await {
            Ok(greeted) => greeted?,
            Err(_) => return Err(DialError::HandshakeTimeout),
        };
        let exchange = Exchange::here().await.map_err(DialError::Local)?;
        // The bounds of one connection are all that it needs.
        let links = Rc::new(Links::new(options.link_limits(), Sums::new(usize::MAX, usize::MAX, usize::MAX)));
        let link = Rc::new(Link::new(Links::number(), peer, exchange.hub.clone(), &links.limits));
        let member = exchange.enter(link.clone(), links.clone());
        let (inner, from_inner) = member.join().await.map_err(DialError::Local)?;
        let joined = Joined { outer, from_outer, inner, from_inner };
        let (exchange, mailbox) = (member.exchange.clone(), member.mailbox.clone());
        spawn_local(relay(joined, links.clone(), link.clone(), options.bounds(), member));
        Ok(Dealer { exchange, mailbox, links, link, closed: false })
    }

    /// Whom it reached.
    pub fn peer(&self) -> &Peer {
        &self.link.peer
    }

    /// The next event. Nothing is lost if the future is dropped. After `Closed` it never returns.
    pub async fn next(&mut self) -> DealerEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, if one is at hand. Whoever gets `None` must come back by [`next`](Dealer::next): only that is woken.
    pub fn try_next(&mut self) -> Option<DealerEvent> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DealerEvent> {
        if self.closed {
            return Poll::Pending;
        }
        self.links.register_owner(cx);
        if let Some(News::Writable(_)) = self.links.next_news_if(|news| matches!(news, News::Writable(_))) {
            return Poll::Ready(DealerEvent::Writable);
        }
        // The end comes after all that came before it.
        if let Some(frames) = self.mailbox.take() {
            return Poll::Ready(DealerEvent::Message(frames));
        }
        match self.links.next_news() {
            Some(News::Writable(_)) => Poll::Ready(DealerEvent::Writable),
            Some(News::Closed(_, reason)) => {
                self.closed = true;
                Poll::Ready(DealerEvent::Closed(reason))
            }
            None => self.exchange.poll_sole(self.link.id, cx).map(DealerEvent::Message),
        }
    }

    /// Hands a message of one frame or more over. Never waits.
    ///
    /// # Errors
    /// [`SendError::Gone`] if the connection has ended; [`SendError::Full`] if too much is outstanding: nothing was handed over, and the connection
    /// goes on.
    pub fn send(&mut self, frames: Vec<Bytes>) -> Result<(), SendError> {
        if self.link.order() != Order::Relay {
            return Err(SendError::Gone);
        }
        self.links.hand_over(&self.link, frames)
    }

    /// Bytes handed over and not yet written.
    pub fn outstanding(&self) -> usize {
        self.link.outstanding()
    }

    /// From now on the connection is closed if the other side is silent for so long; `None`: never, as it is at first.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.link.set_idle_timeout(timeout);
    }

    /// Closes the connection, as a drop does, and returns when what was handed over is written or [`DealerOptions::linger`] is up.
    pub async fn close(mut self) {
        self.link.close(CloseReason::Requested);
        while !self.closed {
            self.next().await;
        }
    }
}

impl Drop for Dealer {
    fn drop(&mut self) {
        self.link.close(CloseReason::Requested);
        self.mailbox.close();
        self.exchange.deal();
    }
}

async fn relay(joined: Joined<Stream>, links: Rc<Links>, link: Rc<Link>, bounds: Bounds, _member: Member) {
    let _counted = One::dialled();
    let mut entry = Entry::insert(&links, link.clone());
    let ticking = async {
        let mut tick = tokio::time::interval(links.tick_interval());
        loop {
            tick.tick().await;
            links.tick();
        }
    };
    tokio::select! {
        reason = Relay::run(joined, links.clone(), link, bounds) => entry.reason = reason,
        () = ticking => {}
    }
}

/// To the first address of the endpoint's host that can be reached. Each of them has its share of the time: one that swallows what is sent to it must not keep the
/// others from being tried.
async fn connect(endpoint: &Endpoint, within: Duration) -> io::Result<(Stream, PeerAddress)> {
    let address = match endpoint {
        Endpoint::Tcp(address) => address,
        #[cfg(feature = "tls")]
        Endpoint::Tls(address) => address,
        Endpoint::Ipc(path) => {
            return Ok((Stream::Ipc(UnixStream::connect(path).await?), PeerAddress::Ipc));
        }
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address.as_str()).await?.collect();
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let (last, others) = addresses.split_last().ok_or_else(no_address)?;
    let share = within / addresses.len() as u32;
    for address in others {
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return connected(stream, *address);
        }
    }
    connected(TcpStream::connect(last).await?, *last) // in the time that is left
}

fn connected(stream: TcpStream, address: SocketAddr) -> io::Result<(Stream, PeerAddress)> {
    let stream = Stream::Tcp(stream);
    stream.prepare()?;
    Ok((stream, PeerAddress::Tcp(address)))
}

/// Encrypts, if the endpoint wants that; and the name that the other side proved.
#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only TLS looks at them"))]
async fn secure(
    stream: Stream,
    endpoint: &Endpoint,
    options: &DealerOptions,
) -> Result<(Stream, Option<Arc<str>>), ShakeError> {
    #[cfg(feature = "tls")]
    if let Some(connector) = &options.tls {
        return Ok(connector.connect(stream, endpoint).await?);
    }
    Ok((stream, None))
}

impl From<ShakeError> for DialError {
    fn from(error: ShakeError) -> Self {
        match error {
            #[cfg(feature = "tls")]
            ShakeError::Tls(error) => DialError::Tls(error),
            #[cfg(feature = "tls")]
            ShakeError::Io(error) if super::tls::alert(&error).is_some() => DialError::Tls(error.into()),
            ShakeError::Io(error) => DialError::Handshake(error),
            ShakeError::Refused(why) => DialError::Refused(why),
        }
    }
}
