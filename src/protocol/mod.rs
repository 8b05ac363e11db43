//! The machines that decide: bytes and time in, actions out.
//!
//! Nothing here sleeps, sends, reads a clock or rolls dice; the shells in `io`, `client` and `server` do, and hand the results in.
//! So all of it runs under a seeded simulation, and what must be proven is proven without a socket.

pub mod call;
pub mod dedup;
pub mod fanout;
#[cfg(feature = "sabotage")]
mod fingerprint;
pub mod gate;
pub mod prefixes;
pub mod recent;
mod refusal;
pub mod replica;
pub mod retry;
pub mod sequence;
pub mod store;
#[cfg(test)]
mod tests;
pub mod wire;
pub mod zmtp;

use std::fmt;
use std::time::Duration;

pub use refusal::Refusal;

/// A moment on the monotonic clock of one process: the time since an origin that its shell chose.
pub type Moment = Duration;

/// Milliseconds since the Unix epoch by somebody's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:0", $digits, "x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }
    };
}

id!(
    /// A client's life, chosen at random by the client. For logs; identity is the [`Registration`].
    Session, u128, "32");
id!(
    /// What a server (or a shared store) minted for one session, at random, never reused. Zero is none.
    Registration, u128, "32");
id!(
    /// One life of a server process.
    Incarnation, u64, "16");
id!(
    /// Unique to one welcome.
    Stamp, u64, "16");
id!(
    /// A connection as its gate numbers it, from 1, never reused in a process.
    ConnectionId, u64, "1");

/// Who a peer is, as records know it: a hash of the name that its connection proved, the same in every process and store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalId(pub u64);

impl PrincipalId {
    /// All who proved nothing. A keyed call is found again by a client that comes back under a new session.
    pub const ANYONE: PrincipalId = PrincipalId(0);
}

/// The nonce as the wire knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallId {
    /// A number of a registration, from 1.
    Sequenced(u64),
    /// A key of 128 bits that outlives sessions.
    Keyed(Key),
}

/// A keyed nonce: its key, and when it was minted and stops being valid. The times are fixed when it is minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// 128 bits of a hash.
    pub key: u128,
    /// By the clock of whoever minted it.
    pub issued: WallTime,
    /// From then on it is refused.
    pub expiry: WallTime,
}

/// What a method promises to its callers about being called again. The contract's `$Selfsame.retry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Retried under the same nonce; the server keeps a record: one effect.
    #[default]
    Once,
    /// Running it twice is the same as running it once: retried freely, no record.
    Idempotent,
    /// Has no effect: retried freely, no record.
    ReadOnly,
    /// Sent once and never again.
    Never,
}

/// What a store survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Lives and dies with the process.
    #[default]
    Memory,
    /// A file: survives the process.
    Durable,
    /// A database that the replicas of a service share.
    Shared,
    /// As shared, and effect and record commit together.
    Atomic,
}

impl Level {
    /// Whether several servers, the replicas of a service, may have one store at once.
    pub fn is_shared(self) -> bool {
        matches!(self, Level::Shared | Level::Atomic)
    }
}

/// Did the call execute?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No, and it never will.
    No,
    /// Yes: once, if its method is `once` or `never`; at least once, if it may be sent freely.
    Yes,
    /// That cannot be known from here. A call that was made under a keyed nonce can be made again under it, and is still one call; of any other, look at the state that
    /// it should have changed.
    Unknown,
}
