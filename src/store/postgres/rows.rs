//! Rows to the machine's words and back. Not SQL, and not a decision.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::protocol::dedup::{Closed, Imprint};
use crate::protocol::store::{Found, Intent, Kept, RecordId};
use crate::protocol::wire::{Answer, Refused, copied, numbered_refusal, refusal_number};
use crate::protocol::{CallId, Incarnation, Refusal, Registration, Stamp, WallTime};

/// A key of the table of records: see the migration.
pub(super) type Key = Vec<u8>;

/// As many ranges of closed numbers as a session's window can cause. More stay open: safe, see [`Closed::close`].
pub(super) const RANGES: usize = 1_024;

pub(super) const RUNNING: i16 = 0;
const OK: i16 = 1;
const DECLINED: i16 = 2;
const FAILED: i16 = 3;
const REFUSED: i16 = 4;

/// 64 bits, unchanged.
pub(super) fn bits(number: u64) -> i64 {
    number as i64
}

pub(super) fn unbits(number: i64) -> u64 {
    number as u64
}

/// A time as a column that SQL compares. The end of time is that of `bigint`.
pub(super) fn millis(time: WallTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(super) fn wall_time(millis: i64) -> WallTime {
    WallTime(u64::try_from(millis).unwrap_or(0))
}

pub(super) fn registration_bytes(registration: Registration) -> Vec<u8> {
    registration.0.to_be_bytes().to_vec()
}

pub(super) fn sequenced_key(registration: Registration, number: u64) -> Key {
    [&[1][..], &registration.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

pub(super) fn key(record: RecordId) -> Key {
    match record {
        RecordId::Sequenced(registration, number) => sequenced_key(registration, number),
        RecordId::Keyed(principal, key) => {
            [&[2][..], &principal.0.to_be_bytes(), &key.to_be_bytes()].concat()
        }
    }
}

/// Whatever the column holds: a row that was written by hand must not bring the server down.
pub(super) fn bytes16(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

/// Intents as the columns of a multi-row insert.
#[derive(Default)]
pub(super) struct Intents {
    pub keys: Vec<Key>,
    pub interfaces: Vec<i64>,
    pub methods: Vec<i32>,
    pub digests: Vec<Vec<u8>>,
    pub stamps: Vec<i64>,
    pub expiries: Vec<Option<i64>>,
}

impl<'a> FromIterator<&'a Intent> for Intents {
    fn from_iter<I: IntoIterator<Item = &'a Intent>>(intents: I) -> Self {
        let mut columns = Intents::default();
        for intent in intents {
            let Imprint { interface, method, digest, first_stamp } = intent.imprint;
            columns.keys.push(key(intent.record()));
            columns.interfaces.push(bits(interface));
            columns.methods.push(i32::from(method));
            columns.digests.push(digest.to_be_bytes().to_vec());
            columns.stamps.push(bits(first_stamp.0));
            columns.expiries.push(match intent.id {
                CallId::Sequenced(_) => None,
                CallId::Keyed(key) => Some(millis(key.expiry)),
            });
        }
        columns
    }
}

/// Answers as the columns of a multi-row update.
#[derive(Default)]
pub(super) struct Answers {
    pub keys: Vec<Key>,
    pub states: Vec<i16>,
    pub codes: Vec<i64>,
    pub ambiguous: Vec<bool>,
    pub pauses: Vec<Option<i64>>,
    pub bodies: Vec<Bytes>,
}

impl Answers {
    pub fn push(&mut self, key: Key, answer: &Answer) {
        let text = |message: &str| Bytes::copy_from_slice(message.as_bytes());
        let (state, code, ambiguous, pause, body) = match answer {
            Answer::Ok(body) => (OK, 0, false, None, body.clone()),
            Answer::Declined { fault, body } => (DECLINED, bits(*fault), false, None, body.clone()),
            Answer::Failed(message) => (FAILED, 0, false, None, text(message)),
            Answer::Refused(Refused { refusal, ambiguous, retry_after, message }) => {
                let pause = retry_after.map(|pause| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
                (REFUSED, i64::from(refusal_number(*refusal)), *ambiguous, pause, text(message))
            }
        };
        self.keys.push(key);
        self.states.push(state);
        self.codes.push(code);
        self.ambiguous.push(ambiguous);
        self.pauses.push(pause);
        self.bodies.push(body);
    }

    pub fn one(key: Key, answer: &Answer) -> Self {
        let mut answers = Answers::default();
        answers.push(key, answer);
        answers
    }
}

/// What is recorded of a call whose owner is gone.
pub(super) fn recorded_unknown() -> Answer {
    Answer::Refused(Refused {
        refusal: Refusal::RecordedUnknown,
        ambiguous: true,
        retry_after: None,
        message: "the server that ran the call is gone, or was out of touch with the store for longer than its lease"
            .into(),
    })
}

/// A row of `key, interface, method, digest, first_stamp, owner, state, code, ambiguous, retry_after, body`.
pub(super) fn found(row: &Row) -> Result<(Key, Found), tokio_postgres::Error> {
    let imprint = Imprint {
        interface: unbits(row.try_get(1)?),
        method: row.try_get::<_, i32>(2)? as u16,
        digest: bytes16(row.try_get(3)?),
        first_stamp: Stamp(unbits(row.try_get(4)?)),
    };
    let state = match row.try_get::<_, i16>(6)? {
        RUNNING => Kept::Running(Incarnation(unbits(row.try_get(5)?))),
        state => Kept::Ended(answer(row, state)?),
    };
    Ok((row.try_get(0)?, Found { imprint, state }))
}

fn answer(row: &Row, state: i16) -> Result<Answer, tokio_postgres::Error> {
    let code: i64 = row.try_get(7)?;
    let body = row.try_get::<_, Option<&[u8]>>(10)?.unwrap_or_default();
    let text = || String::from_utf8_lossy(body).into_owned();
    let copy = || copied(body);
    Ok(match state {
        OK => Answer::Ok(copy()),
        DECLINED => Answer::Declined { fault: unbits(code), body: copy() },
        FAILED => Answer::Failed(text()),
        REFUSED => Answer::Refused(Refused {
            refusal: u16::try_from(code).ok().and_then(numbered_refusal).unwrap_or(Refusal::RecordedUnknown),
            ambiguous: row.try_get(8)?,
            retry_after: row
                .try_get::<_, Option<i64>>(9)?
                .map(|pause| Duration::from_millis(unbits(pause.max(0)))),
            message: text(),
        }),
        // Written by a later version, or by hand: it ran, and that is all that can be said.
        other => Answer::Refused(Refused {
            refusal: Refusal::RecordedUnknown,
            ambiguous: true,
            retry_after: None,
            message: format!("the record is in a state that this version does not know: {other}"),
        }),
    })
}

/// Closed numbers from their columns.
pub(super) fn closed(below: i64, ranges: &[u8]) -> Closed {
    let mut closed = Closed::new();
    closed.raise(unbits(below));
    for range in ranges.chunks_exact(16) {
        let (first, last) = range.split_at(8);
        let number = |half: &[u8]| half.try_into().map_or(0, u64::from_be_bytes);
        closed.close(number(first), number(last), RANGES);
    }
    closed
}

/// Ranges of closed numbers as a column.
pub(super) fn ranges(closed: &Closed) -> Vec<u8> {
    closed.above().flat_map(|(first, last)| [first.to_be_bytes(), last.to_be_bytes()].concat()).collect()
}
