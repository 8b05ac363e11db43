//! The way of one event to the publisher's thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Publisher;
use super::room::Closed;
use crate::protocol::fanout::Published;

/// Why an event was not published. Nobody got it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The closure that filled it failed, or its key cannot be read.
    #[error("an event of {topic} could not be built: {why}")]
    Build {
        /// The topic's name.
        topic: &'static str,
        /// What Cap'n Proto says.
        why: String,
    },
    /// The topic's name begins with `selfsame`, or contains `/`: the generator refuses such names.
    #[error("{topic} cannot be the name of a topic: {why}")]
    Topic {
        /// The topic's name.
        topic: &'static str,
        /// Which of both, and what to do.
        why: &'static str,
    },
    /// Topic and key are too long.
    #[error("topic and key of an event of {topic} take {length} bytes, the limit is {limit}")]
    KeyTooLong {
        /// The topic's name.
        topic: &'static str,
        /// Of the topic frame, in bytes.
        length: usize,
        /// As much is allowed.
        limit: usize,
    },
    /// No subscriber's queue could ever hold it. See [`PublisherBuilder::queue`](super::PublisherBuilder::queue).
    #[error("an event of {topic} takes {length} bytes, the limit is {limit}")]
    TooLarge {
        /// The topic's name.
        topic: &'static str,
        /// What the event takes in a queue, in bytes.
        length: usize,
        /// As much is allowed.
        limit: usize,
    },
    /// The publisher was shut down.
    #[error("the publisher was shut down")]
    Closed,
}

/// Publishes one event when it is awaited.
///
/// A future that is dropped before it resolved has not published its event.
#[must_use = "an event is published when this is awaited"]
pub struct Publish(State);

enum State {
    Ready(Publisher, Published),
    Failed(PublishError),
    /// The queue is full: whoever comes first gets its room first.
    Waiting(Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>),
    Done,
}

impl Publish {
    pub(super) fn new(publisher: Publisher, event: Result<Published, PublishError>) -> Self {
        Publish(match event {
            Ok(event) => State::Ready(publisher, event),
            Err(error) => State::Failed(error),
        })
    }
}

impl Future for Publish {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Waiting(waiting) = &mut self.0 {
            return waiting.as_mut().poll(cx);
        }
        match std::mem::replace(&mut self.0, State::Done) {
            State::Failed(error) => Poll::Ready(Err(error)),
            State::Done | State::Waiting(_) => panic!("a future was polled after it had resolved"),
            State::Ready(publisher, event) => {
                let cost = event.cost() as u32;
                match publisher.0.backlog.try_push(event, cost) {
                    Ok(None) => Poll::Ready(Ok(())),
                    Err(Closed) => Poll::Ready(Err(PublishError::Closed)),
                    Ok(Some(event)) => {
                        let mut waiting = Box::pin(wait(publisher, event));
                        let polled = waiting.as_mut().poll(cx);
                        self.0 = State::Waiting(waiting);
                        polled
                    }
                }
            }
        }
    }
}

async fn wait(publisher: Publisher, event: Published) -> Result<(), PublishError> {
    let cost = event.cost() as u32;
    publisher.0.backlog.push(event, cost).await.map_err(|Closed| PublishError::Closed)
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            State::Ready(..) => "Publish(ready)",
            State::Failed(_) => "Publish(failed)",
            State::Waiting(_) => "Publish(waiting)",
            State::Done => "Publish(done)",
        })
    }
}
