//! What the server keeps of calls: a table of records, running or with their replies. Which call finds which record is not known here.

use bytes::Bytes;

use super::super::store::Intent;
use super::super::wire::{Answer, Call, Refused};
use super::super::{CallId, ConnectionId, PrincipalId, Refusal, Registration, Stamp};
use super::Attempt;

/// One run of a handler. A handle: once the run has ended, or its record is gone, it means nothing and does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Execution {
    pub(super) slot: Slot,
    /// Counts up over all executions, so that a slot's next tenant is not mistaken for this one.
    serial: u64,
}

#[cfg(test)]
impl Execution {
    /// One that no machine knows, for tests of what only carries it.
    pub(crate) fn test(serial: u64) -> Execution {
        Execution { slot: 0, serial }
    }
}

/// An index into the table.
pub(super) type Slot = u32;

/// What every attempt of one call has in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imprint {
    /// The interface's type id.
    pub interface: u64,
    /// The method's ordinal.
    pub method: u16,
    /// A hash of the body.
    pub digest: u128,
    /// The stamp of the welcome under which a sequenced call was first sent.
    pub first_stamp: Stamp,
}

impl Imprint {
    /// Of an attempt.
    pub fn of(attempt: &Attempt<'_>) -> Self {
        let Call { interface, method, first_stamp, .. } = *attempt.call;
        Imprint { interface, method, digest: attempt.digest, first_stamp }
    }

    /// Whether a call with this imprint may have the answer of a record with that one; if not, why.
    ///
    /// # Errors
    /// `Mismatch` if it is another call, `SessionShared` if it is another client's.
    pub fn matches(&self, record: &Imprint, id: CallId) -> Result<(), Refusal> {
        let call = |imprint: &Imprint| (imprint.interface, imprint.method, imprint.digest);
        if call(self) != call(record) {
            return Err(Refusal::Mismatch);
        }
        match id {
            CallId::Sequenced(_) if self.first_stamp != record.first_stamp => Err(Refusal::SessionShared),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The call, by its nonce as it was when it was admitted.
    pub registration: Registration,
    pub principal: PrincipalId,
    pub id: CallId,
    /// False: the class leaves no record, this is only where the reply goes.
    pub kept: bool,
    pub imprint: Imprint,
    pub state: State,
    pub(super) serial: u64,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Running(Running),
    Done(Answer),
}

#[derive(Clone, Debug)]
pub(super) struct Running {
    pub waiters: Waiters,
    /// The handler has begun.
    pub started: bool,
    /// The shell was told to drop it.
    pub cancelled: bool,
    /// The client closed the number meanwhile: when this ends, nothing stays and nobody is told.
    pub collected: bool,
}

/// An attempt that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub registration: Registration,
    pub id: CallId,
    pub attempt: u32,
    pub from: ConnectionId,
}

/// The attempts that wait for one run. The first is stored apart: nearly always it stays the only one, and costs no allocation.
#[derive(Clone, Debug)]
pub(super) struct Waiters {
    first: Waiter,
    more: Vec<Waiter>,
}

impl Waiters {
    pub fn new(first: Waiter) -> Self {
        Waiters { first, more: Vec::new() }
    }

    pub fn first(&self) -> &Waiter {
        &self.first
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Adds an attempt; of a copy only the place where it came from counts. False at the limit.
    pub fn join(&mut self, waiter: Waiter, limit: usize) -> bool {
        let mut all = std::iter::once(&mut self.first).chain(&mut self.more);
        if let Some(same) = all.find(|w| w.attempt == waiter.attempt && w.registration == waiter.registration)
        {
            same.from = waiter.from;
            return true;
        }
        if 1 + self.more.len() >= limit {
            return false;
        }
        self.more.push(waiter);
        true
    }

    /// The last attempt of each registration.
    pub fn last_of_each(&self) -> impl Iterator<Item = &Waiter> {
        self.iter().filter(|w| {
            !self.iter().any(|other| other.registration == w.registration && other.attempt > w.attempt)
        })
    }
}

impl Waiter {
    pub fn new(attempt: &Attempt<'_>) -> Self {
        let Call { registration, id, attempt: number, .. } = *attempt.call;
        Waiter { registration, id, attempt: number, from: attempt.from }
    }
}

impl Record {
    pub fn new(attempt: &Attempt<'_>, kept: bool) -> Self {
        let call = attempt.call;
        Record {
            registration: call.registration,
            principal: attempt.principal,
            id: call.id,
            kept,
            imprint: Imprint::of(attempt),
            state: State::Running(Running {
                waiters: Waiters::new(Waiter::new(attempt)),
                started: false,
                cancelled: false,
                collected: false,
            }),
            serial: 0,
        }
    }

    /// A record that a store kept. It has no runs, so it is not where any attempt waits.
    pub fn restored(intent: &Intent) -> Self {
        let Intent { registration, principal, id, imprint } = *intent;
        let state = State::Done(Answer::Failed(String::new()));
        Record { registration, principal, id, kept: true, imprint, state, serial: 0 }
    }

    /// What a store has to know of the call.
    pub fn intent(&self) -> Intent {
        let Record { registration, principal, id, imprint, .. } = *self;
        Intent { registration, principal, id, imprint }
    }

    /// Bytes that the record keeps beside itself.
    pub fn bytes(&self) -> usize {
        match &self.state {
            State::Running(_) => 0,
            State::Done(answer) => bytes(answer),
        }
    }
}

/// Bytes of what an answer carries.
pub fn bytes(answer: &Answer) -> usize {
    match answer {
        Answer::Ok(body) | Answer::Declined { body, .. } => body.len(),
        Answer::Failed(message) | Answer::Refused(Refused { message, .. }) => message.len(),
    }
}

/// The answer as a record may keep it: its body copied, since it may be a slice of a read buffer that it would hold fast.
pub(super) fn copied(answer: &Answer) -> Answer {
    match answer {
        Answer::Ok(body) => Answer::Ok(Bytes::copy_from_slice(body)),
        Answer::Declined { fault, body } => {
            Answer::Declined { fault: *fault, body: Bytes::copy_from_slice(body) }
        }
        Answer::Failed(_) | Answer::Refused(_) => answer.clone(),
    }
}

/// A table of records with stable indices. Its bound is its owner's business.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) slots: Vec<Option<Record>>,
    pub(super) free: Vec<Slot>,
    pub(super) serial: u64,
    /// Bytes of replies kept for sequenced calls.
    pub bytes: usize,
    /// Bytes of replies kept for keyed calls.
    pub keyed_bytes: usize,
}

impl Records {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, mut record: Record) -> Execution {
        self.serial += 1;
        record.serial = self.serial;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(record);
                slot
            }
            None => {
                self.slots.push(Some(record));
                // Fits: `Dedup::new` clamps the limits.
                (self.slots.len() - 1) as Slot
            }
        };
        Execution { slot, serial: self.serial }
    }

    pub fn at(&self, slot: Slot) -> Option<&Record> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut Record> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub fn remove(&mut self, slot: Slot) -> Option<Record> {
        let record = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        *self.bytes_of(record.id) -= record.bytes();
        Some(record)
    }

    /// Ends a run: from now on its record is this answer.
    pub fn settle(&mut self, slot: Slot, answer: Answer) {
        if let Some(record) = self.at_mut(slot) {
            let (id, size) = (record.id, bytes(&answer));
            record.state = State::Done(answer);
            *self.bytes_of(id) += size;
        }
    }

    fn bytes_of(&mut self, id: CallId) -> &mut usize {
        match id {
            CallId::Sequenced(_) => &mut self.bytes,
            CallId::Keyed(_) => &mut self.keyed_bytes,
        }
    }

    /// The run behind a handle, if it has not ended.
    pub fn running_mut(&mut self, execution: Execution) -> Option<&mut Running> {
        let record = self.at_mut(execution.slot).filter(|record| record.serial == execution.serial)?;
        match &mut record.state {
            State::Running(running) => Some(running),
            State::Done(_) => None,
        }
    }

    /// The handle of the run that occupies a slot.
    pub fn execution(&self, slot: Slot) -> Option<Execution> {
        let serial = self.at(slot)?.serial;
        Some(Execution { slot, serial })
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Record)> {
        self.slots.iter().enumerate().filter_map(|(slot, record)| Some((slot as Slot, record.as_ref()?)))
    }
}
