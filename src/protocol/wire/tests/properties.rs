//! Goal: whatever is encoded comes back, and whatever else arrives does no harm. Method: arbitrary entries, arbitrary bytes, and valid
//! messages with some bytes changed; the fuzz targets in `fuzz/` look for the same with more patience.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::mapping::REFUSALS;
use super::super::*;
use crate::protocol::{Key, WallTime};

fn registration() -> impl Strategy<Value = Registration> {
    (1..=u128::MAX).prop_map(Registration)
}

fn id() -> impl Strategy<Value = CallId> {
    let keyed = any::<(u128, u64, u64)>().prop_map(|(key, issued, expiry)| {
        CallId::Keyed(Key { key, issued: WallTime(issued), expiry: WallTime(expiry) })
    });
    prop_oneof![(1..=u64::MAX).prop_map(CallId::Sequenced), keyed]
}

fn trace() -> impl Strategy<Value = Option<Trace>> {
    let trace = (1..=u128::MAX, 1..=u64::MAX, any::<u8>());
    proptest::option::of(trace.prop_map(|(id, parent, flags)| Trace { id, parent, flags }))
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(u64::from(millis)))
}

/// Bytes as a socket hands them out: at any address.
fn body() -> impl Strategy<Value = Bytes> {
    let length = prop_oneof![0..200usize, 4000..4200usize];
    length.prop_flat_map(|length| (vec(any::<u8>(), length + 8), 0..8usize)).prop_map(|(bytes, start)| {
        let end = bytes.len() - 8 + start;
        Bytes::from(bytes).slice(start..end)
    })
}

fn contracts() -> impl Strategy<Value = Vec<Contract>> {
    let shape = vec(any::<(u64, u64)>(), 0..4);
    vec(
        (any::<u64>(), any::<u64>(), shape).prop_map(|(interface, fingerprint, shape)| Contract {
            interface,
            fingerprint,
            shape,
        }),
        0..4,
    )
}

fn hello() -> impl Strategy<Value = Entry> {
    let resume = proptest::option::of(registration());
    (any::<(u64, u16, u128, u64)>(), resume, contracts()).prop_map(
        |((id, version, session, acked_below), resume, contracts)| {
            Entry::Hello(Hello { id, version, session: Session(session), resume, acked_below, contracts })
        },
    )
}

fn welcome() -> impl Strategy<Value = Entry> {
    let level =
        prop_oneof![Just(Level::Memory), Just(Level::Durable), Just(Level::Shared), Just(Level::Atomic)];
    let numbers = any::<([u64; 5], u16, u128, [u32; 2])>();
    (numbers, registration(), level, millis(), millis(), contracts()).prop_map(
        |((longs, version, store, ints), registration, level, retention, heartbeat, contracts)| {
            let [hello, incarnation, stamp, generation, ordinal] = longs;
            Entry::Welcome(Welcome {
                hello,
                version,
                registration,
                incarnation: Incarnation(incarnation),
                stamp: Stamp(stamp),
                store,
                generation,
                level,
                ordinal,
                retention,
                window: ints[0],
                heartbeat,
                body_limit: ints[1],
                contracts,
            })
        },
    )
}

fn metadata() -> impl Strategy<Value = Vec<(String, Bytes)>> {
    vec((".{0,12}", body().prop_map(|value| value.slice(..value.len().min(90)))), 0..4)
}

fn call() -> impl Strategy<Value = Entry> {
    let retry = prop_oneof![
        Just(RetryClass::Once),
        Just(RetryClass::Idempotent),
        Just(RetryClass::ReadOnly),
        Just(RetryClass::Never)
    ];
    let numbers = any::<([u64; 5], u16)>();
    (numbers, registration(), id(), retry, 1..=u32::MAX, millis(), trace(), metadata(), body()).prop_map(
        |((longs, method), registration, id, retry, attempt, time_left, trace, metadata, body)| {
            let [incarnation, first_stamp, interface, acked_below, issued] = longs;
            Entry::Call(Call {
                registration,
                incarnation: Incarnation(incarnation),
                first_stamp: Stamp(first_stamp),
                id,
                interface,
                method,
                retry,
                attempt,
                time_left,
                acked_below,
                trace,
                issued: WallTime(issued),
                metadata,
                body,
            })
        },
    )
}

fn reply() -> impl Strategy<Value = Entry> {
    let retry_after = proptest::option::of((1..=u32::MAX).prop_map(|m| Duration::from_millis(u64::from(m))));
    let refused = (proptest::sample::select(REFUSALS), any::<bool>(), retry_after, ".{0,20}").prop_map(
        |(refusal, ambiguous, retry_after, message)| {
            Answer::Refused(Refused { refusal, ambiguous, retry_after, message })
        },
    );
    let answer = prop_oneof![
        body().prop_map(Answer::Ok),
        (any::<u64>(), body()).prop_map(|(fault, body)| Answer::Declined { fault, body }),
        ".{0,40}".prop_map(Answer::Failed),
        refused,
    ];
    (any::<u128>(), id(), any::<u32>(), any::<bool>(), answer).prop_map(
        |(registration, id, attempt, replayed, answer)| {
            Entry::Reply(Reply { registration: Registration(registration), id, attempt, replayed, answer })
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let ranges = vec(any::<(u64, u64)>().prop_map(|(a, b)| (a.min(b), a.max(b))), 0..5);
    let last = (vec(any::<u8>(), 0..30), any::<u64>(), any::<u64>())
        .prop_map(|(topic, epoch, sequence)| Last { topic: topic.into(), epoch, sequence });
    prop_oneof![
        hello(),
        welcome(),
        call(),
        call(),
        reply(),
        reply(),
        (registration(), id()).prop_map(|(registration, id)| Entry::Cancel(Cancel { registration, id })),
        (registration(), any::<u64>(), ranges).prop_map(|(registration, below, closed)| Entry::Ack(Ack {
            registration,
            below,
            closed
        })),
        any::<u64>().prop_map(Entry::Ping),
        any::<u64>().prop_map(Entry::Pong),
        (".{0,30}", proptest::option::of(proptest::sample::select(REFUSALS)))
            .prop_map(|(reason, refusal)| Entry::Goodbye(Goodbye { reason, refusal })),
        (any::<[u64; 4]>(), trace(), body()).prop_map(
            |([publisher, epoch, sequence, type_id], trace, body)| {
                Entry::Event(Event { publisher, epoch, sequence, type_id, trace, body })
            }
        ),
        (any::<[u64; 2]>(), vec(last, 0..5), any::<bool>(), millis(), vec(".{0,20}", 0..3)).prop_map(
            |([publisher, sync], last, more, interval, denied)| {
                Entry::Numbers(Numbers { publisher, sync, last, more, interval, denied })
            }
        ),
    ]
}

/// As many messages as it takes.
fn messages(entries: &[Entry], limits: Limits) -> Vec<Vec<Bytes>> {
    let mut encoder = Encoder::new(limits);
    let mut messages = Vec::new();
    for entry in entries {
        if encoder.is_full() {
            messages.push(finish_as_announced(&mut encoder));
        }
        encoder.push(entry.clone()).expect("within the limits");
    }
    messages.push(finish_as_announced(&mut encoder));
    messages
}

fn finish_as_announced(encoder: &mut Encoder) -> Vec<Bytes> {
    let announced = encoder.bytes();
    let frames = encoder.finish();
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    assert_eq!(bytes, announced, "the header's size is known before it is written");
    assert_eq!(frames[0][..4], [0; 4], "a header is one segment");
    frames
}

/// The same frames at another address.
fn moved(frames: &[Bytes], by: usize) -> Vec<Bytes> {
    let moved = |frame: &Bytes| {
        let mut bytes = vec![0; by];
        bytes.extend_from_slice(frame);
        Bytes::from(bytes).slice(by..)
    };
    frames.iter().map(moved).collect()
}

fn body_of(entry: &Entry) -> &[u8] {
    match entry {
        Entry::Call(Call { body, .. }) | Entry::Event(Event { body, .. }) => body,
        Entry::Reply(Reply { answer: Answer::Ok(body) | Answer::Declined { body, .. }, .. }) => body,
        _ => &[],
    }
}

fn good(decoded: Decoded) -> Vec<Entry> {
    decoded.entries.into_iter().filter_map(Result::ok).collect()
}

/// What holds of every message that decodes.
fn check(frames: &[Bytes], limits: &Limits) -> Result<(), TestCaseError> {
    let Ok(decoded) = decode(frames, limits) else { return Ok(()) };
    prop_assert!(decoded.entries.len() + decoded.skipped <= limits.entries);
    let entries = good(decoded);
    let bodies: usize = entries.iter().map(|entry| body_of(entry).len()).sum();
    prop_assert!(bodies <= frames[1..].iter().map(Bytes::len).sum());
    for entry in &entries {
        let body = body_of(entry);
        prop_assert!(body.len() <= limits.body as usize);
        prop_assert!(body.is_empty() || body.as_ptr().addr().is_multiple_of(8));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn entries_come_back_from_frames_at_any_address(entries in vec(entry(), 1..30), by in 0..8usize) {
        let limits = Limits::default();
        let mut back = Vec::new();
        for frames in messages(&entries, limits) {
            let frames = moved(&frames, by);
            check(&frames, &limits)?;
            let decoded = decode(&frames, &limits).unwrap();
            prop_assert_eq!(decoded.skipped, 0);
            for entry in decoded.entries {
                back.push(entry.unwrap());
            }
        }
        prop_assert_eq!(back, entries);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(frames in vec(vec(any::<u8>(), 0..300), 0..4)) {
        let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
        check(&frames, &Limits::default())?;
        for frame in &frames {
            let _ = decode_saved(frame);
        }
    }

    #[test]
    fn a_damaged_message_does_no_harm(
        entries in vec(entry(), 1..10),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let limits = Limits { body: 1000, ..Limits::default() };
        for mut frames in messages(&entries, Limits::default()) {
            let mut header = frames[0].to_vec();
            for (at, byte) in &damage {
                let at = at.index(header.len());
                header[at] ^= byte;
            }
            if let Some(cut) = cut {
                header.truncate(cut.index(header.len()));
            }
            frames[0] = Bytes::from(header);
            check(&frames, &limits)?;
        }
    }

    #[test]
    fn saved_calls_come_back_and_damaged_ones_do_no_harm(
        (key, issued, expiry) in any::<(u128, u64, u64)>(),
        (interface, method) in any::<(u64, u16)>(),
        body in body(),
        metadata in metadata(),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let key = Key { key, issued: WallTime(issued), expiry: WallTime(expiry) };
        let call = SavedCall { key, interface, method, body, metadata };
        let mut bytes = encode_saved(&call);
        prop_assert_eq!(decode_saved(&bytes).unwrap(), call);
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        let _ = decode_saved(&bytes);
    }
}
