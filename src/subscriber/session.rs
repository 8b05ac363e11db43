//! What is said on the connections to one publisher, and how what is heard gets to the subscriptions. Frames in, frames and items out; it
//! moves no bytes itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;

use super::bodies::Bodies;
use super::feed::{Board, Feed};
use super::inbox::Item;
use crate::protocol::fanout::{BEACON, sync_id, sync_topic};
use crate::protocol::gate::Complaints;
use crate::protocol::sequence::{Learned, TOPIC_LIMIT, Tracker};
use crate::protocol::wire::{self, BadEntry, Entry, Event, Limits, Numbers};

/// What a message meant to the connection itself.
pub(super) enum Heard {
    /// A sync was answered; beacons come in this interval.
    Synced {
        interval: Duration,
    },
    Other,
}

pub(super) struct Session {
    board: Arc<Board>,
    place: usize,
    name: Arc<str>,
    tracker: Tracker,
    limits: Limits,
    /// By topic, as of the last look at the board.
    routes: HashMap<&'static str, Vec<Arc<Feed>>>,
    /// Subscriptions that stand here; events go to no other.
    standing: BTreeSet<u64>,
    /// Subscriptions whose topic this connection may not read.
    denied: BTreeSet<u64>,
    /// The prefixes that this connection has subscribed to.
    subscribed: BTreeSet<Bytes>,
    /// Those that the tracker may know: of the last connection too.
    followed: BTreeSet<Bytes>,
    /// Syncs that are not answered, with the subscriptions that stand when they are.
    syncs: BTreeMap<u64, BTreeSet<u64>>,
    last_sync: u64,
    /// A sync is to be sent, whether there are new subscriptions or not.
    wants_sync: bool,
    /// Ever in sync; and lost since.
    was_up: bool,
    was_lost: bool,
    /// What a publisher could make the log full of.
    complaints: RefCell<Complaints>,
    origin: Instant,
}

impl Session {
    pub fn new(board: Arc<Board>, place: usize, name: Arc<str>, tracker: Tracker) -> Self {
        Session {
            board,
            place,
            name,
            tracker,
            limits: Limits::default(),
            routes: HashMap::new(),
            standing: BTreeSet::new(),
            denied: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            followed: BTreeSet::new(),
            syncs: BTreeMap::new(),
            last_sync: 0,
            wants_sync: false,
            was_up: false,
            was_lost: false,
            complaints: RefCell::new(Complaints::new(Duration::ZERO)),
            origin: Instant::now(),
        }
    }

    /// There is a connection, to a publisher that knows nothing of us.
    pub fn connected(&mut self) {
        self.subscribed.clear();
        self.denied.clear();
        self.syncs.clear();
        self.wants_sync = true;
    }

    /// The connection ended, or could not be made.
    pub fn lost(&mut self) {
        if self.was_up && !self.was_lost {
            self.was_lost = true;
            self.tell_all(Item::Disconnected);
        }
    }

    /// Whether [`wishes`](Session::wishes) has something to say although no subscription came or went.
    pub fn has_wishes(&self) -> bool {
        self.wants_sync
    }

    /// What is to be sent, so that the publisher knows what is wanted: cancels, subscriptions, and a sync if any are new.
    pub fn wishes(&mut self) -> Vec<Vec<Bytes>> {
        let feeds = self.board.feeds();
        let wanted: BTreeSet<Bytes> = feeds.iter().flat_map(|feed| feed.prefixes()).collect();
        let mut messages = Vec::new();
        for gone in self.subscribed.difference(&wanted) {
            messages.push(vec![said(0, gone)]);
        }
        for new in wanted.difference(&self.subscribed) {
            messages.push(vec![said(1, new)]);
        }
        for gone in self.followed.difference(&wanted) {
            self.tracker.leave(gone);
        }
        self.followed = wanted.clone();
        self.subscribed = wanted;
        let all: BTreeSet<u64> = feeds.iter().map(|feed| feed.id).collect();
        self.standing.retain(|id| all.contains(id));
        self.denied.retain(|id| all.contains(id));
        let asked = |id: &u64| {
            let answered = self.standing.contains(id) || self.denied.contains(id);
            answered || self.syncs.values().any(|feeds| feeds.contains(id))
        };
        if self.wants_sync || !all.iter().all(asked) {
            self.wants_sync = false;
            self.last_sync += 1;
            self.syncs.insert(self.last_sync, all);
            messages.push(vec![said(1, &sync_topic(self.last_sync))]);
        }
        self.routes.clear();
        for feed in feeds {
            self.routes.entry(feed.topic).or_default().push(feed);
        }
        messages
    }

    /// A message came.
    pub fn hear(&mut self, frames: &[Bytes]) -> Heard {
        let Some((topic, rest)) = frames.split_first().filter(|(topic, _)| topic.len() <= TOPIC_LIMIT) else {
            self.board.count(|counters| counters.malformed += 1);
            return Heard::Other;
        };
        let decoded = match wire::decode(rest, &self.limits) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.malformed(topic, &error.message);
                return Heard::Other;
            }
        };
        // All events of a message share their topic frame, and so does what is kept of them.
        let topic = Bytes::copy_from_slice(topic);
        let mut heard = Heard::Other;
        let mut delivery = None;
        let mut bodies = Bodies::of(&decoded.entries);
        for entry in decoded.entries {
            match entry {
                Ok(Entry::Event(event)) => {
                    let delivery = delivery.get_or_insert_with(|| Delivery::to(self.readers(&topic)));
                    self.event(&topic, event, &mut bodies, delivery);
                    continue;
                }
                Ok(Entry::Numbers(numbers)) if sync_id(&topic) == Some(numbers.sync) => {
                    heard = Heard::Synced { interval: numbers.interval };
                    self.synced(&numbers);
                }
                Ok(Entry::Numbers(numbers)) if topic == BEACON => {
                    // What is asked already will be answered later than this was said.
                    self.wants_sync |= numbers.more && self.syncs.is_empty();
                    let learned = self.tracker.beacon(&numbers);
                    self.tell(learned);
                }
                // Not for subscribers.
                Ok(_) => {}
                Err(BadEntry { message, .. }) => {
                    if let Some(delivery) = &mut delivery {
                        self.hand_over(delivery);
                    }
                    self.malformed(&topic, &message);
                }
            }
        }
        if let Some(mut delivery) = delivery {
            self.hand_over(&mut delivery);
            delivery.readers.into_iter().for_each(Waker::wake);
        }
        heard
    }

    fn event(&mut self, topic: &Bytes, event: Event, bodies: &mut Bodies, delivery: &mut Delivery) {
        let judgement = self.tracker.event(event.publisher, topic, event.epoch, event.sequence);
        if judgement.restarted || judgement.missed > 0 {
            self.hand_over(delivery); // what came before it
        }
        if judgement.restarted {
            self.restarted();
        }
        if judgement.missed > 0 {
            self.gap(topic, judgement.missed);
        }
        if !judgement.deliver {
            delivery.not_delivered += 1;
            return;
        }
        let (topic, endpoint) = (topic.clone(), self.name.clone());
        let body = bodies.keep(event.body);
        delivery.items.push(Item::Event { topic, type_id: event.type_id, body, endpoint });
    }

    /// Puts events into the inboxes, and has counted them by the time that somebody reads one.
    fn hand_over(&self, delivery: &mut Delivery) {
        let Delivery { feeds, items, readers, not_delivered } = delivery;
        self.board.count(|counters| {
            counters.events += items.len() as u64;
            counters.not_delivered += std::mem::take(not_delivered);
        });
        let Some((last, others)) = feeds.split_last() else { return items.clear() };
        for feed in others {
            readers.extend(feed.push(items.iter().cloned()));
        }
        readers.extend(last.push(items.drain(..)));
    }

    /// The publisher has answered a sync, and with it all earlier ones.
    fn synced(&mut self, numbers: &Numbers) {
        // The answer to a sync that we never sent says nothing.
        let Some(feeds) = self.syncs.remove(&numbers.sync) else { return };
        self.syncs.retain(|sync, _| *sync > numbers.sync);
        if std::mem::take(&mut self.was_lost) {
            tracing::info!(publisher = %self.name, "reached the publisher again");
            self.board.count(|counters| counters.reconnects += 1);
            self.tell_all(Item::Reconnected);
        }
        self.was_up = true;
        let (denied, feeds) = self.divide(feeds, numbers);
        let routes = self.routes.values().flatten();
        let prefixes: Vec<Bytes> =
            routes.filter(|feed| feeds.contains(&feed.id)).flat_map(|feed| feed.prefixes()).collect();
        let learned = self.tracker.synced(prefixes.iter(), numbers);
        self.tell(learned);
        // What earlier syncs asked for, this one asked for too, if it is still wanted.
        self.standing.retain(|id| !denied.contains(id));
        self.standing.extend(feeds);
        self.denied = denied;
        self.board.answered(self.place, &self.standing, &self.denied);
    }

    /// Of the subscriptions that an answer speaks of, those that are denied, and the others. Who is denied is told once a connection.
    fn divide(&self, feeds: BTreeSet<u64>, numbers: &Numbers) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let mut denied = BTreeSet::new();
        let named = numbers.denied.iter().filter_map(|topic| self.routes.get(topic.as_str()));
        for feed in named.flatten().filter(|feed| feeds.contains(&feed.id)) {
            denied.insert(feed.id);
            if !self.denied.contains(&feed.id) {
                self.log(|untold| {
                    tracing::warn!(publisher = %self.name, topic = feed.topic, untold, "the publisher denies the topic")
                });
                feed.tell(Item::Denied(self.name.clone()));
            }
        }
        let others = feeds.difference(&denied).copied().collect();
        (denied, others)
    }

    fn tell(&self, learned: Learned) {
        if learned.restarted {
            self.restarted();
        }
        for (topic, missed) in learned.gaps {
            self.gap(&topic, missed);
        }
    }

    fn restarted(&self) {
        self.log(|untold| tracing::info!(publisher = %self.name, untold, "the publisher restarted"));
        self.board.count(|counters| counters.restarts += 1);
        self.tell_all(Item::Restarted);
    }

    fn gap(&self, topic: &Bytes, missed: u64) {
        tracing::debug!(publisher = %self.name, topic = %topic.escape_ascii(), missed, "events are lost");
        self.board.count(|counters| counters.missed = counters.missed.saturating_add(missed));
        for feed in self.readers(topic) {
            feed.tell(Item::Gap { topic: Some(topic.clone()), missed });
        }
    }

    /// Unless too much was told just now; then how much is told the next time.
    fn log(&self, tell: impl FnOnce(u64)) {
        if let Some(untold) = self.complaints.borrow_mut().tell(self.origin.elapsed()) {
            tell(untold);
        }
    }

    fn malformed(&self, topic: &[u8], why: &str) {
        self.log(|untold| {
            tracing::warn!(publisher = %self.name, topic = %topic.escape_ascii(), why, untold, "an event cannot be read")
        });
        self.board.count(|counters| counters.malformed += 1);
        let topic = Bytes::copy_from_slice(topic);
        for feed in self.readers(&topic) {
            feed.tell(Item::Malformed { topic: topic.clone(), endpoint: self.name.clone(), why: why.into() });
        }
    }

    /// The subscriptions that stand here and want this topic frame.
    fn readers<'a>(&'a self, topic: &'a [u8]) -> impl Iterator<Item = &'a Arc<Feed>> {
        // Without a `/` it is no topic frame.
        let slash = topic.iter().position(|byte| *byte == b'/');
        let split = slash.and_then(|at| Some((std::str::from_utf8(&topic[..at]).ok()?, &topic[at + 1..])));
        let routed = split.and_then(|(name, key)| Some((self.routes.get(name)?, key)));
        let feeds = routed.into_iter().flat_map(|(feeds, key)| feeds.iter().map(move |feed| (feed, key)));
        feeds.filter(|(feed, key)| self.standing.contains(&feed.id) && feed.wants(key)).map(|(feed, _)| feed)
    }

    fn tell_all(&self, item: impl Fn(Arc<str>) -> Item) {
        for feed in self.routes.values().flatten().filter(|feed| self.standing.contains(&feed.id)) {
            feed.tell(item(self.name.clone()));
        }
    }
}

/// The events of one message, on their way to those who want them: all at once, since each time is a lock, and a reader to wake.
struct Delivery {
    feeds: Vec<Arc<Feed>>,
    items: Vec<Item>,
    /// To be woken when all are there.
    readers: Vec<Waker>,
    not_delivered: u64,
}

impl Delivery {
    fn to<'a>(feeds: impl Iterator<Item = &'a Arc<Feed>>) -> Delivery {
        Delivery { feeds: feeds.cloned().collect(), items: Vec::new(), readers: Vec::new(), not_delivered: 0 }
    }
}

/// What a SUB socket says: one frame.
fn said(kind: u8, prefix: &[u8]) -> Bytes {
    Bytes::from([&[kind], prefix].concat())
}
