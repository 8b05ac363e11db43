//! Why a connection ended, and which counter that is.

use std::fmt;
use std::io;

use crate::protocol::gate::GateCounters;
use crate::protocol::zmtp::Violation;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The stranger ended it in an orderly way.
    Peer,
    /// It broke.
    Broken(io::ErrorKind),
    /// The stranger broke the protocol or a limit.
    Violation(Violation),
    /// The stranger sent more commands than it may.
    Commands,
    /// Unfinished messages took too much memory, and the stranger's weighed most.
    Unfinished,
    /// The buffers that long messages have left behind took too much memory, and this connection's weighed most.
    Buffers,
    /// No whole message came in time after the handshake.
    NoMessage,
    /// The stranger did not take what it was sent: too much was outstanding, or nothing moved for too long.
    TooSlow,
    /// It said nothing for longer than it was allowed to.
    Idle,
    /// The owner of the socket closed it, or dropped what it had dialled.
    Requested,
    /// The socket itself was drained or dropped.
    Released,
    /// It was one of the last of very many that came through the same socket of the crate, which is given up; it may come again at once.
    Renewed,
}

impl CloseReason {
    /// Whether it was the stranger's doing, and not in order.
    pub(super) fn is_fault(self) -> bool {
        !matches!(
            self,
            CloseReason::Peer
                | CloseReason::Broken(_)
                | CloseReason::Requested
                | CloseReason::Released
                | CloseReason::Renewed
        )
    }

    /// Whether the stranger still gets what it was sent before.
    pub(super) fn is_graceful(self) -> bool {
        use CloseReason::{Idle, Released, Renewed, Requested};
        matches!(self, Requested | Released | Renewed | Idle)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Peer => f.write_str("the peer ended the connection"),
            CloseReason::Broken(kind) => write!(f, "the connection broke: {kind}"),
            CloseReason::Violation(violation) => write!(f, "the peer sent {violation}"),
            CloseReason::Commands => f.write_str("the peer sent more commands than it may"),
            CloseReason::Unfinished => {
                f.write_str("unfinished messages took too much memory, and the peer's weighed most")
            }
            CloseReason::Buffers => f.write_str(
                "the buffers that long messages have left behind took too much memory, and this connection's weighed most",
            ),
            CloseReason::NoMessage => f.write_str("the peer shook hands and then sent no message in time"),
            CloseReason::TooSlow => f.write_str("the peer does not take what it is sent"),
            CloseReason::Idle => f.write_str("the peer said nothing for too long"),
            CloseReason::Requested => f.write_str("closed on this side"),
            CloseReason::Released => f.write_str("the socket was closed on this side"),
            CloseReason::Renewed => {
                f.write_str("it was one of the last of very many that came through one inner socket, which is given up")
            }
        }
    }
}

/// Counts an end under its reason. What this side wanted is not counted.
pub(super) fn count_end(counters: &mut GateCounters, reason: CloseReason) {
    *match reason {
        CloseReason::Peer => &mut counters.ended_by_peer,
        CloseReason::Broken(_) => &mut counters.broken,
        CloseReason::Violation(Violation::Flags) => &mut counters.bad_flags,
        CloseReason::Violation(Violation::Frame) => &mut counters.frames_too_long,
        CloseReason::Violation(Violation::Frames) => &mut counters.too_many_frames,
        CloseReason::Violation(Violation::Message) => &mut counters.messages_too_long,
        CloseReason::Violation(Violation::Command) => &mut counters.bad_commands,
        CloseReason::Commands => &mut counters.too_many_commands,
        CloseReason::Unfinished => &mut counters.unfinished,
        CloseReason::Buffers => &mut counters.buffers,
        CloseReason::NoMessage => &mut counters.no_first_message,
        CloseReason::TooSlow => &mut counters.too_slow,
        CloseReason::Idle => &mut counters.idle,
        CloseReason::Renewed => &mut counters.renewed,
        CloseReason::Requested | CloseReason::Released => return,
    } += 1;
}
