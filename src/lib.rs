//! Brokerless typed messaging.

// Generated code says `::selfsame::codegen`, also within this crate.
extern crate self as selfsame;

mod call;
mod client;
#[doc(hidden)]
pub mod codegen;
mod error;
mod generated;
#[doc(hidden)]
pub mod io;
mod message;
mod metadata;
mod nonce;
#[doc(hidden)]
pub mod protocol;
mod publisher;
mod random;
mod request;
mod server;
mod subscriber;
mod trace;

pub use call::Call;
pub use client::{Channel, ChannelBuilder, ChannelCounters};
pub use error::{Error, Fault, Kind, Outcome, Refusal, SetupError, Untyped};
pub use message::{Filled, Message};
pub use metadata::Metadata;
pub use nonce::{DEFAULT_VALIDITY, Nonce, ParseNonceError};
pub use publisher::{
    Policy, Publish, PublishError, Publisher, PublisherBuilder, PublisherCounters, TopicPublisher,
};
pub use request::{Answer, Context, Reply, Request};
pub use server::{Counters, Server, ServerBuilder, ServerCounters};
pub use subscriber::{
    Event, EventError, Subscribe, Subscriber, SubscriberBuilder, SubscriberCounters, Subscription,
    SubscriptionCounters, TopicKey,
};
