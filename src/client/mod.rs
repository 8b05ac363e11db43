//! The client's shell: a channel to a service, shared by the clients of all its interfaces.
//!
//! What is sent when, and what a caller is told, is decided by the machine in `protocol::call`; the [`driver`] runs it on an IO thread.

mod builder;
mod driver;
mod places;
mod reach;
mod results;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use capnp::traits::Owned;
use tokio::sync::{mpsc, watch};
use tracing::field;

pub use builder::ChannelBuilder;
pub use driver::ChannelCounters;

use crate::call::Call;
use crate::codegen::{InterfaceInfo, Method, MethodInfo, Service};
use crate::error::{Error, Inner, Kind, Outcome, SetupError, SetupErrorKind};
use crate::message::{self, Filled};
use crate::metadata::Metadata;
use crate::nonce::{Identity, Nonce};
use crate::protocol::wire::Trace;
use crate::protocol::{Key, Refusal};
use places::Places;
use reach::Standing;
use results::{Giver, Sleepers, Taker};

/// A connection to a service, kept up for as long as a clone of it lives. Cheap to clone, `Send` and `Sync`.
///
/// It succeeds although nobody listens yet: it dials, and after a loss dials again for ever, with back-off; calls wait until their deadline.
/// [`ready`](Channel::ready) waits until the server is there.
#[derive(Clone)]
pub struct Channel(Arc<Shared>);

struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    places: Arc<Places>,
    sleepers: Arc<Sleepers>,
    next_ticket: AtomicU64,
    default_deadline: Duration,
    metadata: Metadata,
    counters: Arc<driver::Tally>,
    standing: watch::Receiver<Standing>,
    /// A forked child has the channel but not its IO thread, and must not share the session.
    process: u32,
}

/// From callers to the driver. Not bounded itself: there are at most two commands a call, and calls are bounded.
pub(crate) enum Command {
    Start(Box<Order>),
    Cancel { ticket: u64 },
    Contract(&'static InterfaceInfo),
}

/// A call as its caller wants it.
pub(crate) struct Order {
    pub method: &'static MethodInfo,
    pub interface: &'static InterfaceInfo,
    pub body: Bytes,
    /// How long its caller waits for it, if not as long as is the channel's default.
    pub patience: Option<Duration>,
    /// The deadline of the request that this call is made within.
    pub not_after: Option<Instant>,
    pub key: Option<Key>,
    pub metadata: Metadata,
    /// None: it begins a trace.
    pub trace: Option<Trace>,
    /// The first mistake in building the call; reported when it is polled.
    pub mistake: Option<String>,
    /// Since it was handed over.
    pub begun: Option<Begun>,
}

/// What a call has from when it is handed to the driver.
pub(crate) struct Begun {
    ticket: u64,
    deadline: Instant,
    done: Giver<Finished>,
}

/// How a call ended.
pub(crate) struct Finished {
    pub result: Result<Bytes, Failed>,
    pub nonce: Option<Nonce>,
    pub attempts: u32,
}

/// Why a call has no reply.
pub(crate) struct Failed {
    pub kind: Kind,
    pub outcome: Outcome,
    pub retry_after: Option<Duration>,
    pub message: String,
    pub fault: Option<(u64, Bytes)>,
}

const FORKED: &str =
    "this channel was made before a fork and belongs to the parent; connect anew in the child";
const STOPPED: &str = "the channel's IO thread has stopped";

impl Channel {
    /// Connects with the defaults of [`ChannelBuilder`], to `tcp://host:port` or `ipc:///path`. For `tls://host:port` it takes certificates, which
    /// `ChannelBuilder::tls` is given.
    ///
    /// # Errors
    /// If the endpoint is not one, or no IO thread could be started. Not if nobody listens.
    pub async fn connect(endpoint: impl AsRef<str>) -> Result<Self, SetupError> {
        Channel::builder().connect(endpoint).await
    }

    /// A channel with limits of your own.
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::default()
    }

    /// A channel to a service in this process, without sockets: for tests. Retries, deduplication, deadlines and errors are the real ones.
    ///
    /// Handlers run in the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if no IO thread can be started.
    pub fn local(service: impl Service) -> Self {
        ChannelBuilder::default().local(service)
    }

    /// Names the contract to the server, so that a difference is told before the first call. Generated clients call it.
    #[doc(hidden)]
    pub fn register(&self, interface: &'static InterfaceInfo) {
        // A driver that is gone has nothing to compare.
        let _ = self.0.commands.send(Command::Contract(interface));
    }

    /// A call to method `M`. Generated clients call it.
    #[doc(hidden)]
    pub fn call<M: Method, R: Filled>(
        &self,
        fill: impl FnOnce(<M::Params as Owned>::Builder<'_>) -> R,
    ) -> Call<M> {
        Call::new(self.clone(), message::build::<M::Params, R>(fill))
    }

    /// What happened on this channel so far.
    pub fn counters(&self) -> ChannelCounters {
        self.0.counters.read()
    }

    /// Waits until a server has welcomed this channel: it has answered, knows this channel's session, and calls are sent to it at once. For a start-up that has to
    /// fail without its server, and for readiness probes. Calls need not wait for it. What a single call is answered depends on more: the services that
    /// the server has, their contracts, its load.
    ///
    /// Returns at once if the channel is connected. Nothing is lost if the future is dropped. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// [`Unconfirmed`](SetupErrorKind::Unconfirmed), if there is no welcome within the channel's [default deadline](ChannelBuilder::deadline): why, and how often it
    /// was tried. The channel goes on trying. [`Other`](SetupErrorKind::Other), and at once, if nothing can bring a welcome any more, since the channel's thread has
    /// ended or is a parent process's.
    pub async fn ready(&self) -> Result<(), SetupError> {
        let cannot = |kind, why: &str| SetupError::new(kind, "wait for the server", why);
        if !self.is_ours(Instant::now()) {
            return Err(cannot(SetupErrorKind::Other, FORKED));
        }
        let patience = self.default_deadline();
        let mut standing = self.0.standing.clone();
        let welcomed = standing.wait_for(|standing| *standing == Standing::Welcomed);
        match tokio::time::timeout(patience, welcomed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(cannot(SetupErrorKind::Other, STOPPED)),
            Err(_) => match &*self.0.standing.borrow() {
                Standing::Welcomed => Ok(()),
                Standing::Away(why) => {
                    let why = format!("no welcome within {patience:?}; {why}");
                    Err(cannot(SetupErrorKind::Unconfirmed, &why))
                }
            },
        }
    }

    /// Whether a server has welcomed this channel and, as far as is known, is there: calls are sent at once. A server that vanished without a word is missed after three
    /// of its heartbeats. [`ready`](Channel::ready) waits for it, and says why not.
    pub fn is_connected(&self) -> bool {
        *self.0.standing.borrow() == Standing::Welcomed && self.is_ours(Instant::now())
    }

    /// Whether it was made in this process.
    fn is_ours(&self, now: Instant) -> bool {
        process(now) == self.0.process
    }

    pub(crate) fn default_deadline(&self) -> Duration {
        self.0.default_deadline
    }

    /// What goes along with every call.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    pub(crate) fn submit(
        self,
        mut order: Box<Order>,
        deadline: Instant,
        now: Instant,
    ) -> Result<Ticket, Error> {
        let shared = &self.0;
        let method = order.method;
        if !self.is_ours(now) {
            return Err(Error::misuse(method.name, FORKED));
        }
        if !shared.places.take() {
            return Err(Error::new(Inner {
                kind: Kind::Refused(Refusal::Overloaded),
                // Nothing was sent now; under a key an earlier life may have sent it.
                outcome: if order.key.is_some() { Outcome::Unknown } else { Outcome::No },
                method: method.name,
                nonce: order.key.map(|key| Nonce(Identity::Keyed(key))),
                attempts: 0,
                retry_after: None,
                message: format!(
                    "{} calls are open on this channel already; await some first",
                    shared.places.limit()
                ),
                fault: None,
            }));
        }
        let (done, finished) = results::place();
        let key = order.key;
        let number = shared.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (nonce, attempts, outcome) = (field::Empty, field::Empty, field::Empty);
        let span = tracing::debug_span!("call", method = method.name, nonce, attempts, outcome);
        // If the driver is gone, `done` is dropped with the command, and the ticket says so.
        order.begun = Some(Begun { ticket: number, deadline, done });
        let _ = shared.commands.send(Command::Start(order));
        Ok(Ticket { channel: self, number, key, method, finished: Some(finished), span })
    }
}

/// This process's id, as it was some microseconds ago: to ask for it is a call of the system, as dear as all else that a caller does for a call, and a fork takes longer.
fn process(now: Instant) -> u32 {
    const FRESH: Duration = Duration::from_micros(20);
    thread_local! {
        static KNOWN: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
    }
    if let Some((since, id)) = KNOWN.get()
        && now.saturating_duration_since(since) < FRESH
    {
        return id;
    }
    let id = std::process::id();
    KNOWN.set(Some((now, id)));
    id
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.places.taken();
        f.debug_struct("Channel")
            .field("connected", &self.is_connected())
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

/// A started call at its caller. Dropping it cancels the call.
pub(crate) struct Ticket {
    channel: Channel,
    number: u64,
    key: Option<Key>,
    method: &'static MethodInfo,
    finished: Option<Taker<Finished>>,
    span: tracing::Span,
}

impl Ticket {
    pub(crate) fn key(&self) -> Option<Key> {
        self.key
    }

    pub(crate) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        self.channel.0.sleepers.wake_all();
        let place = self.finished.as_mut().expect("not polled again after it finished");
        let finished = std::task::ready!(place.poll(cx));
        self.finished = None;
        let finished = finished.unwrap_or_else(|| {
            tracing::error!(method = self.method.name, "the channel's driver is gone");
            let message = STOPPED.into();
            let (kind, outcome) = (Kind::Refused(Refusal::Unavailable), Outcome::Unknown);
            let failed = Failed { kind, outcome, retry_after: None, message, fault: None };
            Finished {
                result: Err(failed),
                nonce: self.key.map(|key| Nonce(Identity::Keyed(key))),
                attempts: 0,
            }
        });
        self.tell(&finished);
        Poll::Ready(finished)
    }

    fn tell(&self, finished: &Finished) {
        if self.span.is_disabled() {
            return;
        }
        if let Some(nonce) = finished.nonce {
            self.span.record("nonce", field::display(nonce));
        }
        self.span.record("attempts", finished.attempts);
        let outcome = finished.result.as_ref().map_or_else(|failed| failed.outcome, |_| Outcome::Yes);
        self.span.record("outcome", field::debug(outcome));
        let kind = finished.result.as_ref().err().map(|failed| failed.kind);
        self.span.in_scope(|| tracing::debug!(?kind, "ended"));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.channel.0.sleepers.wake_all(); // it may be the one who was to
        if self.finished.is_some() {
            let _ = self.channel.0.commands.send(Command::Cancel { ticket: self.number });
        }
    }
}
