//! Making a subscription: which keys, how much may wait, how long to try.

use std::collections::HashSet;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::{Subscriber, Subscription};
use crate::codegen::Topic;
use crate::error::{SetupError, SetupErrorKind};
use crate::protocol::fanout::unfit;
use crate::protocol::sequence::TOPIC_LIMIT;

/// A subscription to be made: await it. See [`Subscriber::subscribe`].
#[must_use = "nothing is subscribed to before this is awaited"]
pub struct Subscribe<T> {
    subscriber: Subscriber,
    keys: Option<HashSet<Bytes>>,
    queue: usize,
    deadline: Duration,
    of: PhantomData<fn() -> T>,
}

impl<T: Topic> Subscribe<T> {
    pub(super) fn new(subscriber: Subscriber) -> Self {
        Subscribe {
            subscriber,
            keys: None,
            queue: 4 * 1024 * 1024,
            deadline: Duration::from_secs(5),
            of: PhantomData,
        }
    }

    /// Only events with this key, or with another one given likewise. The publisher filters, so nothing else crosses the network, but for
    /// keys of which this one is the beginning. Default: all keys.
    ///
    /// It is of the type of the contract's `$Selfsame.key` field: a `&str`, an integer, a `bool` or the enum.
    ///
    /// ```no_run
    /// # mod api { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/crates/selfsame-build/tests/golden/event.rs")); }
    /// # use api::event::{Painted, Sold, painted::Colour};
    /// # async fn subscribe(subscriber: selfsame::Subscriber) -> Result<(), selfsame::SetupError> {
    /// let sold = subscriber.subscribe::<Sold>().key("book").key("lamp").await?;
    /// let painted = subscriber.subscribe::<Painted>().key(Colour::Red).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The events of a topic without a key cannot be filtered, and what would match nothing is not compiled:
    ///
    /// ```compile_fail,E0308
    /// # mod api { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/crates/selfsame-build/tests/golden/event.rs")); }
    /// # use api::event::Opened;
    /// # fn subscribe(subscriber: selfsame::Subscriber) {
    /// let opened = subscriber.subscribe::<Opened>().key("door");
    /// # }
    /// ```
    /// ```compile_fail,E0308
    /// # mod api { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/crates/selfsame-build/tests/golden/event.rs")); }
    /// # use api::event::Painted;
    /// # fn subscribe(subscriber: selfsame::Subscriber) {
    /// let painted = subscriber.subscribe::<Painted>().key("red");
    /// # }
    /// ```
    ///
    /// A publisher takes 1,024 keys from one subscriber, unless it is told otherwise; one that asks for more is disconnected.
    pub fn key(mut self, key: T::Key<'_>) -> Self {
        self.keys.get_or_insert_default().insert(T::key_bytes(key).into());
        self
    }

    /// Bytes of events that may wait to be read. Default 4 MiB, some ten thousand small events: a reader may stop for a moment. When it is full
    /// the oldest events are dropped, and told as gaps.
    pub fn queue(mut self, bytes: usize) -> Self {
        self.queue = bytes;
        self
    }

    /// How long to wait for the publishers to confirm. Default 5 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn stands(self) -> Result<Subscription<T>, SetupError> {
        let Subscribe { subscriber, keys, queue, deadline, .. } = self;
        let cannot = |kind, why: &str| SetupError::new(kind, format!("subscribe to {}", T::NAME), why);
        if let Some(why) = unfit(T::NAME) {
            return Err(cannot(SetupErrorKind::Other, why));
        }
        let longest = keys.iter().flatten().map(Bytes::len).max().unwrap_or(0);
        if T::NAME.len() + 1 + longest > TOPIC_LIMIT {
            let why = format!("topic and key take more than {TOPIC_LIMIT} bytes");
            return Err(cannot(SetupErrorKind::Other, &why));
        }
        let board = subscriber.0.board.clone();
        let feed = board.add_feed(T::NAME, keys, queue);
        // Made at once, so that it is taken back if this future is dropped.
        let subscription = Subscription::new(subscriber.clone(), feed.clone());
        subscriber.look();
        match tokio::time::timeout(deadline, board.stands(feed.id)).await {
            Ok(true) => {
                tracing::debug!(topic = T::NAME, "the subscription stands");
                Ok(subscription)
            }
            Ok(false) => {
                let why = "the publisher does not allow this subscriber to read that topic";
                Err(cannot(SetupErrorKind::Denied, why))
            }
            Err(_) => {
                let (up, places) = board.places();
                let mut why =
                    format!("not confirmed within {deadline:?}; of {places} publishers {up} can be reached");
                for outage in board.outages() {
                    why = format!("{why}; {outage}");
                }
                Err(cannot(SetupErrorKind::Unconfirmed, &why))
            }
        }
    }
}

impl<T: Topic> fmt::Debug for Subscribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscribe({}, {} keys)", T::NAME, self.keys.as_ref().map_or(0, HashSet::len))
    }
}

impl<T: Topic + 'static> IntoFuture for Subscribe<T> {
    type Output = Result<Subscription<T>, SetupError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Subscribes, and resolves when the subscription stands: when every publisher that can be reached has confirmed it, and one at least.
    /// Whatever is published from then on arrives or is told as a gap. A publisher that cannot be reached is subscribed to as soon as it can
    /// be. Needs a tokio runtime with time.
    ///
    /// Fails as [`Unconfirmed`](SetupErrorKind::Unconfirmed) if the deadline passes first, which is worth another try where a publisher may start later than its
    /// subscribers; as [`Denied`](SetupErrorKind::Denied) if the publishers do not allow it; and as [`Other`](SetupErrorKind::Other) if the topic or a key is none
    /// that could be published.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.stands())
    }
}
