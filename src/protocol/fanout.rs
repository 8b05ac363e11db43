//! What a publisher decides: who gets an event, what waits for whom, and what is dropped.
//!
//! Subscriptions, numbered events and the room of the sockets come in; messages for connections, and connections to close, come out. It
//! sends nothing and knows no time but what it is told. A subscriber is a connection here: one that comes back is a new one, and learns what it
//! missed from the answer to its sync.
//!
//! A subscriber that never syncs is any ZeroMQ SUB socket: it gets the events that match its prefixes and nothing else. One that did a
//! sync (a subscription to `selfsame/sync/` and 16 hexadecimal digits, which stands for a request: it is the only thing that a SUB socket can
//! say) gets its answer, and beacons from then on.

mod encode;
mod limits;
mod queue;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use encode::{Envelope, Message};
pub use limits::{Closing, Limits, Policy, PublisherCounters};
pub use queue::{EVENT_OVERHEAD, Numbered, Parcel};

use super::prefixes::Prefixes;
use super::sequence::{Numbering, number_cost};
use super::wire::{Event, Numbers, Trace};
use super::{ConnectionId, Moment};
use queue::Queue;

/// No topic's name begins with this: what does is between the two ends of this protocol.
pub const RESERVED: &[u8] = b"selfsame";
/// A subscription to this and 16 hexadecimal digits asks for the numbers of all that the connection has subscribed to.
pub const SYNC: &[u8] = b"selfsame/sync/";
/// The topic frame of a beacon.
pub const BEACON: &[u8] = b"selfsame/beacon";

/// Messages to some between two answers to syncs.
const MESSAGES_PER_SYNC: u32 = 32;

/// What a name costs in a header besides its bytes: its pointer, a zero, and what fills the last word.
const NAME_OVERHEAD: usize = 16;

/// Why an event's topic cannot be called so. The generator refuses such names, but not everything that is published comes from it.
pub fn unfit(topic: &str) -> Option<&'static str> {
    if topic.as_bytes().starts_with(RESERVED) {
        Some("it begins with `selfsame`, as only the library's own topics do; rename it")
    } else if topic.contains('/') {
        Some("it contains `/`, which ends a topic's name; rename it")
    } else {
        None
    }
}

/// The topic frame of a sync and of its answer.
pub fn sync_topic(id: u64) -> Bytes {
    Bytes::from(format!("selfsame/sync/{id:016x}"))
}

/// The number in the topic frame of a sync or of its answer.
pub fn sync_id(topic: &[u8]) -> Option<u64> {
    let digits = topic.strip_prefix(SYNC)?;
    // Lower case alone: the answer bears the very text that asked for it.
    let all_hex = digits.len() == 16 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| all_hex)?, 16).ok()
}

/// An event that has no number yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Topic, `/`, key.
    pub topic: Bytes,
    /// The type id of its struct.
    pub type_id: u64,
    /// W3C trace context.
    pub trace: Option<Trace>,
    /// A Cap'n Proto message.
    pub body: Bytes,
}

impl Published {
    /// What it counts for in a queue, in bytes.
    pub fn cost(&self) -> usize {
        self.topic.len() + self.body.len() + EVENT_OVERHEAD
    }
}

/// Whether one subscriber may read a topic, by its name. A user's rule, asked for each event and subscription that it concerns.
pub type Permit = Box<dyn Fn(&str) -> bool>;

/// The machine. See the module's documentation.
pub struct Fanout {
    incarnation: u64,
    limits: Limits,
    numbering: Numbering,
    subscribers: Vec<Option<Subscriber>>,
    free: Vec<usize>,
    connections: HashMap<ConnectionId, usize>,
    index: Prefixes<Vec<usize>>,
    // Whoever may have something to send, in turn. May name one that is gone or listed twice; `ready` says whether it counts.
    ready: VecDeque<usize>,
    // The same, of those whose sync is to be answered: that may take as long as some dozens of other messages, so they have a turn now and then.
    syncing: VecDeque<usize>,
    messages_since_sync: u32,
    closings: Vec<(ConnectionId, Closing)>,
    counters: PublisherCounters,
    // Subscriptions that are held although they may not be read, of all together.
    denied: usize,
    // The count of look-ups, by which one that finds a subscriber under two prefixes sees that it has it already.
    lookups: u64,
    matched: Vec<usize>,
    blocked_since: Option<Moment>,
}

struct Subscriber {
    connection: ConnectionId,
    // None: it may read everything.
    permit: Option<Permit>,
    // Prefixes that it asked for and may not read, to be told with the next sync.
    denied: BTreeSet<Bytes>,
    // How often it subscribed to each: ZeroMQ counts, so it takes as many cancels.
    prefixes: HashMap<Bytes, u32>,
    queue: Queue,
    ready: bool,
    found_by: u64,
    synced: bool,
    wants_sync: Option<u64>,
    // It is among those that have a turn for that.
    lined_up: bool,
    wants_beacon: bool,
    // Topic frames whose last number it is to be told, and whether there were more than could be kept.
    owed: BTreeSet<Bytes>,
    owed_more: bool,
}

impl Fanout {
    /// No subscribers, no numbers. `incarnation` is random: it tells this publisher from the one before at the same endpoint.
    pub fn new(incarnation: u64, limits: Limits) -> Self {
        Fanout {
            incarnation,
            numbering: Numbering::new(limits.keys),
            limits,
            subscribers: Vec::new(),
            free: Vec::new(),
            connections: HashMap::new(),
            index: Prefixes::default(),
            ready: VecDeque::new(),
            syncing: VecDeque::new(),
            messages_since_sync: 0,
            closings: Vec::new(),
            counters: PublisherCounters::default(),
            denied: 0,
            lookups: 0,
            matched: Vec::new(),
            blocked_since: None,
        }
    }

    /// A connection opened. Without a permit it may read everything.
    pub fn opened(&mut self, connection: ConnectionId, permit: Option<Permit>) {
        if self.connections.contains_key(&connection) {
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.subscribers.push(None);
            self.subscribers.len() - 1
        });
        self.subscribers[slot] = Some(Subscriber::new(connection, permit));
        self.connections.insert(connection, slot);
        self.counters.subscribers += 1;
    }

    /// A connection closed; what waited for it is dropped.
    pub fn closed(&mut self, connection: ConnectionId) {
        let Some(slot) = self.connections.remove(&connection) else { return };
        let Some(subscriber) = self.subscribers[slot].take() else { return };
        self.free.push(slot);
        for prefix in subscriber.prefixes.keys() {
            unsubscribe(&mut self.index, prefix, slot);
        }
        self.counters.subscribers -= 1;
        self.counters.subscriptions -= subscriber.prefixes.len() as u64;
        self.denied -= subscriber.denied.len();
        self.counters.dropped_closed += subscriber.queue.waiting() as u64;
    }

    /// A message came from a connection: a subscription, a cancel or a sync, or it is closed.
    pub fn received(&mut self, connection: ConnectionId, frames: &[Bytes]) {
        let Some(slot) = self.connections.get(&connection).copied() else { return };
        let Some(subscriber) = self.subscribers[slot].as_mut() else { return };
        let (subscribe, prefix) = match frames {
            [frame] if frame.first() == Some(&1) => (true, &frame[1..]),
            [frame] if frame.first() == Some(&0) => (false, &frame[1..]),
            _ => return self.close(connection, Closing::NotASubscription),
        };
        if prefix.starts_with(RESERVED) {
            match sync_id(prefix) {
                Some(id) if subscribe => {
                    // Of several syncs the last is answered, which answers the earlier ones too: so a flood of them costs little.
                    subscriber.wants_sync = Some(id);
                    subscriber.synced = true;
                    self.line_up_to_sync(slot);
                }
                // Beacons come without it; a SUB socket has to subscribe, or drops them itself.
                Some(_) => {}
                None if prefix == BEACON => {}
                None => self.counters.reserved += 1,
            }
        } else if !subscribe {
            self.denied -= usize::from(subscriber.denied.remove(prefix));
            subscriber.cancel(prefix, slot, &mut self.index, &mut self.counters);
        } else if prefix.len() > self.limits.prefix {
            self.close(connection, Closing::SubscriptionTooLong);
        } else if let Some(count) = subscriber.prefixes.get_mut(prefix) {
            *count = count.saturating_add(1);
        } else if subscriber.prefixes.len() + subscriber.denied.len() >= self.limits.subscriptions
            || self.counters.subscriptions as usize + self.denied >= self.limits.subscriptions_in_all
        {
            self.close(connection, Closing::TooManySubscriptions);
        } else if prefix.contains(&b'/') && !subscriber.may_read(prefix) {
            // A prefix without `/` may stand for several topics, and what it may not read of them is left out.
            let new = subscriber.denied.insert(Bytes::copy_from_slice(prefix));
            self.denied += usize::from(new);
            self.counters.denied += u64::from(new);
        } else {
            subscriber.prefixes.insert(Bytes::copy_from_slice(prefix), 1);
            self.index.entry(prefix).push(slot);
            self.counters.subscriptions += 1;
        }
    }

    /// Numbers an event and queues it for its subscribers.
    ///
    /// Returns it if the policy is [`Policy::Block`] and one of its subscribers has no room: offer it again when something was sent or
    /// closed, and once when the patience is over, which closes those who have no room.
    #[must_use]
    pub fn publish(&mut self, published: Published, now: Moment) -> Option<Published> {
        self.find(&published.topic);
        let cost = published.cost();
        if self.limits.policy == Policy::Block {
            let full: Vec<usize> =
                self.matched.iter().copied().filter(|slot| !self.has_room(*slot, cost)).collect();
            let since = *self.blocked_since.get_or_insert(now);
            if !full.is_empty() && now.saturating_sub(since) < self.limits.patience {
                return Some(published);
            }
            self.blocked_since = None;
            if !full.is_empty() {
                self.close_all(&full, Closing::Blocking);
                self.matched.retain(|slot| !full.contains(slot));
            }
        }
        let (epoch, sequence) = self.numbering.next(&published.topic);
        let Published { topic, type_id, trace, body } = published;
        let event = Event { publisher: self.incarnation, epoch, sequence, type_id, trace, body };
        let numbered = Arc::new(Numbered { topic, event });
        self.counters.published += 1;
        self.counters.unmatched += u64::from(self.matched.is_empty());
        let matched = std::mem::take(&mut self.matched);
        for slot in &matched {
            self.queue(*slot, &numbered, cost);
        }
        self.matched = matched;
        None
    }

    /// Ends a round of beacons: everyone who did a sync is to get one.
    pub fn beacon(&mut self) {
        for topic in self.numbering.changed() {
            self.find(&topic);
            for slot in &self.matched {
                if let Some(subscriber) = self.subscribers[*slot].as_mut() {
                    subscriber.owe(&topic, self.limits.owed);
                }
            }
        }
        for slot in 0..self.subscribers.len() {
            if let Some(subscriber) = self.subscribers[slot].as_mut().filter(|subscriber| subscriber.synced) {
                subscriber.wants_beacon = true;
                self.make_ready(slot);
            }
        }
    }

    /// The next message to hand to a socket. `outstanding` says how many bytes a connection's socket still holds; one that holds a window full
    /// gets nothing before it is [`writable`](Fanout::writable). Connections take turns, a message each.
    pub fn next(&mut self, outstanding: impl Fn(ConnectionId) -> usize) -> Option<(ConnectionId, Parcel)> {
        while let Some((slot, syncs)) = self.whose_turn() {
            let wanted = |subscriber: &&mut Subscriber| {
                if syncs { subscriber.wants_sync.is_some() } else { subscriber.ready }
            };
            let Some(subscriber) = self.subscribers[slot].as_mut().filter(wanted) else { continue };
            let connection = subscriber.connection;
            if !syncs {
                subscriber.ready = false;
            }
            if outstanding(connection) >= self.limits.window {
                continue; // it comes again when it is writable
            }
            if syncs {
                self.messages_since_sync = 0;
                self.counters.syncs += 1;
                subscriber.answer_sync(self.incarnation, &self.numbering, &self.limits);
            } else {
                subscriber.put_beacon(self.incarnation, &self.numbering, &self.limits);
            }
            let Some(parcel) = subscriber.queue.take(self.limits.message) else { continue };
            if let Parcel::Events(events) = &parcel {
                self.counters.sent += events.len() as u64;
                self.counters.messages += 1;
            }
            if !subscriber.queue.is_empty() {
                self.make_ready(slot);
            }
            return Some((connection, parcel));
        }
        None
    }

    /// Whether the next one may have something to send.
    pub fn is_ready(&self) -> bool {
        !(self.ready.is_empty() && self.syncing.is_empty())
    }

    /// The next one in turn, and whether its sync is to be answered.
    fn whose_turn(&mut self) -> Option<(usize, bool)> {
        let overdue = self.ready.is_empty() || self.messages_since_sync >= MESSAGES_PER_SYNC;
        if overdue && let Some(slot) = self.syncing.pop_front() {
            if let Some(subscriber) = self.subscribers[slot].as_mut() {
                subscriber.lined_up = false;
            }
            return Some((slot, true));
        }
        self.messages_since_sync = self.messages_since_sync.saturating_add(1);
        self.ready.pop_front().map(|slot| (slot, false))
    }

    /// A connection's socket holds less than a window full again.
    pub fn writable(&mut self, connection: ConnectionId) {
        let Some(slot) = self.connections.get(&connection).copied() else { return };
        self.line_up_to_sync(slot);
        self.make_ready(slot);
    }

    /// If it asked for numbers.
    fn line_up_to_sync(&mut self, slot: usize) {
        let waits = |subscriber: &&mut Subscriber| subscriber.wants_sync.is_some() && !subscriber.lined_up;
        if let Some(subscriber) = self.subscribers[slot].as_mut().filter(waits) {
            subscriber.lined_up = true;
            self.syncing.push_back(slot);
        }
    }

    /// Gives a connection up. It is among the next [`closings`](Fanout::closings).
    pub fn close(&mut self, connection: ConnectionId, why: Closing) {
        if !self.connections.contains_key(&connection) {
            return;
        }
        match why {
            Closing::Slow => self.counters.closed_slow += 1,
            Closing::Blocking => self.counters.closed_blocking += 1,
            Closing::TooManySubscriptions | Closing::SubscriptionTooLong => {
                self.counters.closed_subscriptions += 1
            }
            Closing::NotASubscription => self.counters.closed_garbage += 1,
            Closing::SocketFull => self.counters.closed_full += 1,
        }
        self.closed(connection);
        self.closings.push((connection, why));
    }

    /// The connections to close, each once, and why.
    pub fn closings(&mut self) -> impl Iterator<Item = (ConnectionId, Closing)> {
        self.closings.drain(..)
    }

    /// Whether no event waits for anyone.
    pub fn is_drained(&self) -> bool {
        self.subscribers.iter().flatten().all(|subscriber| subscriber.queue.waiting() == 0)
    }

    /// What was done so far.
    pub fn counters(&self) -> PublisherCounters {
        self.counters
    }

    /// Fills `matched` with those who subscribed to a topic frame, each once.
    fn find(&mut self, topic: &[u8]) {
        self.lookups += 1;
        self.matched.clear();
        for slot in self.index.matching(topic).flatten() {
            if let Some(subscriber) = self.subscribers[*slot].as_mut()
                && subscriber.found_by != self.lookups
            {
                subscriber.found_by = self.lookups;
                if subscriber.may_read(topic) {
                    self.matched.push(*slot);
                }
            }
        }
    }

    fn has_room(&self, slot: usize, cost: usize) -> bool {
        self.subscribers[slot]
            .as_ref()
            .is_none_or(|subscriber| subscriber.queue.has_room(cost, self.limits.queue))
    }

    fn queue(&mut self, slot: usize, numbered: &Arc<Numbered>, cost: usize) {
        if self.limits.policy == Policy::Disconnect && !self.has_room(slot, cost) {
            return self.close_all(&[slot], Closing::Slow);
        }
        let Some(subscriber) = self.subscribers[slot].as_mut() else { return };
        while !subscriber.queue.has_room(cost, self.limits.queue) {
            let Some(dropped) = subscriber.queue.pop() else { break };
            self.counters.dropped_oldest += 1;
            subscriber.owe(&dropped.topic, self.limits.owed);
        }
        subscriber.queue.push(numbered.clone());
        self.counters.queued += 1;
        self.make_ready(slot);
    }

    fn close_all(&mut self, slots: &[usize], why: Closing) {
        for slot in slots {
            if let Some(connection) = self.subscribers[*slot].as_ref().map(|subscriber| subscriber.connection)
            {
                self.close(connection, why);
            }
        }
    }

    fn make_ready(&mut self, slot: usize) {
        if let Some(subscriber) = self.subscribers[slot].as_mut().filter(|subscriber| !subscriber.ready) {
            subscriber.ready = true;
            self.ready.push_back(slot);
        }
    }
}

impl Subscriber {
    fn new(connection: ConnectionId, permit: Option<Permit>) -> Self {
        Subscriber {
            connection,
            permit,
            denied: BTreeSet::new(),
            prefixes: HashMap::new(),
            queue: Queue::default(),
            ready: false,
            found_by: 0,
            synced: false,
            wants_sync: None,
            lined_up: false,
            wants_beacon: false,
            owed: BTreeSet::new(),
            owed_more: false,
        }
    }

    /// Whether it may read the topic of this topic frame.
    fn may_read(&self, topic: &[u8]) -> bool {
        let Some(permit) = &self.permit else { return true };
        // No contract has a topic whose name is not text.
        std::str::from_utf8(name_of(topic)).is_ok_and(permit)
    }

    /// Names of the topics that it asked for and may not read, up to `limit` bytes.
    fn denied_names(&self, limit: usize) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut bytes = 0;
        for prefix in &self.denied {
            let name = String::from_utf8_lossy(name_of(prefix));
            // Sorted, so those of one topic follow each other.
            if names.last().is_some_and(|last| *last == name) {
                continue;
            }
            bytes += name.len() + NAME_OVERHEAD;
            if bytes > limit {
                break;
            }
            names.push(name.into_owned());
        }
        names
    }

    fn cancel(
        &mut self,
        prefix: &[u8],
        slot: usize,
        index: &mut Prefixes<Vec<usize>>,
        counters: &mut PublisherCounters,
    ) {
        let Some(count) = self.prefixes.get_mut(prefix) else { return };
        *count -= 1;
        if *count == 0 {
            self.prefixes.remove(prefix);
            unsubscribe(index, prefix, slot);
            counters.subscriptions -= 1;
        }
    }

    fn owe(&mut self, topic: &Bytes, limit: usize) {
        let told_of_more = self.owed_more && self.owed.len() >= limit;
        if !self.synced || told_of_more || self.owed.contains(topic) {
            return;
        }
        match self.owed.len() < limit {
            true => drop(self.owed.insert(topic.clone())),
            false => self.owed_more = true,
        }
    }

    /// Queues the numbers that it asked for, as of now. Made only here, when the socket has room: so whoever asks a thousand times and does not read
    /// costs one look-up.
    fn answer_sync(&mut self, publisher: u64, numbering: &Numbering, limits: &Limits) {
        if let Some(sync) = self.wants_sync.take() {
            let (mut last, more) = numbering.matching(self.prefixes.keys(), limits.numbers);
            last.retain(|last| self.may_read(&last.topic));
            let denied = self.denied_names(limits.denied);
            if !more {
                self.owed.clear();
                self.owed_more = false;
            }
            let numbers = Numbers { publisher, sync, last, more, interval: limits.beacon, denied };
            let replaced = self.queue.put_numbers(sync_topic(sync), numbers);
            // What a beacon that still waited would have said is owed again, unless the answer says all.
            if let Some(replaced) = replaced.filter(|_| more) {
                self.owed_more |= replaced.more;
                replaced.last.iter().for_each(|last| self.owe(&last.topic, limits.owed));
            }
        }
    }

    /// Queues the numbers that it is owed, if it is time for a beacon.
    fn put_beacon(&mut self, publisher: u64, numbering: &Numbering, limits: &Limits) {
        if self.wants_beacon && !self.queue.has_numbers() {
            self.wants_beacon = false;
            let (mut last, mut bytes) = (Vec::new(), 0);
            while let Some(topic) = self.owed.pop_first() {
                bytes += number_cost(&topic);
                if bytes > limits.numbers {
                    self.owed.insert(topic);
                    break;
                }
                last.extend(numbering.last(&topic));
            }
            let more = std::mem::take(&mut self.owed_more);
            let beacon = Numbers { publisher, last, more, ..Numbers::default() };
            self.queue.put_numbers(Bytes::from_static(BEACON), beacon);
        }
    }
}

/// The topic's name in a topic frame, or in the prefix of one.
fn name_of(topic: &[u8]) -> &[u8] {
    topic.split(|byte| *byte == b'/').next().unwrap_or_default()
}

fn unsubscribe(index: &mut Prefixes<Vec<usize>>, prefix: &[u8], slot: usize) {
    let Some(slots) = index.find(prefix) else { return };
    slots.retain(|subscribed| *subscribed != slot);
    if slots.is_empty() {
        index.remove(prefix);
    }
}

#[cfg(test)]
mod tests;
