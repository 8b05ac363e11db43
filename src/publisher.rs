//! Publishing events: [`Publisher`], and what it is built with.
//!
//! An event is built and given its topic frame in the task that publishes it, and crosses to the publisher's IO thread by a queue bounded in
//! bytes. There `protocol::fanout` numbers it and decides who gets it; [`serving`] moves it to the sockets. What this is not: a
//! log. An event that nobody has subscribed to is gone, and a subscriber that was away is told how much it missed, not what.

mod publish;
mod room;
mod serving;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capnp::message::{Builder, HeapAllocator};
use capnp::serialize;
use tokio::sync::{oneshot, watch};

use crate::codegen::Topic;
use crate::error::{SetupError, SetupErrorKind};
use crate::gate::Gate;
#[cfg(feature = "tls")]
use crate::io::Acceptor;
use crate::io::{Endpoint, EndpointError, IoThread, Router, RouterOptions};
use crate::message::Filled;
use crate::principal::{Principal, Rules};
use crate::protocol::fanout::{Fanout, Limits, Published, unfit};
use crate::protocol::sequence::TOPIC_LIMIT;
use crate::protocol::wire;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use room::{Backlog, backlog};

pub use crate::protocol::fanout::{Policy, PublisherCounters};
pub use publish::{Publish, PublishError};

/// Publishes events at one endpoint. Cheap to clone; all clones are one publisher.
///
/// Any number of subscribers connect to it; none can hold up another, or the memory of this process, beyond what the
/// [builder](Publisher::builder) says. Events of one task arrive in the order in which they were published.
///
/// When the last clone is dropped the endpoint closes at once and what still waits is lost: [`shutdown`](Publisher::shutdown) first.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    endpoint: String,
    backlog: Backlog<Published>,
    counters: Counters,
    largest: usize,
    drain: Duration,
    stop: watch::Sender<Option<Duration>>,
    done: watch::Receiver<bool>,
    // Dropped with the last clone, which ends the tasks on it.
    _thread: IoThread,
}

/// Written by the publisher's thread.
type Counters = Arc<Mutex<PublisherCounters>>;

impl Publisher {
    /// Binds to an endpoint such as `tcp://0.0.0.0:7315`, with the defaults. Port 0 takes a free one: see [`endpoint`](Publisher::endpoint). For `tls://` it takes
    /// certificates, which `PublisherBuilder::tls` is given.
    ///
    /// # Errors
    /// If the endpoint is none, or cannot be bound.
    pub async fn bind(endpoint: impl AsRef<str>) -> Result<Publisher, SetupError> {
        Publisher::builder().bind(endpoint).await
    }

    /// Limits and policy, to be changed before it is bound.
    pub fn builder() -> PublisherBuilder {
        PublisherBuilder::default()
    }

    /// Where it is bound, with the port that was chosen.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// The topic of a contract's event struct, to publish to.
    pub fn topic<T: Topic>(&self) -> TopicPublisher<T> {
        TopicPublisher { publisher: self.clone(), of: PhantomData }
    }

    /// What it did since it was bound.
    pub fn counters(&self) -> PublisherCounters {
        *self.0.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more events, sends what waits, and closes; within [`PublisherBuilder::drain`], then what is left is dropped.
    pub async fn shutdown(&self) {
        self.0.backlog.close();
        self.0.stop.send_replace(Some(self.0.drain));
        // An error: the thread is gone, and with it all there was to drain.
        let _ = self.0.done.clone().wait_for(|done| *done).await;
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Publisher({})", self.0.endpoint)
    }
}

/// One topic of a [`Publisher`].
pub struct TopicPublisher<T> {
    publisher: Publisher,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for TopicPublisher<T> {
    fn clone(&self) -> Self {
        TopicPublisher { publisher: self.publisher.clone(), of: PhantomData }
    }
}

impl<T: Topic> std::fmt::Debug for TopicPublisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TopicPublisher({} at {})", T::NAME, self.publisher.0.endpoint)
    }
}

impl<T: Topic> TopicPublisher<T> {
    /// Builds an event, here and now; the future that is returned publishes it: `topic.publish(|mut e| e.set_user("ann")).await?`.
    ///
    /// It resolves when the event is queued, not when somebody has it. It waits while the queue to the publisher's thread is full:
    /// under [`Policy::Block`] because of subscribers, else because more is published than the thread can pass on.
    pub fn publish<R: Filled>(&self, fill: impl FnOnce(T::Builder<'_>) -> R) -> Publish {
        Publish::new(self.publisher.clone(), self.event(fill))
    }

    fn event<R: Filled>(&self, fill: impl FnOnce(T::Builder<'_>) -> R) -> Result<Published, PublishError> {
        if let Some(why) = unfit(T::NAME) {
            return Err(PublishError::Topic { topic: T::NAME, why });
        }
        let building = |error: capnp::Error| PublishError::Build { topic: T::NAME, why: error.to_string() };
        // 512 bytes hold most events in one segment; larger ones grow by themselves.
        let mut builder = Builder::new(HeapAllocator::new().first_segment_words(64));
        fill(builder.init_root()).filled().map_err(building)?;
        let key = builder.get_root_as_reader().and_then(T::key).map_err(building)?.unwrap_or_default();
        let topic = [T::NAME.as_bytes(), b"/", &key].concat();
        if topic.len() > TOPIC_LIMIT {
            return Err(PublishError::KeyTooLong { topic: T::NAME, length: topic.len(), limit: TOPIC_LIMIT });
        }
        let body = serialize::write_message_to_words(&builder);
        let event = Published { topic: topic.into(), type_id: T::TYPE_ID, trace: None, body: body.into() };
        let (length, limit) = (event.cost(), self.publisher.0.largest);
        if length > limit {
            return Err(PublishError::TooLarge { topic: T::NAME, length, limit });
        }
        Ok(event)
    }
}

/// The limits of a [`Publisher`]. Each says its default, and what reaching it costs.
#[derive(Clone, Debug)]
pub struct PublisherBuilder {
    limits: Limits,
    rules: Rules,
    backlog: usize,
    drain: Duration,
    gate: Gate,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl Default for PublisherBuilder {
    fn default() -> Self {
        PublisherBuilder {
            limits: Limits::default(),
            rules: Rules::default(),
            backlog: 4 * 1024 * 1024,
            drain: Duration::from_secs(5),
            gate: Gate::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl PublisherBuilder {
    /// Bytes that may wait for one subscriber. Default 1 MiB, and no single event may be larger. When it is full, the
    /// [policy](PublisherBuilder::policy) decides.
    #[must_use]
    pub fn queue(mut self, bytes: usize) -> Self {
        self.limits.queue = bytes.max(1024);
        self
    }

    /// What happens when a subscriber's queue is full. Default [`Policy::DropOldest`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.limits.policy = policy;
        self
    }

    /// Under [`Policy::Block`], how long one event may wait for a subscriber before that is disconnected. Default 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Bytes of events that may wait between those who publish and the publisher's thread; then publishing waits. Default 4 MiB: a few
    /// milliseconds of what the thread passes on.
    #[must_use]
    pub fn backlog(mut self, bytes: usize) -> Self {
        self.backlog = bytes.clamp(1024, u32::MAX as usize);
        self
    }

    /// The interval in which subscribers are told the last numbers, and that this publisher lives. Default 1 s, at least 10 ms. A loss that no
    /// later event reveals, and a lost connection, are noticed within one and three of them.
    #[must_use]
    pub fn beacon(mut self, interval: Duration) -> Self {
        self.limits.beacon = interval.max(Duration::from_millis(10));
        self
    }

    /// Subscriptions of one connection; with one more it is closed. Default 1,024.
    #[must_use]
    pub fn subscriptions(mut self, count: usize) -> Self {
        self.limits.subscriptions = count;
        self
    }

    /// Keys whose last number is remembered, of all topics together. Default 65,536, some 200 bytes each. With more keys alive at once, the one that
    /// was idle longest is forgotten and numbered anew, and the loss of its last events may go untold.
    #[must_use]
    pub fn keys(mut self, count: usize) -> Self {
        self.limits.keys = count;
        self
    }

    /// Adds a rule: a subscriber gets the events of a topic only if this says that its principal may read it. The topic is its name without a
    /// key. Who subscribes to what it may not read is told so; a `SUB` socket of plain ZeroMQ just gets nothing. Of several rules all must agree; without
    /// one everything is allowed. The rule is asked for each subscription and for each event and subscriber, on the publisher's IO thread, so
    /// it must be quick; a rule that panics has said no.
    ///
    /// ```no_run
    /// # async fn publish() -> Result<(), selfsame::SetupError> {
    /// # use selfsame::Publisher;
    /// let publisher = Publisher::builder()
    ///     .allow(|principal, topic| topic.starts_with("public.") || principal.name() == Some("auditor"))
    ///     .bind("tcp://127.0.0.1:7315")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn allow(mut self, rule: impl Fn(&Principal, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rules.add(rule);
        self
    }

    /// Subscriptions of all connections together; the connection that asks for one more is closed. Default 262,144: some 40 MiB if they are short, and
    /// 300 MiB if each is as long as may be. Without it the memory that strangers can take would be that of one times the connections.
    #[must_use]
    pub fn subscriptions_in_all(mut self, count: usize) -> Self {
        self.limits.subscriptions_in_all = count;
        self
    }

    /// What subscribers may do before anything is known of them: how many connect, how fast, how much. Default: [`Gate::new`], each limit with its reason.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// What a `tls://` endpoint shows, and whom it lets in. Default: none, and then only `tcp://` and `ipc://` can be bound.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long [`Publisher::shutdown`] may take to send what waits. Default 5 s.
    #[must_use]
    pub fn drain(mut self, cap: Duration) -> Self {
        self.drain = cap;
        self
    }

    /// Binds to an endpoint such as `tcp://0.0.0.0:7315`.
    ///
    /// # Errors
    /// If the endpoint is none, or cannot be bound.
    pub async fn bind(self, endpoint: impl AsRef<str>) -> Result<Publisher, SetupError> {
        self.open(endpoint.as_ref()).await
    }

    async fn open(self, endpoint: &str) -> Result<Publisher, SetupError> {
        let PublisherBuilder { limits, rules, backlog: capacity, drain, gate, .. } = self;
        let what = format!("publish at {endpoint}");
        let parsed: Endpoint = endpoint
            .parse()
            .map_err(|error: EndpointError| SetupError::of(SetupErrorKind::Endpoint, &what, error))?;
        let router = RouterOptions {
            #[cfg(feature = "tls")]
            tls: Acceptor::of(&parsed, self.tls, "PublisherBuilder::tls")
                .map_err(|error| SetupError::of(SetupErrorKind::Tls, &what, error))?,
            ..gate.publisher()
        };
        let thread = IoThread::start("selfsame-publish").map_err(|error| SetupError::io(&what, error))?;
        let counters = Counters::default();
        let (backlog, intake) = backlog(capacity);
        let (stop, stopped) = watch::channel(None);
        let (finished, done) = watch::channel(false);
        let (tell, bound) = oneshot::channel();
        let wire_limits = wire::Limits::default();
        let largest = limits.queue.min(capacity).min(wire_limits.body as usize);
        let serving = {
            let counters = counters.clone();
            move || async move {
                match Router::bind(&parsed, router).await {
                    Ok(router) => {
                        // Nobody waits any more: the publisher is not wanted.
                        let Ok(()) = tell.send(Ok(router.endpoint().to_string())) else { return };
                        let fanout = Fanout::new(crate::random::u64(), limits.clone());
                        serving::Serving::new(router, fanout, rules, &limits, wire_limits, intake, counters)
                            .run(stopped)
                            .await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
                finished.send_replace(true);
            }
        };
        drop(thread.run(serving));
        let endpoint = match bound.await {
            Ok(Ok(endpoint)) => endpoint,
            Ok(Err(error)) => return Err(SetupError::io(what, error)),
            Err(_) => return Err(SetupError::new(SetupErrorKind::Other, what, "its IO thread ended")),
        };
        tracing::debug!(endpoint, "publisher bound");
        Ok(Publisher(Arc::new(Inner {
            endpoint,
            backlog,
            counters,
            largest,
            drain,
            stop,
            done,
            _thread: thread,
        })))
    }
}
