//! One session as the server knows it: which numbers its client has closed, and what it noted of the open ones. Its records lie in the
//! machine's table; this holds their places.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{CallId, Moment, PrincipalId, Refusal, WallTime};
use super::closed::Closed;
use super::record::{Records, Slot, State};
use crate::sabotage::planted;

/// What a refusal leaves behind: no attempt up to it will ever run, so that its "not executed" stays true when a copy arrives later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Attempts up to this one are refused again.
    upto: u32,
    /// Attempts up to this one may have run, so no refusal may deny it.
    tainted: u32,
    refusal: Refusal,
    retry_after: Option<Duration>,
}

impl Mark {
    /// Attempts count from 1; so before anything is marked, only number 0 is refused.
    pub const NONE: Mark = Mark { upto: 0, tainted: 0, refusal: Refusal::Malformed, retry_after: None };

    pub fn refuse(&mut self, attempt: u32, refusal: Refusal, retry_after: Option<Duration>) {
        if attempt >= self.upto {
            *self = Mark { upto: attempt, tainted: self.tainted, refusal, retry_after };
        }
    }

    /// Attempts up to this one may have run.
    pub fn taint(&mut self, attempt: u32) {
        self.tainted = self.tainted.max(attempt);
    }

    /// The refusal that the attempt gets again, if it is marked.
    pub fn again(&self, attempt: u32) -> Option<(Refusal, Option<Duration>)> {
        (attempt <= self.upto).then_some((self.refusal, self.retry_after))
    }

    /// Whether this attempt may have run.
    pub fn ambiguous(&self, attempt: u32) -> bool {
        self.tainted > 0 && attempt <= self.tainted
    }

    /// Whether any attempt may have run.
    pub fn is_tainted(&self) -> bool {
        self.tainted > 0
    }
}

/// What is noted of one open number.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub mark: Mark,
    /// Its record; or, of a class without records, the latest run.
    pub slot: Option<Slot>,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub principal: PrincipalId,
    /// When the client was last heard of.
    pub seen: Moment,
    /// A call has come under this registration.
    pub used: bool,
    /// Runs that hold a place here, also those whose number is closed.
    pub running: usize,
    /// Entries that hold a record.
    pub recorded: usize,
    /// Bytes of replies kept.
    pub bytes: usize,
    pub closed: Closed,
    calls: BTreeMap<u64, Entry>,
    /// Marks of keyed calls, until the key expires. Per session, because attempts begin at 1 in each life of a client.
    keyed: BTreeMap<u128, (Mark, WallTime)>,
}

impl Session {
    pub fn new(principal: PrincipalId, now: Moment) -> Self {
        Session {
            principal,
            seen: now,
            used: false,
            running: 0,
            recorded: 0,
            bytes: 0,
            closed: Closed::new(),
            calls: BTreeMap::new(),
            keyed: BTreeMap::new(),
        }
    }

    /// What the session notes: entries, marks of keyed calls, ranges of closed numbers.
    pub fn notes(&self) -> usize {
        self.calls.len() + self.keyed.len() + self.closed.ranges()
    }

    /// Those of them that an acknowledgement ends, and those that only the expiry of their keys does.
    pub fn notes_like(&self, id: CallId) -> usize {
        match id {
            CallId::Sequenced(_) => self.notes() - self.keyed.len(),
            CallId::Keyed(_) => self.keyed.len(),
        }
    }

    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.calls.get(&number)
    }

    /// The number's entry no longer points at this place. Its mark stays.
    pub fn vacate(&mut self, number: u64, slot: Slot, kept: bool) {
        if let Some(entry) = self.calls.get_mut(&number)
            && entry.slot == Some(slot)
        {
            entry.slot = None;
            self.recorded -= usize::from(kept);
        }
    }

    /// The number's entry, a new one if need be.
    pub fn note(&mut self, number: u64) -> &mut Entry {
        self.calls.entry(number).or_insert(Entry { mark: Mark::NONE, slot: None })
    }

    pub fn keyed_mark(&self, key: u128) -> Option<&Mark> {
        self.keyed.get(&key).map(|(mark, _)| mark)
    }

    /// The key's mark, a new one if need be.
    pub fn note_keyed(&mut self, key: u128, expiry: WallTime) -> &mut Mark {
        &mut self.keyed.entry(key).or_insert((Mark::NONE, expiry)).0
    }

    /// The key has a record that stays until it expires, so its mark is not needed. True if there was one.
    pub fn forget_keyed(&mut self, key: u128) -> bool {
        self.keyed.remove(&key).is_some()
    }

    /// Forgets marks of keys that have expired, and returns the latest expiry among them: what the floor has to refuse from now on, since the marks do not.
    pub fn forget_expired(&mut self, wall: WallTime) -> Option<WallTime> {
        let mut latest = None;
        self.keyed.retain(|_, (_, expiry)| {
            let lives = *expiry > wall;
            latest = latest.max((!lives).then_some(*expiry));
            lives
        });
        latest
    }

    /// The client has closed all numbers below. True if that is news.
    pub fn raise(&mut self, below: u64, records: &mut Records) -> bool {
        let raised = self.closed.raise(below);
        if raised {
            let forgotten = self.closed.below() + u64::from(planted!(RunningCollected));
            self.collect_below(forgotten, records);
        }
        raised
    }

    /// The client has closed `first..=last`. True if that is news.
    pub fn close(&mut self, first: u64, last: u64, limit: usize, records: &mut Records) -> bool {
        let closed = self.closed.close(first, last, limit);
        if closed {
            self.collect_below(self.closed.below(), records);
            while let Some((&number, _)) = self.calls.range(first..=last).next() {
                if let Some(entry) = self.calls.remove(&number) {
                    self.forget(entry, records);
                }
            }
        }
        closed
    }

    /// Forgets what is noted of all numbers below.
    fn collect_below(&mut self, below: u64, records: &mut Records) {
        while let Some(lowest) = self.calls.first_entry()
            && *lowest.key() < below
        {
            let entry = lowest.remove();
            self.forget(entry, records);
        }
    }

    /// Forgets what was noted of a closed number. A running record runs on.
    fn forget(&mut self, entry: Entry, records: &mut Records) {
        let Entry { slot: Some(slot), .. } = entry else { return };
        let Some(record) = records.at_mut(slot) else { return };
        self.recorded -= usize::from(record.kept);
        if let State::Running(running) = &mut record.state {
            running.collected = true;
        } else {
            self.bytes -= record.bytes();
            records.remove(slot);
        }
    }

    /// The highest number of which something is noted, or 0.
    pub fn highest(&self) -> u64 {
        self.calls.last_key_value().map_or(0, |(&number, _)| number)
    }

    /// Forgets everything: the session is over.
    pub fn clear(&mut self, records: &mut Records) {
        while let Some((_, entry)) = self.calls.pop_first() {
            self.forget(entry, records);
        }
    }

    #[cfg(test)]
    pub fn entries(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.calls.iter()
    }
}
