//! The bounds of a publisher, and its counters.

use std::fmt;
use std::time::Duration;

use crate::protocol::gate::GateCounters;
use crate::protocol::sequence::DEFAULT_KEYS;

/// What to do when a subscriber is slower than its events and its queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Drop what waited longest. The subscriber sees a gap, everybody else nothing. The default: of most topics the newest events matter
    /// most, and no subscriber can harm another.
    #[default]
    DropOldest,
    /// Close the subscriber's connection. It comes back, and sees what it missed as gaps. For subscribers that had better start
    /// afresh than follow with holes.
    Disconnect,
    /// Let the publisher wait, and with it all subscribers; but for one subscriber no longer than
    /// [`patience`](crate::PublisherBuilder::patience), then it is disconnected. For when every event must arrive.
    Block,
}

/// The bounds of a publisher. Each field says what reaching it costs.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that wait for one subscriber; then the policy decides. 1 MiB: some seconds of what a slow link carries, and since events are
    /// shared by the queues, 1,000 stuck subscribers cost little more than one.
    pub queue: usize,
    /// What happens then.
    pub policy: Policy,
    /// Under [`Policy::Block`], how long one event may wait for its subscribers. 10 s: longer than a pause of any healthy process.
    pub patience: Duration,
    /// Subscriptions of one connection; then it is closed. 1,024: each costs memory here and, if they differ in length, time per event.
    pub subscriptions: usize,
    /// Subscriptions of all connections together; then the connection that asks for one more is closed. 262,144: 40 MiB of short ones, 300 MiB of the longest.
    pub subscriptions_in_all: usize,
    /// Bytes of one subscription; then its connection is closed. 512, the longest topic frame: a longer one matches nothing.
    pub prefix: usize,
    /// Bytes handed to a subscriber's socket that it has not taken off yet; then the rest waits in the queue, where it can still be dropped
    /// and coalesced. 256 KiB: more than a socket's own buffer, so a fast subscriber never waits for us.
    pub window: usize,
    /// Bytes of events that share one message. 32 KiB: in the middle of the 16 to 64 KiB beyond which copying outweighs what is saved.
    pub message: usize,
    /// Bytes of numbers in one answer to a sync, or in one beacon. 96 KiB, some 1,700 keys: one entry may take 128 KiB of a header. Of further
    /// keys a new subscriber cannot tell whether its first event is the first; what is owed after drops follows with the next beacon.
    pub numbers: usize,
    /// Bytes of names of topics in one answer to a sync that say what the subscriber may not read. 16 KiB: with `numbers` they fit an entry.
    pub denied: usize,
    /// The interval of beacons, which the answer to a sync tells; whoever hears nothing for three of them takes the connection for lost. 1 s: an
    /// event lost at the end of a burst shows within a second, for some 100 bytes a second and subscriber.
    pub beacon: Duration,
    /// Topic frames for which a subscriber is owed a number (it lost an event, or the number changed). 4,096; if there are more, it is told
    /// so, and asks.
    pub owed: usize,
    /// Topic frames whose numbers are kept: [`DEFAULT_KEYS`]. The one that was idle longest is forgotten, and numbered anew.
    pub keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue: 1024 * 1024,
            policy: Policy::default(),
            patience: Duration::from_secs(10),
            subscriptions: 1_024,
            subscriptions_in_all: 262_144,
            prefix: crate::protocol::sequence::TOPIC_LIMIT,
            window: 256 * 1024,
            message: 32 * 1024,
            numbers: 96 * 1024,
            denied: 16 * 1024,
            beacon: Duration::from_secs(1),
            owed: 4_096,
            keys: DEFAULT_KEYS,
        }
    }
}

/// Why the publisher closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closing {
    /// Its queue was full, and the policy is [`Policy::Disconnect`].
    Slow,
    /// An event waited for it beyond the patience of [`Policy::Block`].
    Blocking,
    /// It subscribed more than [`Limits::subscriptions`] times, or all together did more than [`Limits::subscriptions_in_all`] times.
    TooManySubscriptions,
    /// A subscription was longer than [`Limits::prefix`].
    SubscriptionTooLong,
    /// It sent something else than a subscription.
    NotASubscription,
    /// Its socket took no more although its window was open.
    SocketFull,
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closing::Slow => "the subscriber is too slow",
            Closing::Blocking => "the subscriber blocked the publisher for too long",
            Closing::TooManySubscriptions => "too many subscriptions",
            Closing::SubscriptionTooLong => "a subscription is too long",
            Closing::NotASubscription => "what came is no subscription",
            Closing::SocketFull => "the socket takes no more",
        })
    }
}

/// What a publisher did, since it was bound. At any time `queued` is `sent` + `dropped_oldest` + `dropped_closed` + what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherCounters {
    /// Connections of subscribers, now.
    pub subscribers: u64,
    /// Different subscriptions of all of them together, now.
    pub subscriptions: u64,
    /// Events published.
    pub published: u64,
    /// Events that nobody had subscribed to.
    pub unmatched: u64,
    /// Events queued for a subscriber: an event with three subscribers counts three times, here and in the following.
    pub queued: u64,
    /// Events handed to a subscriber's socket.
    pub sent: u64,
    /// Messages in which those went: `sent / messages` is how well they coalesced.
    pub messages: u64,
    /// Events dropped because the queue was full.
    pub dropped_oldest: u64,
    /// Events dropped because the connection closed while they waited.
    pub dropped_closed: u64,
    /// Connections closed by [`Policy::Disconnect`].
    pub closed_slow: u64,
    /// Connections closed because [`Policy::Block`] lost its patience.
    pub closed_blocking: u64,
    /// Connections closed for the number or length of their subscriptions.
    pub closed_subscriptions: u64,
    /// Connections closed because they sent something else than a subscription.
    pub closed_garbage: u64,
    /// Connections closed because the socket took no more.
    pub closed_full: u64,
    /// Subscriptions to a topic that the subscriber may not read.
    pub denied: u64,
    /// Syncs answered.
    pub syncs: u64,
    /// Subscriptions to topics that this protocol keeps for itself, which were ignored.
    pub reserved: u64,
    /// What happened at the gate: who was turned away, and which connections were closed for what.
    pub gate: GateCounters,
}
