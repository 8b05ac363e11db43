//! How a run ends: what is kept of it, and who is told. The other half of [`Dedup::admit`].

use std::time::Duration;
use std::{iter, mem};

use bytes::Bytes;

use super::super::wire::{Answer, Refused, Reply};
use super::super::{CallId, ConnectionId, Key, Refusal, Registration};
use super::record::{self, Execution, Record, Running, Slot, State, Waiter};
use super::{Dedup, Limits, Now, Shed, reply};
use crate::sabotage::{planted, visit};

/// Explanations are for people; longer ones are cut to this many bytes, since records keep them.
const MESSAGE: usize = 1_024;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Terminal {
    /// The handler replied. Kept and replayed.
    Ok(Bytes),
    /// The contract's typed no. Kept and replayed.
    Declined {
        /// The type id of the fault.
        fault: u64,
        /// The fault.
        body: Bytes,
    },
    /// The handler failed, panicked or took too long. Kept and replayed, never run again.
    Failed(String),
    /// The handler did nothing. Dropped: a later attempt may run.
    Unavailable {
        /// For people.
        message: String,
        /// Do not retry earlier.
        retry_after: Option<Duration>,
    },
    /// The handler stopped half-way, and running it again is safe. Dropped: a later attempt may run; this one may have had effects.
    Interrupted {
        /// For people.
        message: String,
        /// Do not retry earlier.
        retry_after: Option<Duration>,
    },
    /// The client cancelled it in the queue. Kept: it will never run.
    Cancelled,
    /// The shell did not start it after all: its time was up, the server drains. Dropped: a later attempt may run.
    NotStarted(Shed),
    /// Whether it ran is not known: its handler is gone. Kept, so that this stays the answer.
    Unknown,
    /// It did not start, because a store has its record, with this answer. Kept as the store has it.
    Found(Answer),
    /// It did not start, because a store has a record or a watermark that forbids it. Dropped; told as ambiguous, since an attempt elsewhere may have run.
    Forbidden(Refusal),
    /// Nobody is to be told anything: what is true is told when the caller asks again. Dropped.
    Silent,
}

/// A reply and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The connection of the attempt that is answered.
    pub to: ConnectionId,
    /// The reply.
    pub reply: Reply,
}

/// What becomes of a run.
enum Verdict {
    /// The record keeps this answer.
    Keep(Answer),
    /// As `Keep`; it was kept before.
    Replay(Answer),
    /// No record stays. `true`: there may have been effects.
    Drop(Shed, bool),
    /// No record stays, nor a mark, and this is told, if anything.
    Leave(Option<Refusal>),
}

impl Terminal {
    fn verdict(self) -> Verdict {
        let refusal =
            |refusal| Refused { refusal, ambiguous: true, retry_after: None, message: String::new() };
        let shed = |refusal, message, retry_after| Shed { refusal, retry_after, message: cut(message) };
        match self {
            Terminal::Ok(body) => Verdict::Keep(Answer::Ok(body)),
            Terminal::Declined { fault, body } => Verdict::Keep(Answer::Declined { fault, body }),
            Terminal::Failed(message) if planted!(FaultNotRecorded) => {
                Verdict::Drop(shed(Refusal::Interrupted, message, None), true)
            }
            Terminal::Failed(message) => Verdict::Keep(Answer::Failed(cut(message))),
            Terminal::Unknown => Verdict::Keep(Answer::Refused(refusal(Refusal::RecordedUnknown))),
            Terminal::Cancelled => Verdict::Keep(Answer::Refused(refusal(Refusal::Cancelled))),
            Terminal::Unavailable { message, retry_after } => {
                Verdict::Drop(shed(Refusal::Unavailable, message, retry_after), false)
            }
            Terminal::Interrupted { message, retry_after } => {
                Verdict::Drop(shed(Refusal::Interrupted, message, retry_after), true)
            }
            Terminal::NotStarted(Shed { refusal, retry_after, message }) => {
                Verdict::Drop(shed(refusal, message, retry_after), false)
            }
            Terminal::Found(answer) => Verdict::Replay(answer),
            Terminal::Forbidden(refusal) => Verdict::Leave(Some(refusal)),
            Terminal::Silent => Verdict::Leave(None),
        }
    }
}

impl Dedup {
    /// A run has ended. Appends the replies to send: what is kept goes to the last attempt of each client that waits (the others are
    /// overtaken by it), what is dropped to every attempt, so that each is settled. The first end counts; a second one changes nothing.
    pub fn complete(
        &mut self,
        execution: Execution,
        terminal: Terminal,
        now: Now,
        deliveries: &mut Vec<Delivery>,
    ) {
        let Some(running) = self.records.running_mut(execution) else {
            self.counters.late += 1;
            visit!("dedup: complete", "late");
            return;
        };
        let collected = running.collected;
        let registration = self.records.at(execution.slot).map(|record| record.registration);
        if let Some(session) = registration.and_then(|r| self.sessions.get_mut(&r)) {
            // It may be the session's second life here, and the call of its first.
            session.running = session.running.saturating_sub(1);
            session.seen = session.seen.max(now.moment);
        }
        match terminal.verdict() {
            _ if collected => {
                visit!("dedup: complete", "closed meanwhile");
                self.records.remove(execution.slot);
            }
            Verdict::Keep(answer) => self.keep(execution.slot, answer, false, deliveries),
            Verdict::Replay(answer) => self.keep(execution.slot, answer, true, deliveries),
            Verdict::Drop(shed, effects) => self.forget(execution.slot, &shed, effects, deliveries),
            Verdict::Leave(refusal) => self.leave(execution.slot, refusal, deliveries),
        }
    }

    /// The answer becomes the record, if the class has one, and goes to the last attempts.
    fn keep(&mut self, slot: Slot, mut answer: Answer, replayed: bool, deliveries: &mut Vec<Delivery>) {
        let cache = self.is_cache();
        let Some(record) = self.records.at_mut(slot) else { return };
        let (id, registration, principal) = (record.id, record.registration, record.principal);
        // A store that replicas share keeps keyed records until they expire; this table would only be full of them.
        let kept = record.kept && !(cache && matches!(id, CallId::Keyed(_)));
        let State::Running(running) =
            mem::replace(&mut record.state, State::Done(Answer::Failed(String::new())))
        else {
            return;
        };
        if let Answer::Refused(refused) = &mut answer
            && refused.refusal == Refusal::Cancelled
            && !replayed
        {
            // It was in the queue, so nothing happened; unless an earlier run of the same call was interrupted. Of a keyed call another life of its client
            // may have been, and the mark of that may have expired.
            refused.ambiguous = matches!(id, CallId::Keyed(_))
                || running.waiters.iter().any(|w| self.mark(w.registration, w.id).is_tainted());
        }
        let evicted = planted!(TombstoneForgotten) && !self.has_room(registration, id, &answer);
        if kept && !evicted {
            let room = self.has_room(registration, id, &answer);
            let copy = if room { record::copied(&answer) } else { in_place_of(&answer) };
            self.counters.tombstones += u64::from(!room);
            visit!("dedup: complete", "kept, with its reply {room}, found in the store {replayed}");
            self.counters.recorded += 1;
            match id {
                CallId::Sequenced(_) => {
                    if let Some(session) = self.sessions.get_mut(&registration) {
                        session.bytes += record::bytes(&copy);
                    }
                }
                CallId::Keyed(Key { key, expiry, .. }) => {
                    self.expiries.insert((expiry, principal, key));
                    self.forget_marks(key, &running);
                }
            }
            self.records.settle(slot, copy);
        } else {
            self.records.remove(slot);
            if let CallId::Keyed(key) = id
                && (cache || evicted)
            {
                self.keyed.remove(principal, key.key, slot);
            }
            self.vacate(slot, registration, id, kept);
        }
        let first = running.waiters.first();
        // Clones for all but the last, which is nearly always the only one.
        let answers = iter::repeat_n(answer, running.waiters.last_of_each().count());
        for (waiter, answer) in running.waiters.last_of_each().zip(answers) {
            let Waiter { registration, id, attempt, from } = *waiter;
            if planted!(JoinFirstOnly) && !std::ptr::eq(waiter, first) {
                continue;
            }
            deliveries.push(Delivery { to: from, reply: reply(registration, id, attempt, replayed, answer) });
        }
    }

    /// No record stays, but a mark: none of the attempts that waited will ever run.
    fn forget(&mut self, slot: Slot, shed: &Shed, effects: bool, deliveries: &mut Vec<Delivery>) {
        let Some(record) = self.records.remove(slot) else { return };
        let Record { kept, id, registration, principal, state: State::Running(running), .. } = record else {
            return;
        };
        self.counters.dropped += 1;
        visit!("dedup: complete", "dropped {:?}, effects {effects}", shed.refusal);
        if let (CallId::Keyed(key), true) = (id, kept) {
            self.keyed.remove(principal, key.key, slot);
        }
        self.vacate(slot, registration, id, kept);
        for Waiter { registration, id, attempt, from } in running.waiters.iter() {
            let ambiguous = match id {
                // A keyed call whose class leaves no record leaves no mark either: a copy may run.
                CallId::Keyed(_) if !kept || self.is_cache() => true,
                // It expired while it ran, and with it what was noted of its earlier attempts, of which one may have come again and wait.
                CallId::Keyed(key) if key.expiry <= self.floor => true,
                // Marked when it was admitted, so this was the only run of this attempt.
                CallId::Sequenced(_) if !kept => effects,
                _ if !self.room_for_mark(*registration, *id) => true,
                _ => self.with_mark(*registration, *id, |mark| {
                    mark.refuse(*attempt, shed.refusal, shed.retry_after);
                    if effects {
                        mark.taint(*attempt);
                    }
                    mark.ambiguous(*attempt)
                }),
            };
            let Shed { refusal, retry_after, message } = shed.clone();
            self.counters.count(refusal);
            let answer = Answer::Refused(Refused { refusal, ambiguous, retry_after, message });
            deliveries
                .push(Delivery { to: *from, reply: reply(*registration, *id, *attempt, false, answer) });
        }
    }

    /// Nothing stays here: the store knows better.
    fn leave(&mut self, slot: Slot, refusal: Option<Refusal>, deliveries: &mut Vec<Delivery>) {
        let Some(record) = self.records.remove(slot) else { return };
        let Record { kept, id, registration, principal, state: State::Running(running), .. } = record else {
            return;
        };
        self.counters.dropped += 1;
        if let (CallId::Keyed(key), true) = (id, kept) {
            self.keyed.remove(principal, key.key, slot);
        }
        self.vacate(slot, registration, id, kept);
        visit!("dedup: complete", "left to the store {refusal:?}");
        let Some(refusal) = refusal else { return };
        for Waiter { registration, id, attempt, from } in running.waiters.iter() {
            self.counters.count(refusal);
            let (retry_after, message) = (None, String::new());
            let answer = Answer::Refused(Refused { refusal, ambiguous: true, retry_after, message });
            deliveries
                .push(Delivery { to: *from, reply: reply(*registration, *id, *attempt, false, answer) });
        }
    }

    /// What a store has to keep of this end, if anything: the answer, or in its place a tombstone if it is too large.
    pub(in crate::protocol) fn to_keep(&self, execution: Execution, terminal: &Terminal) -> Option<Answer> {
        let record = self.records.at(execution.slot)?;
        // Where other replicas write too, the watermark that passed the record may not be there yet: without a record a copy would run again. It
        // goes with the next numbers that are closed.
        if matches!(&record.state, State::Running(running) if running.collected) && !self.is_cache() {
            return None;
        }
        match terminal.clone().verdict() {
            Verdict::Keep(answer) | Verdict::Replay(answer) => Some(match answer {
                answer if record::bytes(&answer) <= self.limits.reply_bytes => answer,
                answer => in_place_of(&answer),
            }),
            Verdict::Drop(..) | Verdict::Leave(_) => None,
        }
    }

    /// The session's entry no longer points at this place.
    pub(super) fn vacate(&mut self, slot: Slot, registration: Registration, id: CallId, kept: bool) {
        let CallId::Sequenced(number) = id else { return };
        let Some(session) = self.sessions.get_mut(&registration) else { return };
        session.vacate(number, slot, kept);
    }

    /// Whether the table may keep this answer. What was admitted below the bounds may go over them by a quarter.
    fn has_room(&self, registration: Registration, id: CallId, answer: &Answer) -> bool {
        let size = record::bytes(answer);
        let fits = |used: usize, bound: usize| used.saturating_add(size) <= bound.saturating_add(bound / 4);
        let Limits { session_bytes, bytes, reply_bytes, keyed_bytes, .. } = self.limits;
        size <= reply_bytes
            && match id {
                CallId::Sequenced(_) => {
                    fits(self.records.bytes, bytes)
                        && self.sessions.get(&registration).is_some_and(|s| fits(s.bytes, session_bytes))
                }
                CallId::Keyed(_) => fits(self.records.keyed_bytes, keyed_bytes),
            }
    }

    /// The key has a record until it expires, and then it is expired: its marks are of no use any more.
    fn forget_marks(&mut self, key: u128, running: &Running) {
        for waiter in running.waiters.iter() {
            if let Some(session) = self.sessions.get_mut(&waiter.registration) {
                self.notes -= usize::from(session.forget_keyed(key));
            }
        }
    }
}

/// What is kept of an answer that there is no room for, and costs nothing beyond the record. Of one that tells that the call ran: that it did (a tombstone). Any other
/// says what it said, without its text: a failure stays one (an atomic store commits the handler's work with a tombstone), and what is unknown stays unknown.
fn in_place_of(answer: &Answer) -> Answer {
    let message = String::new();
    match answer {
        Answer::Ok(_) | Answer::Declined { .. } => {
            let refusal = Refusal::ReplyEvicted;
            Answer::Refused(Refused { refusal, ambiguous: true, retry_after: None, message })
        }
        Answer::Failed(_) => Answer::Failed(message),
        Answer::Refused(refused) => Answer::Refused(Refused { message, ..refused.clone() }),
    }
}

/// At most [`MESSAGE`] bytes of a text, and whole characters.
fn cut(mut text: String) -> String {
    if text.len() > MESSAGE {
        let end = (0..=MESSAGE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}
