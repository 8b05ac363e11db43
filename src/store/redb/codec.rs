//! The bytes of the rows in a durable store's file, in its tables and in its log. Not a general format: a row is read by the version that wrote it, and the version is in the file.
//!
//! All numbers are little-endian. Every value ends with 8 bytes of XXH3 over its key, with the table's letter, and what comes before: a flipped bit, or a
//! row in the wrong place, is noticed.
//!
//! | row | key | value, before its checksum |
//! | --- | --- | --- |
//! | head `h` | nothing | magic 8, version 2, store 16, generation 8, ordinal 8, born 8, floor 8, applied 8 |
//! | session `r` | registration 16 | principal 8, below 8, count 4, then each range: first 8, last 8 |
//! | sequenced `s` | registration 16, number 8 | record |
//! | keyed `k` | principal 8, key 16 | record |
//!
//! A record: state 1 (0 running, 1 ended), registration 16, principal 8, issued 8, expiry 8 (both 0 if sequenced), interface 8, method 2, digest 16,
//! first stamp 8; then, if running, its incarnation 8; if ended, its answer:
//!
//! | answer | bytes |
//! | --- | --- |
//! | ok | 0, body |
//! | declined | 1, type id of the fault 8, body |
//! | failed | 2, text |
//! | refused | 3, refusal 1, ambiguous 1, retry after: 0, or 1 and seconds 8 and nanoseconds 4; text |

use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use crate::protocol::dedup::Imprint;
use crate::protocol::store::{Intent, Kept, RecordId, StoredSession};
use crate::protocol::wire::{self, Answer, Refused};
use crate::protocol::{CallId, Incarnation, Key, PrincipalId, Refusal, Registration, Stamp, WallTime};

pub(super) const MAGIC: [u8; 8] = *b"selfsame";
/// Of the file: its rows, its log and its preface. Raised with every change of them.
pub(super) const VERSION: u16 = 2;

/// A row that is not as it was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the checksum of {0} does not match")]
    Checksum(String),
    #[error("{0} makes no sense, although its checksum matches")]
    Content(String),
    #[error("entry {0} of the log is damaged, and later ones are there")]
    Gap(u64),
    #[error("its format is version {0}, and this build knows version {VERSION}")]
    Version(u16),
}

/// Which row: its table and its key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    Head,
    Session(Registration),
    Record(RecordId),
}

impl Row {
    fn hash(self, value: &[u8]) -> [u8; 8] {
        let mut hash = Xxh3Default::new();
        match self {
            Row::Head => hash.update(b"h"),
            Row::Session(registration) => {
                hash.update(b"r");
                hash.update(&registration.0.to_le_bytes());
            }
            Row::Record(RecordId::Sequenced(registration, number)) => {
                hash.update(b"s");
                hash.update(&registration.0.to_le_bytes());
                hash.update(&number.to_le_bytes());
            }
            Row::Record(RecordId::Keyed(principal, key)) => {
                hash.update(b"k");
                hash.update(&principal.0.to_le_bytes());
                hash.update(&key.to_le_bytes());
            }
        }
        hash.update(value);
        hash.digest().to_le_bytes()
    }

    fn seal(self, mut value: Vec<u8>) -> Vec<u8> {
        let hash = self.hash(&value);
        value.extend(hash);
        value
    }

    fn open(self, value: &[u8]) -> Result<Reader<'_>, Broken> {
        match value.split_last_chunk::<8>() {
            Some((value, checksum)) if *checksum == self.hash(value) => Ok(Reader(value)),
            _ => Err(Broken::Checksum(self.name())),
        }
    }

    fn senseless(self) -> Broken {
        Broken::Content(self.name())
    }

    fn name(self) -> String {
        match self {
            Row::Head => "the head of the store".into(),
            Row::Session(registration) => format!("session {registration}"),
            Row::Record(RecordId::Sequenced(registration, number)) => {
                format!("the record of call {number} of session {registration}")
            }
            Row::Record(RecordId::Keyed(_, key)) => format!("the record of key {key:032x}"),
        }
    }
}

/// What the file says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub store: u128,
    pub generation: u64,
    pub ordinal: u64,
    pub born: WallTime,
    pub floor: WallTime,
    /// Of this life's entries in the log, the last that the tables have.
    pub applied: u64,
}

impl Head {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(self.store.to_le_bytes());
        for number in [self.generation, self.ordinal, self.born.0, self.floor.0, self.applied] {
            out.extend(number.to_le_bytes());
        }
        Row::Head.seal(out)
    }

    pub fn decode(value: &[u8]) -> Result<Self, Broken> {
        let mut reader = Row::Head.open(value)?;
        let senseless = || Row::Head.senseless();
        if reader.array() != Some(MAGIC) {
            return Err(senseless());
        }
        match reader.u16().ok_or_else(senseless)? {
            VERSION => {}
            other => return Err(Broken::Version(other)),
        }
        let mut head = || {
            Some(Head {
                store: reader.u128()?,
                generation: reader.u64()?,
                ordinal: reader.u64()?,
                born: WallTime(reader.u64()?),
                floor: WallTime(reader.u64()?),
                applied: reader.u64()?,
            })
        };
        head().filter(|_| reader.is_empty()).ok_or_else(senseless)
    }
}

pub(super) fn encode_session(session: &StoredSession) -> Vec<u8> {
    let mut out = Vec::with_capacity(28 + 16 * session.ranges.len());
    out.extend(session.principal.0.to_le_bytes());
    out.extend(session.below.to_le_bytes());
    out.extend((session.ranges.len() as u32).to_le_bytes());
    for (first, last) in &session.ranges {
        out.extend(first.to_le_bytes());
        out.extend(last.to_le_bytes());
    }
    Row::Session(session.registration).seal(out)
}

pub(super) fn decode_session(registration: Registration, value: &[u8]) -> Result<StoredSession, Broken> {
    let row = Row::Session(registration);
    let mut reader = row.open(value)?;
    let mut session = || {
        let (principal, below) = (PrincipalId(reader.u64()?), reader.u64()?);
        // The list ends with the value, so that a wrong count cannot ask for memory.
        let count = reader.u32()? as usize;
        let ranges: Vec<_> = std::iter::from_fn(|| Some((reader.u64()?, reader.u64()?))).collect();
        (ranges.len() == count).then_some(StoredSession { registration, principal, below, ranges })
    };
    session().filter(|_| reader.is_empty()).ok_or_else(|| row.senseless())
}

const RUNNING: u8 = 0;
const ENDED: u8 = 1;

/// Of the value of a record, without a look at the rest.
pub(super) fn is_running(value: &[u8]) -> bool {
    value.first() == Some(&RUNNING)
}

pub(super) fn encode_record(intent: &Intent, state: &Kept) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(if matches!(state, Kept::Running(_)) { RUNNING } else { ENDED });
    out.extend(intent.registration.0.to_le_bytes());
    let (issued, expiry) = match intent.id {
        CallId::Sequenced(_) => (0, 0),
        CallId::Keyed(key) => (key.issued.0, key.expiry.0),
    };
    let Imprint { interface, method, digest, first_stamp } = intent.imprint;
    for number in [intent.principal.0, issued, expiry, interface] {
        out.extend(number.to_le_bytes());
    }
    out.extend(method.to_le_bytes());
    out.extend(digest.to_le_bytes());
    out.extend(first_stamp.0.to_le_bytes());
    match state {
        Kept::Running(incarnation) => out.extend(incarnation.0.to_le_bytes()),
        Kept::Ended(answer) => encode_answer(&mut out, answer),
    }
    Row::Record(intent.record()).seal(out)
}

pub(super) fn decode_record(id: RecordId, value: &[u8]) -> Result<(Intent, Kept), Broken> {
    let row = Row::Record(id);
    let reader = row.open(value)?;
    record(id, reader).filter(|(intent, _)| intent.record() == id).ok_or_else(|| row.senseless())
}

fn record(id: RecordId, mut reader: Reader<'_>) -> Option<(Intent, Kept)> {
    let state = reader.u8()?;
    let registration = Registration(reader.u128()?);
    let principal = PrincipalId(reader.u64()?);
    let (issued, expiry) = (WallTime(reader.u64()?), WallTime(reader.u64()?));
    let interface = reader.u64()?;
    let method = reader.u16()?;
    let digest = reader.u128()?;
    let first_stamp = Stamp(reader.u64()?);
    let id = match id {
        RecordId::Sequenced(_, number) => CallId::Sequenced(number),
        RecordId::Keyed(_, key) => CallId::Keyed(Key { key, issued, expiry }),
    };
    let state = match state {
        RUNNING => {
            let incarnation = Incarnation(reader.u64()?);
            reader.is_empty().then_some(Kept::Running(incarnation))?
        }
        ENDED => Kept::Ended(decode_answer(reader)?),
        _ => return None,
    };
    let imprint = Imprint { interface, method, digest, first_stamp };
    Some((Intent { registration, principal, id, imprint }, state))
}

fn encode_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Ok(body) => {
            out.push(0);
            out.extend(body);
        }
        Answer::Declined { fault, body } => {
            out.push(1);
            out.extend(fault.to_le_bytes());
            out.extend(body);
        }
        Answer::Failed(text) => {
            out.push(2);
            out.extend(text.as_bytes());
        }
        Answer::Refused(Refused { refusal, ambiguous, retry_after, message }) => {
            out.extend([3, number_of(*refusal), u8::from(*ambiguous)]);
            match retry_after {
                None => out.push(0),
                Some(pause) => {
                    out.push(1);
                    out.extend(pause.as_secs().to_le_bytes());
                    out.extend(pause.subsec_nanos().to_le_bytes());
                }
            }
            out.extend(message.as_bytes());
        }
    }
}

fn decode_answer(mut reader: Reader<'_>) -> Option<Answer> {
    Some(match reader.u8()? {
        0 => Answer::Ok(reader.rest()),
        1 => Answer::Declined { fault: reader.u64()?, body: reader.rest() },
        2 => Answer::Failed(reader.text()?),
        3 => {
            let refusal = refusal_of(reader.u8()?)?;
            let ambiguous = reader.flag()?;
            let retry_after = match reader.flag()? {
                false => None,
                true => Some(reader.duration()?),
            };
            Answer::Refused(Refused { refusal, ambiguous, retry_after, message: reader.text()? })
        }
        _ => return None,
    })
}

/// One less than the number on the wire, which has one for none and never changes what a number means.
fn number_of(refusal: Refusal) -> u8 {
    // There are some twenty.
    (wire::refusal_number(refusal) - 1) as u8
}

fn refusal_of(number: u8) -> Option<Refusal> {
    wire::numbered_refusal(u16::from(number) + 1)
}

/// What is left of a value. Every read says no at its end.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn duration(&mut self) -> Option<Duration> {
        let (seconds, nanos) = (self.u64()?, self.u32()?);
        (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
    }

    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    /// A copy, so that a body is aligned as an allocation is.
    fn rest(self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }

    fn text(self) -> Option<String> {
        String::from_utf8(self.0.to_vec()).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
