//! The numbers of events: how a publisher gives them, and what a subscriber concludes from them.
//!
//! [`Numbering`] counts the events of each topic frame at the publisher. [`Tracker`] follows those counts at the subscriber, for one
//! endpoint: a number that is missing is a gap, one seen before is a duplicate, another incarnation is a restart. Nothing here keeps or
//! repeats an event: a gap says that events are lost, not what they said.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;

use super::prefixes::Prefixes;
use super::recent::Recent;
use super::wire::{Last, Numbers};

/// The longest topic frame (topic, `/`, key), in bytes. Keys are names and numbers, not documents; and both ends keep a table of them.
pub const TOPIC_LIMIT: usize = 512;

/// How many topic frames either end keeps a number of, by default. At some 200 bytes each that is 13 MB when full; a service with more
/// keys than this that are all alive at once should be told (and can say so in the builder).
pub const DEFAULT_KEYS: usize = 65_536;

/// What the number of a topic frame takes in a message, in bytes: three words, and the topic frame in whole words.
pub fn number_cost(topic: &[u8]) -> usize {
    24 + topic.len().next_multiple_of(8)
}

/// The publisher's table: the last number of each topic frame.
///
/// It is bounded. The topic frame that was idle longest is forgotten, and if an event of it comes after all, it is numbered from 1 in a new
/// epoch, which is greater than any before; so nobody takes the new numbers for duplicates of the old. The cost: a subscriber that
/// missed the last events before the key was forgotten is not told of those.
pub struct Numbering {
    keys: Recent<Number>,
    // The same topic frames in order, so that those with a prefix are found without a search through all. Touched only when a key comes
    // or goes.
    ordered: BTreeSet<Bytes>,
    epoch: u64,
    round: u64,
}

struct Number {
    epoch: u64,
    sequence: u64,
    // The beacon's round in which it last changed.
    round: u64,
}

impl Numbering {
    /// An empty table for `capacity` topic frames.
    pub fn new(capacity: usize) -> Self {
        Numbering { keys: Recent::new(capacity), ordered: BTreeSet::new(), epoch: 0, round: 0 }
    }

    /// The number of a further event: its epoch and sequence.
    pub fn next(&mut self, topic: &Bytes) -> (u64, u64) {
        let round = self.round;
        if let Some(number) = self.keys.touch(topic) {
            number.sequence += 1;
            number.round = round;
            return (number.epoch, number.sequence);
        }
        // The epoch of a new key is the count of keys forgotten before it came. So a key that comes back has a greater one than it had.
        let epoch = self.epoch;
        if let Some(forgotten) = self.keys.insert(topic.clone(), Number { epoch, sequence: 1, round }) {
            self.ordered.remove(&forgotten);
            self.epoch += 1;
        }
        self.ordered.insert(topic.clone());
        (epoch, 1)
    }

    /// The last number of a topic frame, unless it has none or was forgotten.
    pub fn last(&self, topic: &Bytes) -> Option<Last> {
        let number = self.keys.peek(topic)?;
        Some(Last { topic: topic.clone(), epoch: number.epoch, sequence: number.sequence })
    }

    /// The last numbers of all topic frames that begin with one of `prefixes`, up to `limit` bytes of them, and whether there are more.
    pub fn matching<'a>(&self, prefixes: impl Iterator<Item = &'a Bytes>, limit: usize) -> (Vec<Last>, bool) {
        let mut prefixes: Vec<&Bytes> = prefixes.collect();
        prefixes.sort_unstable();
        // What a shorter prefix covers is behind it in this order, and would only find the same again.
        prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter));
        let (mut found, mut bytes) = (Vec::new(), 0);
        for prefix in prefixes {
            let from_prefix = self.ordered.range::<[u8], _>((Bound::Included(&prefix[..]), Bound::Unbounded));
            for topic in from_prefix.take_while(|topic| topic.starts_with(prefix)) {
                bytes += number_cost(topic);
                if bytes > limit {
                    return (found, true);
                }
                found.extend(self.last(topic));
            }
        }
        (found, false)
    }

    /// Ends a round of beacons: the topic frames whose numbers changed in it or in the round before. So each change is told twice, and the
    /// loss of one beacon hides nothing.
    pub fn changed(&mut self) -> Vec<Bytes> {
        let since = self.round.saturating_sub(1);
        let recent = self.keys.newest_first().take_while(|(_, number)| number.round >= since);
        let changed = recent.map(|(topic, _)| topic.clone()).collect();
        self.round += 1;
        changed
    }
}

/// What a subscriber has seen of the publisher at one endpoint.
///
/// A prefix *stands* once the publisher has answered the sync that followed its subscription. Only events under standing prefixes are
/// followed; before that there is nothing that they could be missing from. The table of numbers is bounded; a topic frame that was idle
/// longest is forgotten, and then no gap is seen before its next number but one.
pub struct Tracker {
    publisher: Option<u64>,
    keys: Recent<Seen>,
    standing: Prefixes<Standing>,
    // How many topic frames the table had no room for.
    forgotten: u64,
}

struct Seen {
    epoch: u64,
    last: u64,
}

#[derive(Default)]
struct Standing {
    // The table holds the number of every topic frame with this prefix that the publisher had when it stood, or came since. So a topic
    // frame that is not in the table is new, and its numbers must begin with 1.
    complete: bool,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The publisher is another than the one before: first say that.
    pub restarted: bool,
    /// So many events between the last known number and this one are lost: then say that.
    pub missed: u64,
    /// Deliver the event. Otherwise it was seen before, or was counted as missed before, or nothing that it could belong to stands yet.
    pub deliver: bool,
}

/// What numbers without events have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The publisher is another than the one before: first say that.
    pub restarted: bool,
    /// Topic frames, and how many of their events are lost.
    pub gaps: Vec<(Bytes, u64)>,
}

/// How a number relates to what was known.
enum Step {
    /// Not beyond what is known.
    Old,
    /// Nothing was known.
    First,
    /// So many beyond what is known, this one included.
    By(u64),
}

impl Tracker {
    /// Has seen nothing, and will keep the numbers of `capacity` topic frames.
    pub fn new(capacity: usize) -> Self {
        Tracker { publisher: None, keys: Recent::new(capacity), standing: Prefixes::default(), forgotten: 0 }
    }

    /// An event arrived.
    pub fn event(&mut self, publisher: u64, topic: &[u8], epoch: u64, sequence: u64) -> Judgement {
        let restarted = self.meet(publisher);
        if !self.follows(topic) {
            return Judgement { restarted, missed: 0, deliver: false };
        }
        let (deliver, missed) = match self.step(topic, epoch, sequence) {
            Step::Old => (false, 0),
            Step::First => (true, 0),
            Step::By(count) => (true, count.saturating_sub(1)),
        };
        Judgement { restarted, missed, deliver }
    }

    /// A beacon arrived.
    pub fn beacon(&mut self, numbers: &Numbers) -> Learned {
        let restarted = self.meet(numbers.publisher);
        let mut gaps = Vec::new();
        for Last { topic, epoch, sequence } in &numbers.last {
            if !self.follows(topic) {
                continue;
            }
            if let Step::By(missed @ 1..) = self.step(topic, *epoch, *sequence) {
                gaps.push((Bytes::copy_from_slice(topic), missed));
            }
        }
        Learned { restarted, gaps }
    }

    /// The answer to a sync arrived, and `prefixes` had been subscribed to before that was asked: they stand from now on. Under those that
    /// stood before (the connection was cut, or a further subscription was made) numbers reveal what was lost.
    pub fn synced<'a>(&mut self, prefixes: impl Iterator<Item = &'a Bytes>, numbers: &Numbers) -> Learned {
        let forgotten = self.forgotten;
        let learned = self.beacon(numbers);
        let mut fresh = Prefixes::<()>::default();
        prefixes.for_each(|prefix| *fresh.entry(prefix) = ());
        // Of those that did not stand before, only where they begin.
        for Last { topic, epoch, sequence } in &numbers.last {
            if topic.len() <= TOPIC_LIMIT && !self.follows(topic) && fresh.matching(topic).next().is_some() {
                self.enter(topic, *epoch, *sequence);
            }
        }
        let complete = !numbers.more && self.forgotten == forgotten;
        for prefix in fresh.iter() {
            self.standing.entry(prefix).complete |= complete;
        }
        learned
    }

    /// Nobody wants the events under a prefix any more. Their numbers are forgotten, unless another prefix covers them; so that what is
    /// published while nobody wants it is no gap later.
    pub fn leave(&mut self, prefix: &[u8]) {
        if self.standing.remove(prefix).is_some() {
            let standing = &self.standing;
            self.keys.retain(|topic| standing.matching(topic).next().is_some());
        }
    }

    /// Takes note of who publishes; true if that is another than before. Its numbers have nothing to do with the former's.
    fn meet(&mut self, publisher: u64) -> bool {
        let before = self.publisher.replace(publisher);
        let restarted = before.is_some_and(|before| before != publisher);
        if restarted {
            self.keys.clear();
            self.incomplete();
        }
        restarted
    }

    fn follows(&self, topic: &[u8]) -> bool {
        topic.len() <= TOPIC_LIMIT && self.standing.matching(topic).next().is_some()
    }

    fn step(&mut self, topic: &[u8], epoch: u64, sequence: u64) -> Step {
        if let Some(seen) = self.keys.touch(topic) {
            let step = match epoch.cmp(&seen.epoch) {
                std::cmp::Ordering::Less => return Step::Old,
                std::cmp::Ordering::Equal if sequence <= seen.last => return Step::Old,
                std::cmp::Ordering::Equal => Step::By(sequence - seen.last),
                // What was lost of the old epoch, the publisher has forgotten itself.
                std::cmp::Ordering::Greater => Step::By(sequence),
            };
            *seen = Seen { epoch, last: sequence };
            return step;
        }
        let complete = self.standing.matching(topic).any(|standing| standing.complete);
        self.enter(topic, epoch, sequence);
        if complete { Step::By(sequence) } else { Step::First }
    }

    fn enter(&mut self, topic: &[u8], epoch: u64, sequence: u64) {
        if self.keys.insert(Bytes::copy_from_slice(topic), Seen { epoch, last: sequence }).is_some() {
            self.forgotten += 1;
            self.incomplete();
        }
    }

    /// From now on a topic frame that is not in the table may be one that was forgotten.
    fn incomplete(&mut self) {
        self.standing.values_mut().for_each(|standing| standing.complete = false);
    }
}

#[cfg(test)]
mod tests;
