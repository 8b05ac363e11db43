//! What each operation does to the tables of the file, within a transaction, and which rows that changes, for the log. Not the transaction and not the log: when
//! those are made durable, and who is told, is decided in `super`.

use std::ops::RangeInclusive;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::Failure;
use super::codec::{self, Head, Row};
use super::log::Changes;
use crate::protocol::store::{Done, Found, Intent, Kept, Op, RecordId, StoredSession};
use crate::protocol::wire::Answer;
use crate::protocol::{CallId, Incarnation, PrincipalId, Registration, WallTime};

type Value = &'static [u8];

/// One row, under this key.
pub(super) const HEAD: TableDefinition<'_, &str, Value> = TableDefinition::new("selfsame head");
pub(super) const HEAD_KEY: &str = "";
pub(super) const SESSIONS: TableDefinition<'_, u128, Value> = TableDefinition::new("selfsame sessions");
pub(super) const SEQUENCED: TableDefinition<'_, (u128, u64), Value> =
    TableDefinition::new("selfsame sequenced");
pub(super) const KEYED: TableDefinition<'_, (u64, u128), Value> = TableDefinition::new("selfsame keyed");

/// The tables, open in a transaction.
pub(super) struct Tables<'t> {
    /// What the tables have and the log has not.
    pub changes: Changes,
    pub head: Table<'t, &'static str, Value>,
    pub sessions: Table<'t, u128, Value>,
    pub sequenced: Table<'t, (u128, u64), Value>,
    pub keyed: Table<'t, (u64, u128), Value>,
    incarnation: Incarnation,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction, incarnation: Incarnation) -> Result<Self, Failure> {
        Ok(Tables {
            changes: Changes::default(),
            head: transaction.open_table(HEAD)?,
            sessions: transaction.open_table(SESSIONS)?,
            sequenced: transaction.open_table(SEQUENCED)?,
            keyed: transaction.open_table(KEYED)?,
            incarnation,
        })
    }

    /// Does one operation.
    pub fn apply(&mut self, op: Op) -> Result<Done, Failure> {
        match op {
            Op::Register { registration, principal } => {
                self.keep_session(&StoredSession { registration, principal, below: 1, ranges: Vec::new() })?;
                Ok(Done::Stored)
            }
            Op::Claim(intent) => self.claim(&intent),
            Op::Finish { intent, keep, .. } => self.finish(&intent, keep),
            Op::Close { registration, below, ranges } => self.close(registration, below, ranges),
            Op::End(registration) => {
                self.remove(Row::Session(registration))?;
                self.remove_records(registration, 0..=u64::MAX, true)?;
                Ok(Done::Stored)
            }
            Op::Expire(expired) => self.expire(&expired),
            Op::Resume { .. } | Op::Settle(_) | Op::Look { .. } | Op::Sweep => {
                Ok(Done::NotDone("a store with a single owner has no use for it".into()))
            }
        }
    }

    /// Only what the machine above has admitted is claimed, and its table knows all that is here; so no answer but `Claimed` is to be expected.
    fn claim(&mut self, intent: &Intent) -> Result<Done, Failure> {
        if let Some((found, state)) = self.record(intent.record())? {
            return Ok(Done::Found(Found { imprint: found.imprint, state }));
        }
        match intent.id {
            CallId::Sequenced(number) => match self.session(intent.registration)? {
                None => return Ok(Done::Gone),
                Some(session) if is_closed(&session, number) => return Ok(Done::Passed),
                Some(_) => {}
            },
            CallId::Keyed(key) if key.expiry <= self.head()?.floor => return Ok(Done::Expired),
            CallId::Keyed(_) => {}
        }
        self.keep_record(intent, &Kept::Running(self.incarnation))?;
        Ok(Done::Claimed)
    }

    fn finish(&mut self, intent: &Intent, keep: Option<Answer>) -> Result<Done, Failure> {
        let id = intent.record();
        if let RecordId::Sequenced(registration, number) = id
            && self.session(registration)?.is_none_or(|session| is_closed(&session, number))
        {
            // The client has closed it meanwhile: nobody will ask.
            self.forget(id)?;
            return Ok(Done::Stored);
        }
        match self.record(id)? {
            None => Ok(Done::Absent),
            Some((_, Kept::Running(owner))) if owner == self.incarnation => {
                match keep {
                    Some(answer) => self.keep_record(intent, &Kept::Ended(answer))?,
                    None => self.forget(id)?,
                }
                Ok(Done::Stored)
            }
            Some((found, state)) => Ok(Done::Found(Found { imprint: found.imprint, state })),
        }
    }

    fn close(
        &mut self,
        registration: Registration,
        below: u64,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Done, Failure> {
        let Some(mut session) = self.session(registration)? else { return Ok(Done::Gone) };
        close_numbers(&mut session, below, ranges);
        self.keep_session(&session)?;
        let passed = session.below.checked_sub(1).map(|last| (0, last));
        for (first, last) in passed.into_iter().chain(session.ranges.iter().copied()) {
            self.remove_records(registration, first..=last, false)?;
        }
        Ok(Done::Stored)
    }

    fn expire(&mut self, expired: &[(PrincipalId, u128, WallTime)]) -> Result<Done, Failure> {
        let mut head = self.head()?;
        let latest = expired.iter().map(|(_, _, expiry)| *expiry).max().unwrap_or_default();
        if latest > head.floor {
            head.floor = latest;
            self.keep_head(&head)?;
        }
        for (principal, key, expiry) in expired {
            let id = RecordId::Keyed(*principal, *key);
            // Not one that was claimed under the same key with a later expiry.
            let is_it = |intent: &Intent| matches!(intent.id, CallId::Keyed(key) if key.expiry <= *expiry);
            if let Some((intent, Kept::Ended(_))) = self.record(id)?
                && is_it(&intent)
            {
                self.forget(id)?;
            }
        }
        Ok(Done::Stored)
    }

    /// What ran when the last incarnation ended: recorded as Unknown, unless it may run again or its client has closed it.
    pub fn recover(
        &mut self,
        unfinished: &[(Intent, bool)],
        unknown: &Answer,
        head: &Head,
    ) -> Result<(), Failure> {
        for (intent, keep) in unfinished {
            match keep {
                true => self.keep_record(intent, &Kept::Ended(unknown.clone()))?,
                false => self.forget(intent.record())?,
            }
        }
        self.keep_head(head)
    }

    pub fn keep_head(&mut self, head: &Head) -> Result<(), Failure> {
        self.put(Row::Head, &head.encode())
    }

    /// The tables have the entries of the log up to this number.
    pub fn keep_applied(&mut self, applied: u64) -> Result<(), Failure> {
        let head = Head { applied, ..self.head()? };
        self.keep_head(&head)
    }

    pub fn head(&self) -> Result<Head, Failure> {
        let row = self.head.get(HEAD_KEY)?.ok_or(Failure::NotAStore)?;
        Ok(Head::decode(row.value())?)
    }

    fn session(&self, registration: Registration) -> Result<Option<StoredSession>, Failure> {
        let Some(row) = self.sessions.get(registration.0)? else { return Ok(None) };
        Ok(Some(codec::decode_session(registration, row.value())?))
    }

    fn keep_session(&mut self, session: &StoredSession) -> Result<(), Failure> {
        self.put(Row::Session(session.registration), &codec::encode_session(session))
    }

    fn record(&self, id: RecordId) -> Result<Option<(Intent, Kept)>, Failure> {
        let row = match id {
            RecordId::Sequenced(registration, number) => self.sequenced.get((registration.0, number))?,
            RecordId::Keyed(principal, key) => self.keyed.get((principal.0, key))?,
        };
        row.map(|row| Ok(codec::decode_record(id, row.value())?)).transpose()
    }

    fn keep_record(&mut self, intent: &Intent, state: &Kept) -> Result<(), Failure> {
        self.put(Row::Record(intent.record()), &codec::encode_record(intent, state))
    }

    fn forget(&mut self, id: RecordId) -> Result<(), Failure> {
        self.remove(Row::Record(id))
    }

    /// Those that have ended, or also those that run.
    fn remove_records(
        &mut self,
        of: Registration,
        numbers: RangeInclusive<u64>,
        also_running: bool,
    ) -> Result<(), Failure> {
        let keys = (of.0, *numbers.start())..=(of.0, *numbers.end());
        self.sequenced.retain_in(keys, |(_, number), value| {
            let stays = codec::is_running(value) && !also_running;
            if !stays {
                self.changes.remove(Row::Record(RecordId::Sequenced(of, number)));
            }
            stays
        })?;
        Ok(())
    }

    fn put(&mut self, row: Row, value: &[u8]) -> Result<(), Failure> {
        self.changes.put(row, value);
        self.change(row, Some(value))
    }

    fn remove(&mut self, row: Row) -> Result<(), Failure> {
        self.changes.remove(row);
        self.change(row, None)
    }

    /// Changes a row as the log has it: to this value, or it goes.
    pub fn change(&mut self, row: Row, value: Option<&[u8]>) -> Result<(), Failure> {
        match (row, value) {
            (Row::Head, Some(value)) => drop(self.head.insert(HEAD_KEY, value)?),
            (Row::Head, None) => drop(self.head.remove(HEAD_KEY)?),
            (Row::Session(registration), Some(value)) => drop(self.sessions.insert(registration.0, value)?),
            (Row::Session(registration), None) => drop(self.sessions.remove(registration.0)?),
            (Row::Record(RecordId::Sequenced(registration, number)), Some(value)) => {
                self.sequenced.insert((registration.0, number), value)?;
            }
            (Row::Record(RecordId::Sequenced(registration, number)), None) => {
                self.sequenced.remove((registration.0, number))?;
            }
            (Row::Record(RecordId::Keyed(principal, key)), Some(value)) => {
                self.keyed.insert((principal.0, key), value)?;
            }
            (Row::Record(RecordId::Keyed(principal, key)), None) => {
                self.keyed.remove((principal.0, key))?;
            }
        }
        Ok(())
    }
}

/// The client has closed the number.
pub(super) fn is_closed(session: &StoredSession, number: u64) -> bool {
    number < session.below || session.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// The union of what was closed and what is closed now, so that nothing is ever opened again: ranges in order, apart from one another and from `below`.
fn close_numbers(session: &mut StoredSession, below: u64, ranges: Vec<(u64, u64)>) {
    session.below = session.below.max(below);
    session.ranges.extend(ranges.into_iter().filter(|(first, last)| first <= last));
    session.ranges.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(session.ranges.len());
    for (first, last) in session.ranges.drain(..) {
        if first <= session.below {
            session.below = session.below.max(last.saturating_add(1));
            continue;
        }
        match apart.last_mut() {
            Some((_, until)) if first <= until.saturating_add(1) => *until = last.max(*until),
            _ => apart.push((first, last)),
        }
    }
    session.ranges = apart;
}
