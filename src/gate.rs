//! [`Gate`]: what a server or a publisher lets strangers do before it knows anything of them.
//!
//! These are settings alone. The gate itself, which keeps to them, is in `io`; what it counted is in [`GateCounters`](crate::GateCounters).

use std::time::Duration;

use crate::io::RouterOptions;
use crate::protocol::gate::Rate;

/// The limits of a bound socket, for [`ServerBuilder::gate`](crate::ServerBuilder::gate) and [`PublisherBuilder::gate`](crate::PublisherBuilder::gate).
///
/// Whoever breaks one loses its connection, and nobody else does; the rates of messages and bytes do less: a connection that is over one is read more
/// slowly. Each has a counter in [`GateCounters`](crate::GateCounters), and what is closed is told as a warning with peer and reason, at most ten a second.
///
/// ```
/// use selfsame::{Gate, Server};
/// use std::time::Duration;
///
/// let gate = Gate::new().connections(500).connections_per_address(20).messages_per_second(1_000, 5_000).write_timeout(Duration::from_secs(10));
/// let server = Server::builder().gate(gate);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate {
    connections: Option<usize>,
    per_address: Option<usize>,
    handshakes: Option<usize>,
    handshake_timeout: Option<Duration>,
    first_message_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    linger: Option<Duration>,
    frame_bytes: Option<u64>,
    frames: Option<u32>,
    message_bytes: Option<u64>,
    unfinished_bytes: Option<usize>,
    buffer_bytes: Option<usize>,
    outstanding_bytes: Option<usize>,
    outstanding_in_all: Option<usize>,
    messages: Option<Rate>,
    bytes: Option<Rate>,
    commands: Option<Rate>,
    io_threads: Option<usize>,
}

impl Gate {
    /// All defaults.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Connections at once; one more is closed at once, so that it learns to try elsewhere or later. Default: what the process has file descriptors for, at
    /// three each, once its soft limit is raised to the hard one and 128 are set aside.
    ///
    /// Whatever is said here, all gates of a process together never have more than that, nor do they count what the process itself dials as free. So
    /// where a server and a publisher share a process, give each a number: then the peers of one cannot take the places of the other.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = Some(count);
        self
    }

    /// Connections at once from one source address; of IPv6, from one network of 64 bits, which is what a single customer chooses from at will.
    /// Connections over `ipc://` have no address. Default: a quarter of all, at least 16: one host alone cannot keep the others out, while
    /// clients behind a balancer, a proxy or a translating router, who share an address, still have many. If all of yours do, raise it to all.
    #[must_use]
    pub fn connections_per_address(mut self, count: usize) -> Self {
        self.per_address = Some(count.max(1));
        self
    }

    /// Handshakes under way at once. Beyond, strangers wait to be accepted, and handshakes that have taken more than a second are cut. Default: 1,024: so
    /// many a second come through at least, however many strangers connect and say nothing.
    #[must_use]
    pub fn handshakes(mut self, count: usize) -> Self {
        self.handshakes = Some(count.max(1));
        self
    }

    /// How long a handshake may take. Default: 5 s: enough for any network, and silence holds few places.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = Some(timeout);
        self
    }

    /// How long a peer may take from the handshake to the end of its first message. Default: 30 s. Clients of this library say hello, and subscribers
    /// subscribe, at once; a plain ZeroMQ peer that connects and then says nothing is closed, and connects again by itself.
    #[must_use]
    pub fn first_message_timeout(mut self, timeout: Duration) -> Self {
        self.first_message_timeout = Some(timeout);
        self
    }

    /// How long a peer that never said hello may be silent, a ZMTP PING being no silence. Default of a server: 60 s, since such a peer can do nothing here;
    /// one that said hello is closed after three [heartbeats](crate::ServerBuilder::heartbeat) of silence. Default of a publisher: for ever, since a subscriber
    /// has nothing to say once it has subscribed; TCP itself notices within half a minute when its host is gone.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long a peer may take none of the bytes that wait for it. Default: 30 s, as for a host that has vanished.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = Some(timeout);
        self
    }

    /// How long a connection that this side closes may take to write what was handed over before. Default: 2 s: several round trips.
    #[must_use]
    pub fn linger(mut self, timeout: Duration) -> Self {
        self.linger = Some(timeout);
        self
    }

    /// Bytes in one frame. Default: 16 MiB, or [`body_limit`](crate::ServerBuilder::body_limit) if that is more: larger things belong in a store, not in
    /// a message. A publisher takes 4 KiB, whatever is said here: a subscription is never longer.
    #[must_use]
    pub fn frame_bytes(mut self, bytes: u64) -> Self {
        self.frame_bytes = Some(bytes);
        self
    }

    /// Frames in one message. Default: 1,026: what the decoder of headers takes, and the empty frame of a REQ socket.
    #[must_use]
    pub fn frames(mut self, count: u32) -> Self {
        self.frames = Some(count.max(2));
        self
    }

    /// Bytes in one message. Default: 32 MiB, or twice [`body_limit`](crate::ServerBuilder::body_limit) if that is more: the longest body, and as much
    /// again that shares its message. A publisher takes 4 KiB.
    #[must_use]
    pub fn message_bytes(mut self, bytes: u64) -> Self {
        self.message_bytes = Some(bytes);
        self
    }

    /// Bytes of unfinished messages over all connections; a frame counts in full as soon as its length is announced. Beyond, the connection is closed whose
    /// unfinished message weighs most, by bytes times the time that it has been unfinished. Default: 256 MiB, sixteen of the longest frames: without it
    /// the memory that strangers can take would be [`message_bytes`](Gate::message_bytes) times the connections. Raise it if more
    /// clients than that send their longest messages at once.
    #[must_use]
    pub fn unfinished_bytes(mut self, bytes: usize) -> Self {
        self.unfinished_bytes = Some(bytes);
        self
    }

    /// Bytes of the buffers that long messages leave behind, over all connections: one that has once had a frame of 128 KiB or more, in either direction, keeps a
    /// buffer of that size until it ends. Beyond, the connection is closed whose buffers weigh most, by bytes times the time since its last message: a client of
    /// this library connects again, and its calls go on. Default: 256 MiB, eight connections that have had the longest body both ways. Raise it if more clients
    /// than that exchange their longest messages by turns.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// Bytes that may wait to be written to one connection; with more it is closed. A single message may be longer. Default: 64 MiB, or four times
    /// [`body_limit`](crate::ServerBuilder::body_limit) if that is more: replies are produced until half of it is used. A publisher's queues stay far below it.
    #[must_use]
    pub fn outstanding_bytes(mut self, bytes: usize) -> Self {
        self.outstanding_bytes = Some(bytes);
        self
    }

    /// Bytes that may wait to be written to all connections together. Beyond, the connection is closed that has most waiting, times how long it has taken none
    /// of it: one that reads, however slowly, goes last. Default: 512 MiB, eight peers that do not read at all: without it the memory that strangers can take
    /// would be [`outstanding_bytes`](Gate::outstanding_bytes) times the connections.
    #[must_use]
    pub fn outstanding_bytes_in_all(mut self, bytes: usize) -> Self {
        self.outstanding_in_all = Some(bytes);
        self
    }

    /// Messages of one connection: so many a second on average, and `burst` at once after a rest. A connection that is over it is not read until it is back
    /// within it, so its peer's sends wait. Nothing is lost, and calls of an honest client only get slower. Default: no limit: how fast is too fast depends on
    /// the service, and a server bounds the calls that run and wait anyway. A message of this library's clients may carry many calls.
    #[must_use]
    pub fn messages_per_second(mut self, rate: u64, burst: u64) -> Self {
        self.messages = Some(Rate { per_second: rate, burst });
        self
    }

    /// Bytes of one connection, in the same way as [`messages_per_second`](Gate::messages_per_second). Default: no limit. A message that is longer than the
    /// burst comes through, in its time.
    #[must_use]
    pub fn bytes_per_second(mut self, rate: u64, burst: u64) -> Self {
        self.bytes = Some(Rate { per_second: rate, burst });
        self
    }

    /// ZMTP commands (PING and PONG) of one connection; with more it is closed, since each PING asks for an answer. Default: 100 a second and 1,000 at once: an
    /// eager heartbeat comes every 10 ms, and while this process is stopped some queue up.
    #[must_use]
    pub fn commands_per_second(mut self, rate: u64, burst: u64) -> Self {
        self.commands = Some(Rate { per_second: rate, burst });
        self
    }

    /// Threads over which connections are spread, the socket's first one included. Each has a gate of its own, and does all that its connections need but the
    /// calls and events themselves, which stay with the first: reading, checking, writing, and encryption, which is most of the work. Default: 1: a call
    /// that crosses threads takes longer, so more pay only where one core is not enough. Limits hold for all threads together, but
    /// for [`handshakes`](Gate::handshakes), which each thread may have so many of.
    #[must_use]
    pub fn io_threads(mut self, count: usize) -> Self {
        self.io_threads = Some(count.max(1));
        self
    }

    /// For a server whose longest body is this.
    pub(crate) fn router(&self, body: u32) -> RouterOptions {
        let mut router = RouterOptions::router();
        // Replies are produced until half of it is used, and the longest message comes on top.
        router.outstanding_limit = router.outstanding_limit.max(4 * body as usize);
        router.frame_limit = self.frame_bytes.unwrap_or(router.frame_limit.max(u64::from(body)));
        router.message_limit = self.message_bytes.unwrap_or(router.message_limit.max(2 * u64::from(body)));
        self.apply(router)
    }

    /// For a publisher.
    pub(crate) fn publisher(&self) -> RouterOptions {
        let mut router = RouterOptions::publisher();
        // A subscriber says nothing longer than a subscription, so nobody can make us hold more.
        router.frame_limit = 4 * 1024;
        router.message_limit = 4 * 1024;
        self.apply(router)
    }

    fn apply(&self, router: RouterOptions) -> RouterOptions {
        RouterOptions {
            connections_limit: self.connections.unwrap_or(router.connections_limit),
            address_limit: self.per_address.or(router.address_limit),
            handshakes_limit: self.handshakes.unwrap_or(router.handshakes_limit),
            handshake_timeout: self.handshake_timeout.unwrap_or(router.handshake_timeout),
            first_message_timeout: self.first_message_timeout.or(router.first_message_timeout),
            idle_timeout: self.idle_timeout.or(router.idle_timeout),
            stall_timeout: self.write_timeout.unwrap_or(router.stall_timeout),
            linger: self.linger.unwrap_or(router.linger),
            frames_limit: self.frames.unwrap_or(router.frames_limit),
            unfinished_limit: self.unfinished_bytes.unwrap_or(router.unfinished_limit),
            buffers_limit: self.buffer_bytes.unwrap_or(router.buffers_limit),
            outstanding_limit: self.outstanding_bytes.unwrap_or(router.outstanding_limit),
            all_outstanding_limit: self.outstanding_in_all.unwrap_or(router.all_outstanding_limit),
            messages_rate: self.messages.or(router.messages_rate),
            bytes_rate: self.bytes.or(router.bytes_rate),
            commands_rate: self.commands.unwrap_or(router.commands_rate),
            threads: self.io_threads.unwrap_or(router.threads),
            ..router
        }
    }
}
