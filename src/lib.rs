//! Brokerless typed messaging between services, in which a retry is safe.
//!
//! A Cap'n Proto schema is the contract between two services. It compiles to a trait for the server, a client, and events, over plain ZeroMQ sockets.
//! Every call carries a nonce: however often it is sent, it has one effect, and every attempt gets the selfsame reply.
//!
//! - **Calls** wait for a server that is down, are retried within their deadline and a budget, and say of every failure whether they ran
//!   ([`Outcome`]).
//! - **Handlers** call further services [`within`](Call::within) their request; when a handler runs again, the effects below it do not.
//! - **Events** are published under topics and keys and filtered at the source; what is lost is a value ([`Event::Gap`]).
//! - **Nothing a peer sends** can make the process panic, hang or swell: what arrives is checked before it is believed, and every table and
//!   queue has a bound.
//!
//! # Example
//!
//! With the contract of `schemas/examples/account.capnp`:
//!
//! ```
//! # mod api { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/contracts/mod.rs")); }
//! # use api::account::account::{ChangePassword, Version};
//! # use api::account::{Account, AccountClient, AccountServer};
//! use selfsame::{Answer, Request, Server};
//! use std::time::Duration;
//!
//! struct Vault;
//!
//! impl Account for Vault {
//!     async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
//!         let user = request.read(|p| Ok(p.get_user()?.to_string()?))?; // readers never cross an await
//!         if user == "nobody" {
//!             return Err(request.decline(|mut fault| fault.set_user(&*user))); // the contract's typed no
//!         }
//!         request.reply(|mut reply| reply.set_version(7))
//!     }
//! #   async fn version(&self, request: Request<Version>) -> Answer<Version> { request.reply(|mut r| r.set_version(7)) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("tcp://127.0.0.1:0").await?.service(AccountServer::new(Vault));
//! let endpoint = server.endpoint().to_string();
//! tokio::spawn(server.serve_until(tokio::signal::ctrl_c()));
//!
//! let account = AccountClient::connect(&endpoint).await?; // succeeds although nobody listens yet
//! let reply = account.change_password(|mut p| p.set_user("ann")).deadline(Duration::from_secs(2)).await?;
//! assert_eq!(reply.get()?.get_version(), 7);
//! # Ok(()) }
//! ```
//!
//! # A call's way
//!
//! ```text
//!   AccountClient ── Call ──▶ Channel ──▶ protocol::call ──▶ protocol::wire ──▶ io ═══ gate ═══▶ the network
//!                                         what is sent when,    entries to        sockets on IO threads,
//!                                         and sent again        frames            every frame checked
//!
//!   the network ═══ gate ═══▶ io ──▶ protocol::wire ──▶ protocol::dedup ──▶ AccountServer ──▶ your handler
//!                                                       run, join, replay     in your runtime
//!                                                       or refuse;
//!                                                       protocol::replica ──▶ the store: intent before handler,
//!                                                                             answer before reply
//! ```
//!
//! The machines in `protocol` decide and know neither sockets nor clocks; the shells around them move bytes. `docs/wire.md` has the protocol to the byte,
//! `docs/guarantees.md` what exactly holds at each level, `docs/design.md` why, `docs/testing.md` who tries to break it.
//!
//! # Map
//!
//! | to | see |
//! | --- | --- |
//! | compile contracts | the crate `selfsame-build`, and [`include_contracts!`] |
//! | call | [`Channel`], [`Call`], [`Message`], [`Error`], [`Nonce`] |
//! | know whether the server is there | [`Channel::ready`], [`Channel::is_connected`] |
//! | serve | [`Server`], [`Request`], [`Context`], [`Fault`] |
//! | choose what a retry survives | [`Store`], and `Context::transaction` of the atomic one |
//! | resume a call after a crash of its client | [`Call::to_bytes`], [`Call::from_bytes`], [`Nonce::keyed`] |
//! | bound what strangers may do | [`Gate`], [`GateCounters`] |
//! | publish and subscribe | [`Publisher`], [`Subscriber`], [`Subscription`] |
//! | encrypt, and know who calls | `ServerTls`, `ClientTls` (feature `tls`), [`Principal`], [`Server::allow`], [`PublisherBuilder::allow`] |
//! | write code for any contract | [`Method`], [`Topic`], [`Service`], [`Raised`], and the types of [`capnp`] |
//! | test without sockets | [`Channel::local`], [`Request::test`], [`Principal::named`] |
//!
//! # Levels and features
//!
//! Where a server keeps the records of its calls decides what a retry survives. It is one line, [`ServerBuilder::store`]; clients need none.
//!
//! | level | made by | feature | a retry is answered after the loss of |
//! | --- | --- | --- | --- |
//! | memory | [`Store::memory`], the default | | messages, connections, the client |
//! | durable | `Store::durable` | `redb` | and the server's process and machine |
//! | shared | `Store::shared` | `postgres` | and of a replica: any other one answers |
//! | atomic | `Store::atomic` | `postgres` | the same, and what the handler writes in its transaction happens exactly once |
//!
//! `tls` adds `tls://` endpoints (`docs/security.md`). No feature is on by default. `sabotage` is for this library's own tests, and never for a service.
//!
//! # Runtimes and threads
//!
//! Sockets live on threads of the library: one for each [`Server`] and [`Publisher`], one that all channels and subscribers of the process share. A store
//! other than the memory one has a thread too. Handlers
//! run in the tokio runtime in which `serve` is awaited. Each is polled once on the IO thread first, which spares short ones a change of
//! threads; methods whose first poll takes long are spawned, and tried again now and then. So block in a handler no more than in any async code.

// Generated code says `::selfsame::codegen`, also within this crate.
extern crate self as selfsame;

mod call;
mod client;
#[doc(hidden)]
pub mod codegen;
mod derived;
mod error;
mod gate;
mod generated;
#[doc(hidden)]
pub mod io;
mod message;
mod metadata;
mod nonce;
mod principal;
#[doc(hidden)]
pub mod protocol;
mod publisher;
mod random;
mod request;
#[doc(hidden)]
pub mod sabotage;
mod server;
#[doc(hidden)]
pub mod store;
mod subscriber;
mod sync;
#[cfg(feature = "tls")]
mod tls;
mod trace;

pub use call::Call;
/// The Cap'n Proto library of the generated code. A function that reads or fills a part of a message names its types:
/// `fn fill(line: line::Builder<'_>) -> selfsame::capnp::Result<()>`.
pub use capnp;
pub use client::{Channel, ChannelBuilder, ChannelCounters};
pub use codegen::{Method, Raised, Service, Topic};
pub use error::{Error, Fault, FaultKind, Kind, Outcome, Refusal, SetupError, SetupErrorKind, Untyped};
pub use gate::Gate;
pub use io::Spin;
pub use message::{Filled, Message};
pub use metadata::Metadata;
pub use nonce::{DEFAULT_VALIDITY, Nonce, ParseNonceError};
pub use principal::Principal;
pub use protocol::gate::GateCounters;
pub use publisher::{
    Policy, Publish, PublishError, Publisher, PublisherBuilder, PublisherCounters, TopicPublisher,
};
pub use request::{Answer, Context, Reply, Request, TestContext};
pub use server::{Server, ServerBuilder, ServerCounters, ServerHandle};
pub use store::Store;
#[cfg(feature = "postgres")]
pub use store::postgres::{Transaction, TransactionError};
pub use subscriber::{
    Event, EventError, Subscribe, Subscriber, SubscriberBuilder, SubscriberCounters, Subscription,
    SubscriptionCounters,
};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsCounters};
/// The client of PostgreSQL with whose types a [`Transaction`] is worked with.
#[cfg(feature = "postgres")]
pub use tokio_postgres as postgres;
