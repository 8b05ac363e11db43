//! How a channel is set up: its limits, each with its default and the reason for it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;

use super::driver::{Callers, Driver, Route, Tally, dealer_options};
use super::places::{Desk, Places};
use super::results::{Bell, Sleepers};
use super::{Channel, Shared};
use crate::codegen::Service;
use crate::error::{SetupError, SetupErrorKind};
#[cfg(feature = "tls")]
use crate::io::Connector;
use crate::io::{DealerOptions, Endpoint, EndpointError, IoThread, Spin};
use crate::metadata::Metadata;
use crate::protocol::Session;
use crate::protocol::call::Config;
use crate::protocol::retry::Allowance;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

/// Sets up a [`Channel`].
#[derive(Clone, Debug)]
pub struct ChannelBuilder {
    deadline: Duration,
    replicas: Vec<String>,
    metadata: Metadata,
    config: Config,
    spin: Spin,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl Default for ChannelBuilder {
    fn default() -> Self {
        ChannelBuilder {
            // Longer than a person waits, shorter than a proxy's patience; what gRPC's and Finagle's users end up setting.
            deadline: Duration::from_secs(5),
            replicas: Vec::new(),
            metadata: Metadata::default(),
            config: Config::default(),
            spin: Spin::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ChannelBuilder {
    /// The deadline of calls that do not set their own. Default: 5 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// A name and a value that go along with every call of the channel, as [`Call::metadata`](crate::Call::metadata) does with one: a token, a tenant. May be given
    /// several times. Default: none. A call's own entries of a name take the place of the channel's, and count with the rest of them towards the bounds of
    /// [`Metadata`]: a call that has more is misuse.
    ///
    /// Handlers see it; the server's rules ([`Server::allow`](crate::Server::allow)) do not, and a retry that is answered from a record meets no handler.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.metadata.push(name, value);
        self
    }

    /// How often a call is sent at most, if nothing comes back. Default: 5.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.config.attempts = attempts.max(1);
        self
    }

    /// How long to wait for an answer to an attempt before the next, doubling with each. Default: 1 s. On a connection that stands, replies are not lost
    /// unless something between drops messages, so this need not be short.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.config.attempt_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// What all calls together may spend on retries: so many for each hundred calls, and so many a second besides. Default: 20 and 10, as Finagle
    /// has it, so that retries add a fifth to a server's load at most. A call that finds the budget empty waits for what it has sent.
    #[must_use]
    pub fn retry_budget(mut self, percent: u32, per_second: u32) -> Self {
        self.config.budget = Allowance { percent, per_second };
        self
    }

    /// Calls in flight at once; more wait for a place, until their deadline. Default: 1,024; the server's window holds if it is smaller.
    #[must_use]
    pub fn in_flight(mut self, calls: usize) -> Self {
        self.config.window = calls.max(1);
        self
    }

    /// Calls that may be open at once, in flight or waiting; one more is refused as `Overloaded`. Default: 16,384.
    #[must_use]
    pub fn open(mut self, calls: usize) -> Self {
        self.config.calls = calls.max(1);
        self
    }

    /// The longest parameters and replies, in bytes. Default: 16 MiB. Longer parameters are refused as `TooLarge` before they are sent; the
    /// server's own limit holds if it is lower.
    #[must_use]
    pub fn body_limit(mut self, bytes: u32) -> Self {
        self.config.body_limit = bytes;
        self
    }

    /// Whether the thread that all channels and subscribers of the process share spins before it sleeps; the most eager of them decides. Default:
    /// [`Spin::Adaptive`].
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// A further endpoint of the same service, dialled when the one before cannot be reached. A `once` call that may have run at one replica goes
    /// to another only if both serve from one store.
    #[must_use]
    pub fn replica(mut self, endpoint: impl Into<String>) -> Self {
        self.replicas.push(endpoint.into());
        self
    }

    /// Whom to believe at `tls://` endpoints, and what to show there: all replicas' endpoints are `tls://` ones then. Default: none.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects. Returns at once; the connection is made, and kept up, in the background. [`Channel::ready`] waits for it.
    ///
    /// # Errors
    /// If an endpoint is not one (`tcp://host:port`, `tls://host:port`, `ipc:///path`), if a `tls://` one has no certificates or files that are of no use, or
    /// no IO thread could be started. Not if nobody listens.
    pub async fn connect(self, endpoint: impl AsRef<str>) -> Result<Channel, SetupError> {
        let mut endpoints = Vec::with_capacity(1 + self.replicas.len());
        for text in std::iter::once(endpoint.as_ref()).chain(self.replicas.iter().map(String::as_str)) {
            let endpoint: Endpoint = text.parse().map_err(|error: EndpointError| {
                SetupError::of(SetupErrorKind::Endpoint, format!("connect to {text}"), error)
            })?;
            endpoints.push(endpoint);
        }
        let what = format!("connect to {}", endpoint.as_ref());
        let options = DealerOptions {
            #[cfg(feature = "tls")]
            tls: Connector::of(&endpoints, self.tls.clone(), "ChannelBuilder::tls")
                .map_err(|error| SetupError::of(SetupErrorKind::Tls, &what, error))?,
            ..dealer_options(self.config.body_limit)
        };
        let route = Route::Dial { endpoints, next: 0 };
        self.start(route, options).map_err(|error| SetupError::io(what, error))
    }

    /// As [`Channel::local`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if no IO thread can be started.
    pub fn local(self, service: impl Service) -> Channel {
        let link = crate::server::local(service);
        let options = dealer_options(self.config.body_limit);
        self.start(Route::Local(Some(link)), options).expect("an IO thread can be started")
    }

    fn start(self, route: Route, options: DealerOptions) -> std::io::Result<Channel> {
        let (commands, orders) = mpsc::unbounded_channel();
        let session = Session(crate::random::u128());
        let counters = Arc::<Tally>::default();
        let sleepers = Arc::<Sleepers>::default();
        let places = Arc::new(Places::new(self.config.calls));
        let callers = Callers {
            commands: orders,
            desk: Desk::new(places.clone()),
            bell: Bell::new(sleepers.clone()),
            tally: counters.clone(),
            reach: route.reach(),
        };
        let standing = callers.reach.watch();
        let (config, spin) = (self.config, self.spin);
        // Runs until the last clone of the channel is gone; nobody waits for its end.
        let driver = move || Driver::new(config, session, route, options, callers).run(spin);
        drop(IoThread::shared()?.run(driver));
        Ok(Channel(Arc::new(Shared {
            commands,
            places,
            sleepers,
            next_ticket: AtomicU64::new(0),
            default_deadline: self.deadline,
            metadata: self.metadata,
            counters,
            standing,
            process: std::process::id(),
        })))
    }
}
