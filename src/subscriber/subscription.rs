//! A stream of events: what is read from it, and what can be wrong with one.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::feed::Feed;
use super::inbox::Item;
use super::{Subscriber, SubscriptionCounters};
use crate::codegen::Topic;
use crate::message::Message;

/// What a subscription is told.
#[non_exhaustive]
pub enum Event<T> {
    /// An event.
    Message(Message<T>),
    /// Events were lost: dropped at the publisher or here because nobody took them, or published while there was no connection.
    Gap {
        /// Of this key. None: the topic has no key, or the events were of many keys.
        key: Option<String>,
        /// So many.
        missed: u64,
    },
    /// A publisher is another process than before. Its numbers begin afresh, so how many events were lost between the two is not known.
    Restarted {
        /// Its endpoint.
        publisher: Arc<str>,
    },
    /// The connection to a publisher is lost. What it publishes is missed until it is reached again.
    Disconnected {
        /// Its endpoint.
        publisher: Arc<str>,
    },
    /// A publisher was reached again, and has confirmed the subscription. What was missed meanwhile has been told, or follows now.
    Reconnected {
        /// Its endpoint.
        publisher: Arc<str>,
    },
}

/// What came cannot be given to the program, or nothing will come. The stream goes on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It is of another type: the publisher's contract has another struct for this topic.
    #[error(
        "an event of {topic} from {publisher} is a struct {found:#018x}, this program expects {expected:#018x}"
    )]
    WrongType {
        /// The topic, `/`, and the key.
        topic: String,
        /// The endpoint that it came from.
        publisher: Arc<str>,
        /// The type id that this program's contract has.
        expected: u64,
        /// The type id that the event has.
        found: u64,
    },
    /// A publisher does not let this subscriber read the topic: nothing of it comes from there. The subscription stays, for other publishers, and asks again
    /// on the next connection.
    #[error("{publisher} does not allow this subscriber to read {topic}")]
    Denied {
        /// The topic's name.
        topic: &'static str,
        /// The endpoint of the publisher.
        publisher: Arc<str>,
    },
    /// It cannot be decoded.
    #[error("an event of {topic} from {publisher} cannot be read: {why}")]
    Malformed {
        /// The topic, `/`, and the key.
        topic: String,
        /// The endpoint that it came from.
        publisher: Arc<str>,
        /// What is wrong.
        why: String,
    },
}

/// A stream of events of one topic. Dropping it ends the subscription.
///
/// Events of one publisher and key come in the order in which they were published, each once at most; what is missing is told before the
/// next one that comes.
pub struct Subscription<T> {
    subscriber: Subscriber,
    feed: Arc<Feed>,
    /// Out of the inbox, and not given out yet.
    taken: VecDeque<Item>,
    of: PhantomData<fn() -> T>,
}

impl<T> Subscription<T> {
    pub(super) fn new(subscriber: Subscriber, feed: Arc<Feed>) -> Self {
        Subscription { subscriber, feed, taken: VecDeque::new(), of: PhantomData }
    }

    /// What it got so far.
    pub fn counters(&self) -> SubscriptionCounters {
        self.feed.counters()
    }
}

impl<T: Topic> Subscription<T> {
    /// The next thing to know. `None` once the subscriber was [closed](Subscriber::close) and all is read. Nothing is lost if the future is
    /// dropped.
    ///
    /// # Errors
    /// If an event came that cannot be read, or a publisher denies the topic. The stream goes on.
    pub async fn next(&mut self) -> Option<Result<Event<T>, EventError>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event<T>, EventError>>> {
        if self.taken.is_empty() {
            ready!(self.feed.poll(cx, &mut self.taken));
        }
        Poll::Ready(self.taken.pop_front().map(event))
    }
}

impl<T: Topic> Stream for Subscription<T> {
    type Item = Result<Event<T>, EventError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.subscriber.0.board.remove_feed(self.feed.id);
        self.subscriber.look();
    }
}

fn event<T: Topic>(item: Item) -> Result<Event<T>, EventError> {
    match item {
        Item::Event { topic, type_id, endpoint, .. } if type_id != T::TYPE_ID => Err(EventError::WrongType {
            topic: printable(&topic),
            publisher: endpoint,
            expected: T::TYPE_ID,
            found: type_id,
        }),
        Item::Event { topic, body, endpoint, .. } => {
            Message::from_bytes(body).map(Event::Message).map_err(|error| EventError::Malformed {
                topic: printable(&topic),
                publisher: endpoint,
                why: error.to_string(),
            })
        }
        Item::Malformed { topic, endpoint, why } => {
            Err(EventError::Malformed { topic: printable(&topic), publisher: endpoint, why: why.to_string() })
        }
        Item::Gap { topic, missed } => {
            let key = topic.map(|topic| printable(topic.get(T::NAME.len() + 1..).unwrap_or_default()));
            Ok(Event::Gap { key: key.filter(|key| !key.is_empty()), missed })
        }
        Item::Denied(publisher) => Err(EventError::Denied { topic: T::NAME, publisher }),
        Item::Restarted(publisher) => Ok(Event::Restarted { publisher }),
        Item::Disconnected(publisher) => Ok(Event::Disconnected { publisher }),
        Item::Reconnected(publisher) => Ok(Event::Reconnected { publisher }),
    }
}

/// Keys are text, but what comes from a network may be anything.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        match self {
            Event::Message(message) => Event::Message(message.clone()),
            Event::Gap { key, missed } => Event::Gap { key: key.clone(), missed: *missed },
            Event::Restarted { publisher } => Event::Restarted { publisher: publisher.clone() },
            Event::Disconnected { publisher } => Event::Disconnected { publisher: publisher.clone() },
            Event::Reconnected { publisher } => Event::Reconnected { publisher: publisher.clone() },
        }
    }
}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Message(message) => f.debug_tuple("Message").field(message).finish(),
            Event::Gap { key, missed } => {
                f.debug_struct("Gap").field("key", key).field("missed", missed).finish()
            }
            Event::Restarted { publisher } => write!(f, "Restarted({publisher})"),
            Event::Disconnected { publisher } => write!(f, "Disconnected({publisher})"),
            Event::Reconnected { publisher } => write!(f, "Reconnected({publisher})"),
        }
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({}, {:?})", self.feed.topic, self.counters())
    }
}
