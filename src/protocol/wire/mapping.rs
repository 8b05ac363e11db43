//! The schema's words and the crate's for the same things, both ways.

use std::time::Duration;

use crate::generated::wire as schema;
use crate::protocol::{CallId, Key, Level, Refusal, RetryClass, WallTime};

use super::Trace;

macro_rules! refusals {
    ($($variant:ident)+) => {
        pub(super) fn put_refusal(refusal: Option<Refusal>) -> schema::Refusal {
            match refusal {
                None => schema::Refusal::None,
                $(Some(Refusal::$variant) => schema::Refusal::$variant,)+
            }
        }

        pub(super) fn take_refusal(refusal: schema::Refusal) -> Option<Refusal> {
            match refusal {
                schema::Refusal::None => None,
                $(schema::Refusal::$variant => Some(Refusal::$variant),)+
            }
        }

        #[cfg(test)]
        pub(super) const REFUSALS: &[Refusal] = &[$(Refusal::$variant),+];
    };
}

refusals! {
    HelloFirst InProgress Overloaded ShuttingDown Unavailable Interrupted Mismatch Stale SessionUnknown SessionShared StoreChanged
    Expired ReplyEvicted Cancelled Deadline UnknownMethod Incompatible Malformed TooLarge Denied RecordedUnknown
}

/// The number of a refusal on the wire, for stores: it keeps its meaning over versions.
pub fn refusal_number(refusal: Refusal) -> u16 {
    put_refusal(Some(refusal)) as u16
}

/// The refusal of that number, if there is one.
pub fn numbered_refusal(number: u16) -> Option<Refusal> {
    take_refusal(schema::Refusal::try_from(number).ok()?)
}

pub(super) fn put_retry(retry: RetryClass) -> schema::RetryClass {
    match retry {
        RetryClass::Once => schema::RetryClass::Once,
        RetryClass::Idempotent => schema::RetryClass::Idempotent,
        RetryClass::ReadOnly => schema::RetryClass::ReadOnly,
        RetryClass::Never => schema::RetryClass::Never,
    }
}

pub(super) fn take_retry(retry: schema::RetryClass) -> RetryClass {
    match retry {
        schema::RetryClass::Once => RetryClass::Once,
        schema::RetryClass::Idempotent => RetryClass::Idempotent,
        schema::RetryClass::ReadOnly => RetryClass::ReadOnly,
        schema::RetryClass::Never => RetryClass::Never,
    }
}

pub(super) fn put_level(level: Level) -> schema::Level {
    match level {
        Level::Memory => schema::Level::Memory,
        Level::Durable => schema::Level::Durable,
        Level::Shared => schema::Level::Shared,
        Level::Atomic => schema::Level::Atomic,
    }
}

pub(super) fn take_level(level: schema::Level) -> Level {
    match level {
        schema::Level::Memory => Level::Memory,
        schema::Level::Durable => Level::Durable,
        schema::Level::Shared => Level::Shared,
        schema::Level::Atomic => Level::Atomic,
    }
}

pub(super) fn put_id128(id: u128, mut to: schema::id128::Builder<'_>) {
    let (high, low) = halves(id);
    to.set_high(high);
    to.set_low(low);
}

pub(super) fn take_id128(from: schema::id128::Reader<'_>) -> u128 {
    whole(from.get_high(), from.get_low())
}

pub(super) fn put_call_id(id: &CallId, mut to: schema::call_id::Builder<'_>) {
    match id {
        CallId::Sequenced(number) => to.set_sequenced(*number),
        CallId::Keyed(key) => put_key(key, to.init_keyed()),
    }
}

pub(super) fn put_key(key: &Key, mut to: schema::call_id::keyed::Builder<'_>) {
    let (high, low) = halves(key.key);
    to.set_high(high);
    to.set_low(low);
    to.set_issued(key.issued.0);
    to.set_expiry(key.expiry.0);
}

pub(super) fn take_call_id(from: schema::call_id::Reader<'_>) -> Result<CallId, capnp::NotInSchema> {
    Ok(match from.which()? {
        schema::call_id::Which::Sequenced(number) => CallId::Sequenced(number),
        schema::call_id::Which::Keyed(key) => CallId::Keyed(Key {
            key: whole(key.get_high(), key.get_low()),
            issued: WallTime(key.get_issued()),
            expiry: WallTime(key.get_expiry()),
        }),
    })
}

pub(super) fn put_trace(trace: &Trace, mut to: schema::trace::Builder<'_>) {
    let (high, low) = halves(trace.id);
    to.set_high(high);
    to.set_low(low);
    to.set_parent(trace.parent);
    to.set_flags(trace.flags);
}

/// W3C: an id of zeros is invalid, and invalid means absent.
pub(super) fn take_trace(from: schema::trace::Reader<'_>) -> Option<Trace> {
    let trace = Trace {
        id: whole(from.get_high(), from.get_low()),
        parent: from.get_parent(),
        flags: from.get_flags(),
    };
    (trace.id != 0 && trace.parent != 0).then_some(trace)
}

/// Whole milliseconds, rounded up: a time that is left must not become none. More than 49 days are 49 days.
pub(super) fn put_duration(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

pub(super) fn take_duration(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}

fn halves(id: u128) -> (u64, u64) {
    ((id >> 64) as u64, id as u64)
}

fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
