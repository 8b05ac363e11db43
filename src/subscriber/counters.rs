//! What a subscriber and a subscription have counted. Not who counts.

/// What a subscriber heard on all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberCounters {
    /// Events that came and belong to a subscription.
    pub events: u64,
    /// Events that came and were not delivered: repeated ones, and ones for a subscription that does not stand yet or any more.
    pub not_delivered: u64,
    /// Events that were missed: the sum of all gaps, those of the subscriptions' own queues aside.
    pub missed: u64,
    /// Messages, or events in them, that could not be read.
    pub malformed: u64,
    /// Connections that came back after they had been lost.
    pub reconnects: u64,
    /// Times that a publisher was another than before.
    pub restarts: u64,
}

/// What one subscription got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionCounters {
    /// Events that came for it.
    pub received: u64,
    /// Events that were missed on their way.
    pub missed: u64,
    /// Events that came and were dropped, because its queue was full: they show as gaps too.
    pub dropped: u64,
}
