//! Subscribing to events: [`Subscriber`], which connects to publishers, and [`Subscription`], a stream of events.
//!
//! Each publisher has a connection of its own, shared by all subscriptions, on the library's IO thread; `protocol::sequence` turns the
//! numbers of its events into gaps and restarts. What this is not: a mailbox. Events that were published before a subscription stood, or while the
//! publisher could not be reached, do not come later; how many they were is told as a gap.

mod bodies;
mod counters;
mod driver;
mod feed;
mod inbox;
mod session;
mod subscribe;
mod subscription;

use std::fmt;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use crate::codegen::Topic;
use crate::error::{SetupError, SetupErrorKind};
#[cfg(feature = "tls")]
use crate::io::Connector;
use crate::io::{DealerOptions, Endpoint, EndpointError, IoThread};
use crate::protocol::sequence::DEFAULT_KEYS;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use driver::Driver;
use feed::Board;

pub use counters::{SubscriberCounters, SubscriptionCounters};
pub use subscribe::Subscribe;
pub use subscription::{Event, EventError, Subscription};

/// Connects to one or more publishers. Cheap to clone; all clones share the connections.
///
/// A connection that is lost, or on which nothing comes for three of the publisher's beacons, is made anew, for ever, with a
/// back-off of 20 ms to 5 s; subscriptions are made again, and what was missed meanwhile is told as gaps. Connections end when the last
/// clone and the last [`Subscription`] are dropped.
#[derive(Clone)]
pub struct Subscriber(Arc<Inner>);

struct Inner {
    board: Arc<Board>,
    keys: usize,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    /// Counts up when subscriptions come or go. Its end, with this struct, ends the drivers.
    changed: watch::Sender<u64>,
}

impl Subscriber {
    /// Connects to a publisher at an endpoint such as `tcp://prices.example:7315`. Succeeds although nobody may listen there yet. For `tls://` it takes
    /// certificates, which `SubscriberBuilder::tls` is given.
    ///
    /// # Errors
    /// If the endpoint is none, or the system has no thread left.
    pub async fn connect(endpoint: impl AsRef<str>) -> Result<Subscriber, SetupError> {
        Subscriber::builder().connect(endpoint).await
    }

    /// Limits, to be changed before it connects.
    pub fn builder() -> SubscriberBuilder {
        SubscriberBuilder {
            keys: DEFAULT_KEYS,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Connects to a further publisher. Subscriptions, present and future ones, take events from all.
    ///
    /// # Errors
    /// If the endpoint is none.
    pub fn also(self, endpoint: impl AsRef<str>) -> Result<Subscriber, SetupError> {
        let endpoint = endpoint.as_ref();
        let what = format!("subscribe at {endpoint}");
        let parsed: Endpoint = endpoint
            .parse()
            .map_err(|error: EndpointError| SetupError::of(SetupErrorKind::Endpoint, &what, error))?;
        let thread = IoThread::shared().map_err(|error| SetupError::io(&what, error))?;
        let dealer = DealerOptions {
            #[cfg(feature = "tls")]
            tls: Connector::of(std::slice::from_ref(&parsed), self.0.tls.clone(), "SubscriberBuilder::tls")
                .map_err(|error| SetupError::of(SetupErrorKind::Tls, &what, error))?,
            ..DealerOptions::subscriber()
        };
        let driver = Driver {
            board: self.0.board.clone(),
            place: self.0.board.add_place(),
            name: parsed.to_string().into(),
            endpoint: parsed,
            keys: self.0.keys,
            dealer,
            changed: self.0.changed.subscribe(),
        };
        drop(thread.run(move || driver.run()));
        Ok(self)
    }

    /// Subscribes to a topic: await what is returned, or first narrow it down by [`key`](Subscribe::key).
    pub fn subscribe<T: Topic>(&self) -> Subscribe<T> {
        Subscribe::new(self.clone())
    }

    /// What was heard on all connections.
    pub fn counters(&self) -> SubscriberCounters {
        *self.0.board.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connections. Each subscription still gives what waits in its queue, then `None`.
    pub fn close(&self) {
        self.0.board.end();
        self.look();
    }

    /// Tells the drivers that subscriptions came or went.
    fn look(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (up, places) = self.0.board.places();
        write!(f, "Subscriber({up} of {places} publishers connected)")
    }
}

/// The limits of a [`Subscriber`].
#[derive(Clone, Debug)]
pub struct SubscriberBuilder {
    keys: usize,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl SubscriberBuilder {
    /// Keys whose last number is remembered, of all topics of one publisher together. Default 65,536, some 200 bytes each. With more keys alive, the one
    /// that was idle longest is forgotten, and a loss before its next event goes untold.
    #[must_use]
    pub fn keys(mut self, count: usize) -> Self {
        self.keys = count;
        self
    }

    /// Whom to believe at `tls://` endpoints, and what to show there: all publishers' endpoints are `tls://` ones then. Default: none.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects; see [`Subscriber::connect`].
    ///
    /// # Errors
    /// If the endpoint is none, or the system has no thread left.
    pub async fn connect(self, endpoint: impl AsRef<str>) -> Result<Subscriber, SetupError> {
        let inner = Inner {
            board: Arc::new(Board::new()),
            keys: self.keys,
            #[cfg(feature = "tls")]
            tls: self.tls,
            changed: watch::channel(0).0,
        };
        Subscriber(Arc::new(inner)).also(endpoint)
    }
}
