//! Where bytes move: IO threads, the sockets of the `zeromq` crate, and the gate in front of each of them.
//!
//! This module decides nothing about calls, records or events; it delivers messages to and from numbered connections. It is the only place that names
//! the `zeromq` crate, and works around what that crate does not do:
//!
//! ```text
//!  stranger <--TCP, ipc--> gate: handshake, limits, accounts <--private Unix socket--> crate's ROUTER <--> Router, or many Dealers
//! ```
//!
//! - Everything of one socket happens on one [`IoThread`]: off a single thread the crate's ROUTER can deadlock.
//! - A stranger never speaks to the crate: the gate ends the handshake, numbers the connection and checks every frame's length, since the crate trusts
//!   lengths and identities. That holds for what dials too: a hostile server could end the client's process otherwise.
//! - A send never waits. What one connection may have outstanding is bounded in bytes, and one that takes no more is closed.
//!
//! What it costs: three file descriptors a connection, a copy through a Unix socket, and memory (docs/performance.md). The crate's two buffers of a
//! connection stay as large as its largest message made them, so what it is given at once and what it reads at once are kept small.

mod backlog;
mod branch;
mod budget;
mod close;
mod dealer;
mod descriptors;
mod endpoint;
mod exchange;
mod gate;
mod held;
mod hub;
mod inner;
mod link;
mod local;
mod outage;
mod places;
mod relay;
mod router;
pub(crate) mod spin;
mod stream;
mod thread;
mod throttle;
#[cfg(feature = "tls")]
mod tls;
mod turns;

pub use close::CloseReason;
pub use dealer::{Dealer, DealerEvent, DealerOptions, DialError};
pub use endpoint::{Endpoint, EndpointError};
pub use link::SendError;
pub use local::{Dialling, Link, LocalLink, LocalPort, Port, local};
pub use outage::Outage;
pub use router::{Router, RouterEvent, RouterOptions};
pub use spin::{Request as SpinRequest, Spin, request as request_spin};
pub use stream::{Network, Peer, PeerAddress};
pub use thread::IoThread;
#[cfg(feature = "tls")]
pub use tls::{Acceptor, Connector, TlsError, TlsSetupError};
