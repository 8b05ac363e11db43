//! What waits for one subscription to be read: bounded in bytes, and what had to be dropped is told as a gap.
//!
//! A plain queue without locks or tasks; [`feed`](super::feed) puts it between threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// What an item costs besides its bytes.
const ITEM_OVERHEAD: usize = 128;

/// What is taken at once, in the same bytes: some dozens of small events.
const AT_ONCE: usize = 8 * 1024;

/// Topic frames whose losses are counted one by one, while nobody reads; those of further ones are counted together.
const LOST_LIMIT: usize = 1_024;

/// What a subscription is told, before it is decoded.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Event {
        topic: Bytes,
        type_id: u64,
        body: Bytes,
        endpoint: Arc<str>,
    },
    /// Of one topic frame, or of several.
    Gap {
        topic: Option<Bytes>,
        missed: u64,
    },
    Restarted(Arc<str>),
    Disconnected(Arc<str>),
    Reconnected(Arc<str>),
    /// This publisher does not let us read the topic.
    Denied(Arc<str>),
    Malformed {
        topic: Bytes,
        endpoint: Arc<str>,
        why: Arc<str>,
    },
}

impl Item {
    fn cost(&self) -> usize {
        ITEM_OVERHEAD
            + match self {
                Item::Event { topic, body, .. } => topic.len() + body.len(),
                Item::Gap { topic, .. } => topic.as_ref().map_or(0, Bytes::len),
                Item::Malformed { topic, why, .. } => topic.len() + why.len(),
                Item::Restarted(_) | Item::Disconnected(_) | Item::Reconnected(_) | Item::Denied(_) => 0,
            }
    }
}

pub(super) struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
    limit: usize,
    // What dropped items have said. All of it is older than what is in the queue, so it is told first.
    restarted: BTreeSet<Arc<str>>,
    lost: BTreeMap<Bytes, u64>,
    lost_more: u64,
    dropped: u64,
}

impl Inbox {
    pub fn new(limit: usize) -> Self {
        Inbox {
            items: VecDeque::new(),
            bytes: 0,
            limit,
            restarted: BTreeSet::new(),
            lost: BTreeMap::new(),
            lost_more: 0,
            dropped: 0,
        }
    }

    /// Events dropped because nobody read them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn push(&mut self, item: Item) {
        let cost = item.cost();
        // One item fits always: a limit that no event fits would deliver none.
        while self.bytes + cost > self.limit
            && let Some(oldest) = self.items.pop_front()
        {
            self.bytes -= oldest.cost();
            self.account(oldest);
        }
        self.bytes += cost;
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<Item> {
        if let Some(endpoint) = self.restarted.pop_first() {
            return Some(Item::Restarted(endpoint));
        }
        if let Some((topic, missed)) = self.lost.pop_first() {
            return Some(Item::Gap { topic: Some(topic), missed });
        }
        if self.lost_more > 0 {
            return Some(Item::Gap { topic: None, missed: std::mem::take(&mut self.lost_more) });
        }
        let item = self.items.pop_front()?;
        self.bytes -= item.cost();
        Some(item)
    }

    /// Moves what comes next to the end of `items`: so much that the way there hardly counts, and one at least.
    pub fn take(&mut self, items: &mut VecDeque<Item>) {
        let mut bytes = 0;
        while bytes < AT_ONCE
            && let Some(item) = self.pop()
        {
            bytes += item.cost();
            items.push_back(item);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Inbox { dropped: self.dropped, ..Inbox::new(self.limit) };
    }

    /// Keeps of a dropped item what must not go untold.
    fn account(&mut self, dropped: Item) {
        match dropped {
            Item::Event { topic, .. } => {
                self.dropped += 1;
                self.lose(Some(topic), 1);
            }
            Item::Gap { topic, missed } => self.lose(topic, missed),
            Item::Restarted(endpoint) => drop(self.restarted.insert(endpoint)),
            // Out of date when they would be read; and a malformed event is missing from the numbers, so it shows as a gap.
            Item::Disconnected(_) | Item::Reconnected(_) | Item::Denied(_) | Item::Malformed { .. } => {}
        }
    }

    fn lose(&mut self, topic: Option<Bytes>, missed: u64) {
        let known = |topic: &Bytes| self.lost.len() < LOST_LIMIT || self.lost.contains_key(topic);
        let count = match topic.filter(known) {
            Some(topic) => self.lost.entry(topic).or_default(),
            None => &mut self.lost_more,
        };
        *count = count.saturating_add(missed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(topic: &'static str) -> Item {
        let body = Bytes::from_static(&[0; 100]);
        Item::Event { topic: Bytes::from_static(topic.as_bytes()), type_id: 1, body, endpoint: "e".into() }
    }

    fn gap(topic: &'static str, missed: u64) -> Item {
        Item::Gap { topic: Some(Bytes::from_static(topic.as_bytes())), missed }
    }

    #[test]
    fn what_is_dropped_is_told_before_what_is_left() {
        let mut inbox = Inbox::new(2 * event("a/").cost());
        inbox.push(Item::Restarted("e".into()));
        inbox.push(gap("a/", 5));
        for topic in ["a/", "b/", "a/", "b/"] {
            inbox.push(event(topic));
        }
        assert_eq!(inbox.dropped(), 2);
        let told: Vec<Item> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(told, [Item::Restarted("e".into()), gap("a/", 6), gap("b/", 1), event("a/"), event("b/")]);
    }

    #[test]
    fn an_event_larger_than_the_limit_still_gets_through() {
        let mut inbox = Inbox::new(0);
        inbox.push(event("a/"));
        assert_eq!(inbox.pop(), Some(event("a/")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is pushed and popped: every event is read or told as missed, and memory stays bounded.
        #[test]
        fn nothing_goes_untold(pushes in prop::collection::vec((0..3000u32, any::<bool>()), 0..2000), limit in 0..5000usize) {
            let mut inbox = Inbox::new(limit);
            let (mut pushed, mut told) = (0, 0);
            let mut count = |item: Option<Item>| match item {
                Some(Item::Event { .. }) => told += 1,
                Some(Item::Gap { missed, .. }) => told += missed,
                _ => {}
            };
            let mut taken = VecDeque::new();
            for (key, take) in pushes {
                let topic = Bytes::from(format!("t/{key}"));
                inbox.push(Item::Event { topic, type_id: 1, body: Bytes::new(), endpoint: "e".into() });
                pushed += 1;
                if take {
                    inbox.take(&mut taken);
                    prop_assert!(!taken.is_empty() && taken.len() <= AT_ONCE / ITEM_OVERHEAD);
                    taken.drain(..).for_each(|item| count(Some(item)));
                }
                prop_assert!(inbox.bytes <= limit.max(ITEM_OVERHEAD + 8) && inbox.lost.len() <= LOST_LIMIT);
            }
            while let Some(item) = inbox.pop() {
                count(Some(item));
            }
            prop_assert_eq!(told, pushed);
        }
    }
}
