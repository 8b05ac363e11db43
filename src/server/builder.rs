//! How a server is set up: its limits, each with its default and the reason for it.

use std::time::Duration;

use super::Server;
use crate::error::SetupError;
use crate::gate::Gate;
use crate::io::Spin;
use crate::protocol::{dedup, wire};
use crate::store::Store;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

/// Sets up a [`Server`].
#[derive(Clone, Debug, Default)]
pub struct ServerBuilder {
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub concurrency: usize,
    pub queue: usize,
    pub held: usize,
    pub inline: bool,
    pub spin: Spin,
    pub handler_timeout: Duration,
    pub drain: Duration,
    pub heartbeat: Duration,
    pub wire: wire::Limits,
    pub dedup: dedup::Limits,
    pub gate: Gate,
    pub store: Store,
    #[cfg(feature = "tls")]
    pub tls: Option<ServerTls>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            // Handlers wait for databases and other services rather than for the CPU; at 10 ms each this is 100,000 calls a second.
            concurrency: 1024,
            // As much again: what waits longer than the handlers ahead of it take is better retried elsewhere.
            queue: 1024,
            // Sixteen of the longest bodies, or 128 KiB for each of the handlers and queued calls.
            held: 256 << 20,
            inline: true,
            spin: Spin::default(),
            // Twelve default deadlines: nobody waits any more, yet slow work by a caller with a long deadline is not cut off early.
            handler_timeout: Duration::from_secs(60),
            // What orchestrators give a process between the signal and the kill is 30 s or more; this leaves room for the rest of it.
            drain: Duration::from_secs(10),
            // Three of them, 15 s, are what NATS and gRPC deployments take to notice a dead peer, and an idle client costs a ping in 5 s.
            heartbeat: Duration::from_secs(5),
            wire: wire::Limits::default(),
            dedup: dedup::Limits::default(),
            gate: Gate::new(),
            store: Store::memory(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Longer durations mean this one: what 32 bits of milliseconds say on the wire, almost 50 days.
const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);

impl ServerBuilder {
    /// Handlers that run at once, in all. Default: 1,024.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers.max(1);
        self
    }

    /// Calls that wait for a handler; one more is refused as `Overloaded`, which is safe to retry. Default: 1,024.
    #[must_use]
    pub fn queue(mut self, calls: usize) -> Self {
        self.settings.queue = calls;
        self
    }

    /// Bytes of parameters that running and queued calls may hold together; beyond that calls are refused as `Overloaded`. Default: 256 MiB.
    #[must_use]
    pub fn held_bytes(mut self, bytes: usize) -> Self {
        self.settings.held = bytes;
        self
    }

    /// Whether a handler is polled once on the server's IO thread before it becomes a task of your runtime. Default: yes, which spares
    /// short handlers a change of threads. Say no if handlers need a worker of a multi-thread runtime from their first line on, as
    /// `tokio::task::block_in_place` does.
    #[must_use]
    pub fn inline(mut self, inline: bool) -> Self {
        self.settings.inline = inline;
        self
    }

    /// Whether the server's IO threads spin before they sleep. Default: [`Spin::Adaptive`].
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.settings.spin = spin;
        self
    }

    /// How long a handler may run before it is dropped and its call recorded as failed. Default: 60 s.
    #[must_use]
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handler_timeout = timeout.min(LONGEST);
        self
    }

    /// How long a shutdown waits for running handlers, and then again for what was said to be sent. Default: 10 s.
    #[must_use]
    pub fn drain(mut self, cap: Duration) -> Self {
        self.settings.drain = cap.min(LONGEST);
        self
    }

    /// The interval of pings on a silent connection; a peer that has said hello and then nothing for three of them is closed. Default: 5 s.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.settings.heartbeat = interval.clamp(Duration::from_millis(10), LONGEST);
        self
    }

    /// The longest parameters or reply, in bytes. Default: 16 MiB.
    #[must_use]
    pub fn body_limit(mut self, bytes: u32) -> Self {
        self.settings.wire.body = bytes;
        self
    }

    /// What peers may do before anything is known of them: how many connect, how fast, how much. Default: [`Gate::new`], each limit with its reason.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.settings.gate = gate;
        self
    }

    /// How long the session of a silent client, and so the replies that it may still ask for, are kept. Default: 15 minutes, which
    /// covers a paused virtual machine. Calls that handlers make within the request of a sequenced call are valid for twice this, and other servers refuse
    /// them as `TooLarge` if that is more than 7 days.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.settings.dedup.retention = retention.min(LONGEST);
        self
    }

    /// What a `tls://` endpoint shows, and whom it lets in. Default: none, and then only `tcp://` and `ipc://` can be bound.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Where the records of calls live, and so what a retry survives. Default: [`Store::memory`].
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.settings.store = store;
        self
    }

    /// Sessions that may live at once, at least 1; a further client is refused as `Overloaded`. Default: 65,536, some 300 bytes each.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.settings.dedup.sessions = sessions.max(1);
        self
    }

    /// Calls that may be open, or answered and not yet acknowledged, in one session, at least 1. Default: 1,024.
    #[must_use]
    pub fn window(mut self, calls: u32) -> Self {
        self.settings.dedup.window = calls.max(1);
        self
    }

    /// Records of keyed calls that are kept at once, from 1 to 2^30; beyond it keyed calls are refused as `Overloaded` until the oldest expire. Default:
    /// 1,048,576, some 400 bytes each beside their replies.
    ///
    /// Calls made [`within`](crate::Call::within) a request are keyed ones, and no acknowledgement frees their records. So this has to be as many as come in a second, times
    /// the seconds for which they are valid: twice the [`retention`](ServerBuilder::retention) of the server at which the outermost call arrived, 30 minutes by default;
    /// or, if that call is keyed itself, as long as its nonce, a day by default. The default lasts for 582 a second, or 12. For more, raise this and
    /// [`keyed_bytes`](ServerBuilder::keyed_bytes), or lower the retention there.
    ///
    /// The server warns once four fifths of either bound are used, and again only after both had fallen below three fifths;
    /// [`ServerCounters`](crate::ServerCounters) has what is kept. With a `shared` or `atomic` store records stay in the database, which neither bounds.
    #[must_use]
    pub fn keyed_records(mut self, records: usize) -> Self {
        self.settings.dedup.keyed = records.clamp(1, 1 << 30);
        self
    }

    /// Bytes of replies that are kept of keyed calls; beyond it they are refused as `Overloaded`, as beyond
    /// [`keyed_records`](ServerBuilder::keyed_records). Default: 256 MiB, which at replies of 1 KiB is 262,144 of them: 145 calls a second for 30 minutes.
    #[must_use]
    pub fn keyed_bytes(mut self, bytes: usize) -> Self {
        self.settings.dedup.keyed_bytes = bytes.max(1);
        self
    }

    /// The longest reply that is kept for a retry, in bytes, at most 256 MiB. Default: 1 MiB. A longer one is sent once: if it is lost, the retry of a `once`
    /// call gets `ReplyEvicted`, its outcome `Yes`. Replies that one session has not acknowledged may have 16 MiB together, or this if it is more, and
    /// those of all sessions 256 MiB. Replicas of one store should have the same.
    #[must_use]
    pub fn kept_reply_limit(mut self, bytes: u32) -> Self {
        let (limits, default) = (&mut self.settings.dedup, dedup::Limits::default());
        limits.reply_bytes = (bytes as usize).min(default.bytes);
        limits.session_bytes = default.session_bytes.max(limits.reply_bytes);
        self
    }

    /// By how much the wall clocks of clients and of this server may be wrong. Default: 500 ms. A keyed call that was made earlier than twice this after
    /// the server's store began is refused: the store before may have run it. With zero all clocks must be one.
    #[must_use]
    pub fn clock_error(mut self, error: Duration) -> Self {
        self.settings.dedup.clock_error = error.min(LONGEST);
        self
    }

    /// Binds the socket. Connections are accepted at once, and calls answered from `serve` on.
    ///
    /// # Errors
    /// If the endpoint is not one or cannot be bound, or a `tls://` one has no certificates, or files that are of no use.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Server, SetupError> {
        Server::open(self.settings, endpoint.as_ref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_nothing_is_a_bound_of_one() {
        let limits =
            ServerBuilder::default().sessions(0).window(0).keyed_records(0).keyed_bytes(0).settings.dedup;
        assert_eq!((limits.sessions, limits.window, limits.keyed, limits.keyed_bytes), (1, 1, 1, 1));
    }

    #[test]
    fn a_session_has_room_for_the_longest_reply_that_is_kept() {
        let limits = |bytes| ServerBuilder::default().kept_reply_limit(bytes).settings.dedup;
        let default = dedup::Limits::default();
        assert_eq!((limits(8).reply_bytes, limits(8).session_bytes), (8, default.session_bytes));
        assert_eq!((limits(32 << 20).reply_bytes, limits(32 << 20).session_bytes), (32 << 20, 32 << 20));
        assert_eq!(limits(u32::MAX).reply_bytes, default.bytes, "no more than all replies may have together");
    }
}
