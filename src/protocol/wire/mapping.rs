//! The schema's words and the crate's for the same things, both ways.

use std::time::Duration;

use crate::generated::wire as schema;
use crate::protocol::{Level, Refusal, RetryClass};

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

// A group has a type of its own wherever it stands, so what is of one form in several places is a macro here.

/// The two halves of a number of 128 bits, to a struct or a group that has them.
macro_rules! put_halves {
    ($id:expr, $to:expr) => {{
        let (high, low) = $crate::protocol::wire::mapping::halves($id);
        let mut to = $to;
        to.set_high(high);
        to.set_low(low);
    }};
}

/// And back.
macro_rules! take_halves {
    ($from:expr) => {{
        let from = $from;
        $crate::protocol::wire::mapping::whole(from.get_high(), from.get_low())
    }};
}

macro_rules! put_key {
    ($key:expr, $to:expr) => {{
        let mut to = $to;
        put_halves!($key.key, to.reborrow());
        to.set_issued($key.issued.0);
        to.set_expiry($key.expiry.0);
    }};
}

macro_rules! put_call_id {
    ($id:expr, $to:expr) => {{
        let mut to = $to;
        match $id {
            CallId::Sequenced(number) => to.set_sequenced(*number),
            CallId::Keyed(key) => put_key!(key, to.init_keyed()),
        }
    }};
}

/// The nonce in the group or struct `$of`.
macro_rules! take_call_id {
    ($of:path, $from:expr) => {{
        use $of as of;
        $from.which().map(|which| match which {
            of::Which::Sequenced(number) => CallId::Sequenced(number),
            of::Which::Keyed(key) => CallId::Keyed(Key {
                key: take_halves!(key),
                issued: WallTime(key.get_issued()),
                expiry: WallTime(key.get_expiry()),
            }),
        })
    }};
}

macro_rules! put_trace {
    ($trace:expr, $to:expr) => {{
        let mut to = $to;
        put_halves!($trace.id, to.reborrow());
        to.set_parent($trace.parent);
        to.set_flags($trace.flags);
    }};
}

/// W3C: an id of zeros is invalid, and invalid means absent.
macro_rules! take_trace {
    ($from:expr) => {{
        let from = $from;
        let trace = Trace { id: take_halves!(from), parent: from.get_parent(), flags: from.get_flags() };
        (trace.id != 0 && trace.parent != 0).then_some(trace)
    }};
}

pub(super) use {put_call_id, put_halves, put_key, put_trace, take_call_id, take_halves, take_trace};

/// Whole milliseconds, rounded up: a time that is left must not become none. More than 49 days are 49 days.
pub(super) fn put_duration(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

pub(super) fn take_duration(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}

pub(super) fn halves(id: u128) -> (u64, u64) {
    ((id >> 64) as u64, id as u64)
}

pub(super) fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
