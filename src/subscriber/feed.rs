//! What subscriptions and connections share: who wants which events, where that stands, and the inboxes between threads.
//!
//! State alone, under locks that are held for moments: the drivers compare it with what they have told their publishers, so nothing is lost
//! between them and no command has to wait.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::counters::{SubscriberCounters, SubscriptionCounters};
use super::inbox::{Inbox, Item};
use crate::sabotage::planted;
use crate::sync::tasks::watch;
use crate::sync::threads::atomic::{AtomicU64, Ordering};
use crate::sync::threads::{Arc, Mutex, MutexGuard, PoisonError};

/// One subscription, as the drivers see it.
pub(super) struct Feed {
    pub id: u64,
    pub topic: &'static str,
    /// None: all.
    keys: Option<HashSet<Bytes>>,
    inbox: Mutex<Reading>,
    delivered: AtomicU64,
    missed: AtomicU64,
}

struct Reading {
    inbox: Inbox,
    reader: Option<Waker>,
    ended: bool,
}

impl Feed {
    /// The topic frames' prefixes that a publisher has to be told.
    pub fn prefixes(&self) -> impl Iterator<Item = Bytes> {
        let whole = self.keys.is_none().then(|| Bytes::from(format!("{}/", self.topic)));
        let keys = self.keys.iter().flatten();
        whole.into_iter().chain(keys.map(|key| Bytes::from([self.topic.as_bytes(), b"/", key].concat())))
    }

    /// Whether it wants this key of its topic. Exactly this: to the publisher, `ann` is the prefix of `anna` too.
    pub fn wants(&self, key: &[u8]) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(key))
    }

    /// Unless it has ended. Returns the reader, if it is to be woken: once for all that come together, since it takes over at once where there is but one core.
    #[must_use]
    pub fn push(&self, items: impl Iterator<Item = Item>) -> Option<Waker> {
        let mut reading = lock(&self.inbox);
        let ended = reading.ended && !planted!(EndedInboxFills);
        let (mut delivered, mut missed) = (0, 0);
        for item in items {
            match &item {
                Item::Event { .. } => delivered += 1,
                Item::Gap { missed: more, .. } => missed += *more,
                _ => {}
            }
            if !ended {
                reading.inbox.push(item);
            }
        }
        self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.missed.fetch_add(missed, Ordering::Relaxed);
        if ended { None } else { reading.reader.take() }
    }

    /// The same, of something that comes alone.
    pub fn tell(&self, item: Item) {
        if let Some(reader) = self.push(std::iter::once(item)) {
            reader.wake();
        }
    }

    /// Moves some of what waits to `items`, which are empty. Ready without any: nothing more will come.
    pub fn poll(&self, cx: &mut Context<'_>, items: &mut VecDeque<Item>) -> Poll<()> {
        let mut reading = lock(&self.inbox);
        reading.inbox.take(items);
        if !items.is_empty() || reading.ended {
            return Poll::Ready(());
        }
        if planted!(ReaderRegistersLate) {
            drop(reading);
            reading = lock(&self.inbox);
        }
        reading.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nothing more will come.
    fn end(&self) {
        let mut reading = lock(&self.inbox);
        reading.ended = true;
        if let Some(reader) = reading.reader.take() {
            reader.wake();
        }
    }

    pub fn counters(&self) -> SubscriptionCounters {
        SubscriptionCounters {
            received: self.delivered.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            dropped: lock(&self.inbox).inbox.dropped(),
        }
    }
}

/// How far the connection to a publisher is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The first attempt to reach it is not over yet.
    Trying,
    /// It is there.
    Up,
    /// It is not, for now: why.
    Down(String),
}

struct Place {
    reach: Reach,
    /// The subscriptions that it has confirmed, ever.
    standing: BTreeSet<u64>,
    /// Those whose topic we may not read there.
    denied: BTreeSet<u64>,
}

#[derive(Default)]
struct State {
    feeds: BTreeMap<u64, Arc<Feed>>,
    places: Vec<Place>,
    next: u64,
    ended: bool,
}

/// All subscriptions of a subscriber, and its publishers.
pub(super) struct Board {
    state: Mutex<State>,
    /// Counts up when `standing` or `reach` changed.
    progress: watch::Sender<u64>,
    pub counters: Mutex<SubscriberCounters>,
}

impl Board {
    pub fn new() -> Self {
        Board { state: Mutex::default(), progress: watch::channel(0).0, counters: Mutex::default() }
    }

    pub fn add_place(&self) -> usize {
        let mut state = lock(&self.state);
        state.places.push(Place { reach: Reach::Trying, standing: BTreeSet::new(), denied: BTreeSet::new() });
        state.places.len() - 1
    }

    pub fn add_feed(&self, topic: &'static str, keys: Option<HashSet<Bytes>>, queue: usize) -> Arc<Feed> {
        let mut state = lock(&self.state);
        state.next += 1;
        let reading = Reading { inbox: Inbox::new(queue), reader: None, ended: state.ended };
        let feed = Arc::new(Feed {
            id: state.next,
            topic,
            keys,
            inbox: Mutex::new(reading),
            delivered: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        });
        state.feeds.insert(feed.id, feed.clone());
        feed
    }

    /// Nobody reads it any more.
    pub fn remove_feed(&self, id: u64) {
        let mut state = lock(&self.state);
        if let Some(feed) = state.feeds.remove(&id) {
            // A driver may know it for some time yet; what it holds goes now.
            feed.end();
            lock(&feed.inbox).inbox.clear();
        }
        for place in &mut state.places {
            place.standing.remove(&id);
            place.denied.remove(&id);
        }
    }

    pub fn feeds(&self) -> Vec<Arc<Feed>> {
        lock(&self.state).feeds.values().cloned().collect()
    }

    pub fn reached(&self, place: usize, reach: Reach) {
        lock(&self.state).places[place].reach = reach;
        self.progress.send_modify(|count| *count += 1);
    }

    /// The publisher at this place has answered: these stand there, and those are denied.
    pub fn answered(&self, place: usize, standing: &BTreeSet<u64>, denied: &BTreeSet<u64>) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let alive = |id: &&u64| state.feeds.contains_key(id);
        let place = &mut state.places[place];
        place.standing.retain(|id| !denied.contains(id));
        place.standing.extend(standing.iter().filter(alive));
        place.denied = denied.iter().filter(alive).copied().collect();
        drop(guard);
        self.progress.send_modify(|count| *count += 1);
    }

    /// Waits until every publisher that can be reached has confirmed a subscription, and one at least. False if none will: those that can
    /// be reached deny it.
    pub async fn stands(&self, id: u64) -> bool {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(stands) = self.stands_now(id) {
                return stands;
            }
            if planted!(ProgressMarkedLate) {
                drop(progress.borrow_and_update());
            }
            // Marked as seen before `stands_now` looked, so no change is slept through. The sender lives as long as `self`.
            let _ = progress.changed().await;
        }
    }

    fn stands_now(&self, id: u64) -> Option<bool> {
        let state = lock(&self.state);
        let confirmed = |place: &Place| place.standing.contains(&id);
        let denied = |place: &Place| place.denied.contains(&id);
        let decided =
            |place: &Place| confirmed(place) || denied(place) || matches!(place.reach, Reach::Down(_));
        match state.places.iter().all(decided) {
            _ if state.ended => Some(true),
            true if state.places.iter().any(confirmed) => Some(true),
            true if state.places.iter().any(denied) => Some(false),
            _ => None,
        }
    }

    /// For an error: how many publishers are there, of how many.
    pub fn places(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.places.iter().filter(|place| place.reach == Reach::Up).count(), state.places.len())
    }

    /// For an error: why those that are not there are not.
    pub fn outages(&self) -> Vec<String> {
        let state = lock(&self.state);
        let down = state.places.iter().filter_map(|place| match &place.reach {
            Reach::Down(why) => Some(why.clone()),
            Reach::Trying | Reach::Up => None,
        });
        down.collect()
    }

    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.feeds.values().for_each(|feed| feed.end());
        drop(state);
        self.progress.send_modify(|count| *count += 1);
    }

    pub fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    pub fn count(&self, how: impl FnOnce(&mut SubscriberCounters)) {
        how(&mut lock(&self.counters));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
