//! ZMTP 3.0 as far as a gate needs it: the [`Handshake`] with a stranger, the [`Inspector`] of what follows from it, and what goes [`Outward`].
//!
//! All take bytes as they come, in any pieces, and hand out verdicts. None reads a socket, knows a clock or keeps a message's body: the gate
//! in `io` moves the bytes, and the socket crate behind it decodes them. There is no security mechanism other than NULL.
//!
//! The protocol is ZeroMQ's RFC 23 (ZMTP 3.0). We greet as 3.0, so a peer that speaks 3.1 subscribes by messages, not by commands.

mod handshake;
mod inspector;
mod outward;

pub use handshake::{Handshake, Refused};
pub use inspector::{Command, Context, Inspected, Inspector, Limits, Violation, pong};
pub use outward::{Cut, Outward};

use std::fmt;

/// The socket types that RFC 23 and its successors for other patterns name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it
pub enum SocketType {
    Pair,
    Pub,
    Sub,
    Req,
    Rep,
    Dealer,
    Router,
    Pull,
    Push,
    Xpub,
    Xsub,
}

impl SocketType {
    const ALL: [SocketType; 11] = [
        SocketType::Pair,
        SocketType::Pub,
        SocketType::Sub,
        SocketType::Req,
        SocketType::Rep,
        SocketType::Dealer,
        SocketType::Router,
        SocketType::Pull,
        SocketType::Push,
        SocketType::Xpub,
        SocketType::Xsub,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            SocketType::Pair => "PAIR",
            SocketType::Pub => "PUB",
            SocketType::Sub => "SUB",
            SocketType::Req => "REQ",
            SocketType::Rep => "REP",
            SocketType::Dealer => "DEALER",
            SocketType::Router => "ROUTER",
            SocketType::Pull => "PULL",
            SocketType::Push => "PUSH",
            SocketType::Xpub => "XPUB",
            SocketType::Xsub => "XSUB",
        }
    }

    /// The type that is called `name` on the wire, in exactly this spelling.
    pub fn from_name(name: &[u8]) -> Option<SocketType> {
        SocketType::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether a socket of ours that shows this type talks to a peer of type `peer`. Narrower than RFC 23: a client of ours wants a ROUTER, not a REP,
    /// and only four types are ever shown.
    pub const fn accepts(self, peer: SocketType) -> bool {
        matches!(
            (self, peer),
            (SocketType::Router, SocketType::Dealer | SocketType::Req)
                | (SocketType::Dealer, SocketType::Router)
                | (SocketType::Pub, SocketType::Sub | SocketType::Xsub)
                | (SocketType::Sub, SocketType::Pub | SocketType::Xpub)
        )
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
