//! What the machine may hold, and for how long. Not what a connection or a message may do: that is the gate's and the wire's.

use std::time::Duration;

/// The bounds of the deduplication machine.
///
/// At a bound the server sheds (`Overloaded`) and forgets nothing: shedding a call is always safe, forgetting one never is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all. Default 65,536: an idle one costs some 300 bytes, so 20 MiB. At the bound a new client's hello is refused;
    /// known ones resume.
    pub sessions: usize,
    /// Calls of a session that run or whose replies it has not acknowledged yet. Default 1,024: 100,000 calls a second of 10 ms
    /// each. The welcome tells it, so an honest client waits by itself; others are shed.
    pub window: u32,
    /// Records of sequenced calls in all. Default 262,144: 256 full windows, and at some 250 bytes without their bodies 64 MiB.
    pub records: usize,
    /// Bytes of replies kept for one session. Default 16 MiB: a full window of 16 KiB replies. Its further calls are shed until it
    /// acknowledges; replies of calls that were let in before may go over the bound by a quarter, beyond that they leave tombstones.
    pub session_bytes: usize,
    /// Bytes of replies kept for all sessions. Default 256 MiB. As `session_bytes`, for all.
    pub bytes: usize,
    /// The largest reply that is kept, in bytes. Default 1 MiB. A larger one is sent once, and if that is lost a retry gets
    /// `ReplyEvicted`: it ran, and its reply is gone.
    pub reply_bytes: usize,
    /// Attempts that may wait for one running call. Default 16: thrice what a client makes. Further ones get `InProgress`.
    pub joins: usize,
    /// How long an idle session is kept. Default 15 minutes: a client waits seconds for a reply, and minutes cover a paused virtual
    /// machine. A client that comes back later gets `Unknown` for what it had sent.
    pub retention: Duration,
    /// How long a session is kept under which no call has come. Default 1 minute, so that strangers who only say hello do not fill
    /// the table. Nobody loses anything when such a session goes, unless its first call takes that long to arrive.
    pub unused_retention: Duration,
    /// Records of keyed calls in all. Default 1,048,576: they stay until they expire, whatever is acknowledged, and cost some 300
    /// bytes each without their bodies. At the bound keyed calls that need a record are shed
    /// until the oldest expire.
    pub keyed: usize,
    /// Bytes of replies kept for keyed calls. Default 256 MiB; apart from `bytes`, so that what has to stay for a day cannot crowd out
    /// what is acknowledged in milliseconds.
    pub keyed_bytes: usize,
    /// How far ahead the expiry of a keyed call may lie. Default 7 days: a week-end and then some. Beyond it the call is refused as
    /// `TooLarge`: its record would have to be kept that long.
    pub keyed_validity: Duration,
    /// By how much the wall clock of a client or of this server may be wrong. Default 500 ms: NTP keeps hosts within a tenth of that. A
    /// keyed nonce that was minted earlier than twice this after the store's birth is refused, so that long no keyed call is taken
    /// after a store began. Clocks that are further off may cost the promise for keyed calls that meet a store's loss.
    pub clock_error: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 65_536,
            window: 1_024,
            records: 262_144,
            session_bytes: 16 << 20,
            bytes: 256 << 20,
            reply_bytes: 1 << 20,
            joins: 16,
            retention: Duration::from_secs(15 * 60),
            unused_retention: Duration::from_secs(60),
            keyed: 1 << 20,
            keyed_bytes: 256 << 20,
            keyed_validity: Duration::from_secs(7 * 24 * 60 * 60),
            clock_error: Duration::from_millis(500),
        }
    }
}
