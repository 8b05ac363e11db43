//! Sessions and records as bytes: fixed fields, little-endian, then what is of variable length, then a checksum over the key and all of it. A value that does
//! not decode to the last byte is damage, and said to be.
//!
//! ```text
//! session  principal 8 · below 8 · ranges: count 4, (first 8, last 8) each · checksum 8
//! record   registration 16 · principal 8 · issued 8 · expiry 8 · interface 8 · method 2 · digest 16 · first stamp 8 · state 1 · … · checksum 8
//!          state 0 running, 1 ok, 2 declined, 3 failed, 4 refused
//!          1: body · 2: fault 8, body · 3: message · 4: refusal 1, ambiguous 1, retry after in ms + 1 (0: none) 8, message
//!          body, message: length 4, bytes
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::protocol::dedup::Imprint;
use crate::protocol::store::{Intent, Kept, StoredSession};
use crate::protocol::wire::{Answer, Refused};
use crate::protocol::{CallId, Incarnation, Key, Principal, Refusal, Registration, Stamp, WallTime};

/// Why a value is not what was written.
pub(super) type Damage = &'static str;

/// The key of a record in the file, and in its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Sequenced(u128, u64),
    Keyed(u64, u128),
}

impl Place {
    fn seed(self) -> u64 {
        let mut key = [0; 25];
        let (kind, wide, narrow) = match self {
            Place::Sequenced(registration, number) => (1, registration, number),
            Place::Keyed(principal, key) => (2, key, principal),
        };
        key[0] = kind;
        key[1..17].copy_from_slice(&wide.to_le_bytes());
        key[17..].copy_from_slice(&narrow.to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&key)
    }
}

fn sealed(mut value: Vec<u8>, seed: u64) -> Vec<u8> {
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&value, seed);
    value.extend(checksum.to_le_bytes());
    value
}

fn unsealed(value: &[u8], seed: u64) -> Result<Reader<'_>, Damage> {
    let (value, checksum) = value.split_last_chunk::<8>().ok_or("it is too short")?;
    if xxhash_rust::xxh3::xxh3_64_with_seed(value, seed) != u64::from_le_bytes(*checksum) {
        return Err("its checksum is not that of its bytes");
    }
    Ok(Reader(value))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_le_bytes(self.take()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.u32()? as usize;
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self) -> Result<String, Damage> {
        Ok(str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")?.into())
    }

    fn end(&self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err("it goes on after its end") }
    }
}

fn put_bytes(value: &mut Vec<u8>, bytes: &[u8]) {
    // Bodies are bounded far below by the server's limits.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    value.extend(length.to_le_bytes());
    value.extend(&bytes[..length as usize]);
}

pub(super) fn encode_session(session: &StoredSession) -> Vec<u8> {
    let StoredSession { registration, principal, below, ranges } = session;
    let mut value = Vec::with_capacity(28 + 16 * ranges.len());
    value.extend(principal.0.to_le_bytes());
    value.extend(below.to_le_bytes());
    value.extend((ranges.len() as u32).to_le_bytes());
    for (first, last) in ranges {
        value.extend(first.to_le_bytes());
        value.extend(last.to_le_bytes());
    }
    sealed(value, registration.0 as u64)
}

pub(super) fn decode_session(registration: Registration, value: &[u8]) -> Result<StoredSession, Damage> {
    let mut reader = unsealed(value, registration.0 as u64)?;
    let (principal, below) = (Principal(reader.u64()?), reader.u64()?);
    let count = reader.u32()? as usize;
    if reader.0.len() != count * 16 {
        return Err("its ranges are not as many as it says");
    }
    let ranges = (0..count).map(|_| Ok((reader.u64()?, reader.u64()?))).collect::<Result<_, Damage>>()?;
    Ok(StoredSession { registration, principal, below, ranges })
}

/// A record that runs (`None`) or has ended.
pub(super) fn encode_record(place: Place, intent: &Intent, answer: Option<&Answer>) -> Vec<u8> {
    let Intent { registration, principal, id, imprint } = intent;
    let Imprint { interface, method, digest, first_stamp } = imprint;
    let (issued, expiry) = match id {
        CallId::Sequenced(_) => (0, 0),
        CallId::Keyed(key) => (key.issued.0, key.expiry.0),
    };
    let mut value = Vec::with_capacity(96 + answer.map_or(0, size));
    value.extend(registration.0.to_le_bytes());
    value.extend(principal.0.to_le_bytes());
    value.extend(issued.to_le_bytes());
    value.extend(expiry.to_le_bytes());
    value.extend(interface.to_le_bytes());
    value.extend(method.to_le_bytes());
    value.extend(digest.to_le_bytes());
    value.extend(first_stamp.0.to_le_bytes());
    match answer {
        None => value.push(0),
        Some(Answer::Ok(body)) => {
            value.push(1);
            put_bytes(&mut value, body);
        }
        Some(Answer::Declined { fault, body }) => {
            value.push(2);
            value.extend(fault.to_le_bytes());
            put_bytes(&mut value, body);
        }
        Some(Answer::Failed(message)) => {
            value.push(3);
            put_bytes(&mut value, message.as_bytes());
        }
        Some(Answer::Refused(Refused { refusal, ambiguous, retry_after, message })) => {
            value.push(4);
            value.push(number_of(*refusal));
            value.push(u8::from(*ambiguous));
            let millis = retry_after.map_or(0, |after| after.as_millis() as u64 + 1);
            value.extend(millis.to_le_bytes());
            put_bytes(&mut value, message.as_bytes());
        }
    }
    sealed(value, place.seed())
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Ok(body) | Answer::Declined { body, .. } => body.len() + 12,
        Answer::Failed(message) | Answer::Refused(Refused { message, .. }) => message.len() + 14,
    }
}

pub(super) fn decode_record(place: Place, value: &[u8]) -> Result<(Intent, Kept), Damage> {
    let mut reader = unsealed(value, place.seed())?;
    let registration = Registration(reader.u128()?);
    let principal = Principal(reader.u64()?);
    let (issued, expiry) = (WallTime(reader.u64()?), WallTime(reader.u64()?));
    let id = match place {
        Place::Sequenced(_, number) => CallId::Sequenced(number),
        Place::Keyed(_, key) => CallId::Keyed(Key { key, issued, expiry }),
    };
    let (interface, method) = (reader.u64()?, reader.u16()?);
    let (digest, first_stamp) = (reader.u128()?, Stamp(reader.u64()?));
    let imprint = Imprint { interface, method, digest, first_stamp };
    let kept = match reader.u8()? {
        0 => Kept::Running(Incarnation(0)),
        1 => Kept::Ended(Answer::Ok(Bytes::copy_from_slice(reader.bytes()?))),
        2 => {
            let fault = reader.u64()?;
            Kept::Ended(Answer::Declined { fault, body: Bytes::copy_from_slice(reader.bytes()?) })
        }
        3 => Kept::Ended(Answer::Failed(reader.text()?)),
        4 => {
            let refusal = refusal_of(reader.u8()?).ok_or("its refusal is not known")?;
            let ambiguous = reader.u8()? != 0;
            let retry_after = reader.u64()?.checked_sub(1).map(Duration::from_millis);
            let message = reader.text()?;
            Kept::Ended(Answer::Refused(Refused { refusal, ambiguous, retry_after, message }))
        }
        _ => return Err("its state is not known"),
    };
    reader.end()?;
    Ok((Intent { registration, principal, id, imprint }, kept))
}

/// What a record may be refused with; the numbers are the file's own.
const REFUSALS: [(u8, Refusal); 3] =
    [(1, Refusal::RecordedUnknown), (2, Refusal::ReplyEvicted), (3, Refusal::Cancelled)];

fn number_of(refusal: Refusal) -> u8 {
    // No other is ever kept; one that were would be told as the least that it says.
    REFUSALS.iter().find(|(_, known)| *known == refusal).map_or(1, |(number, _)| *number)
}

fn refusal_of(number: u8) -> Option<Refusal> {
    REFUSALS.iter().find(|(known, _)| *known == number).map(|(_, refusal)| *refusal)
}
