//! What the encoder and the decoder promise, by example. `properties` has the same for arbitrary and damaged messages.

mod properties;

use capnp::message::Builder;
use capnp::serialize::write_message_to_words;

use super::mapping::REFUSALS;
use super::*;
use crate::generated::wire as schema;
use crate::protocol::{Key, WallTime};

fn call(body: Bytes) -> Call {
    Call {
        registration: Registration(7),
        incarnation: Incarnation(8),
        first_stamp: Stamp(9),
        id: CallId::Sequenced(1),
        interface: 10,
        method: 11,
        retry: RetryClass::Once,
        attempt: 1,
        time_left: Duration::from_millis(2000),
        acked_below: 1,
        trace: None,
        issued: WallTime(12),
        metadata: Vec::new(),
        body,
    }
}

fn refusal_of(entry: &Result<Entry, BadEntry>) -> Refusal {
    entry.as_ref().expect_err("the entry is bad").refusal
}

/// A message of these entries.
fn message(entries: impl IntoIterator<Item = Entry>) -> Vec<Bytes> {
    let mut encoder = Encoder::new(Limits::default());
    for entry in entries {
        encoder.push(entry).expect("within the limits");
    }
    encoder.finish()
}

/// A header as someone else may write it.
fn header(fill: impl FnOnce(schema::header::Builder<'_>)) -> Bytes {
    let mut message = Builder::new_default();
    fill(message.init_root());
    Bytes::from(write_message_to_words(&message))
}

/// A header of one call whose body is said to be there.
fn call_with_body_at(frame: u16, offset: u32, length: u32) -> Bytes {
    header(|header| {
        let mut entry = header.init_entries(1).get(0);
        entry.set_frame(frame);
        entry.set_offset(offset);
        entry.set_length(length);
        let mut call = entry.init_call();
        call.reborrow().init_registration().set_low(7);
        call.reborrow().init_id().set_sequenced(1);
        call.set_attempt(3);
        call.set_incarnation(8);
    })
}

#[test]
fn small_bodies_share_a_frame_and_large_ones_travel_uncopied() {
    let large = Bytes::from(vec![1; 64 * 1024]);
    let frames = message([
        Entry::Call(call(Bytes::from_static(b"small"))),
        Entry::Call(call(Bytes::new())),
        Entry::Call(call(Bytes::from_static(b"small too"))),
        Entry::Call(call(large.clone())),
    ]);
    assert_eq!(frames.len(), 3);
    assert_eq!(&frames[1][..], b"small\0\0\0small too\0\0\0\0\0\0\0");
    assert_eq!(frames[2].as_ptr(), large.as_ptr());

    let decoded = decode(&frames, &Limits::default()).unwrap();
    let bodies: Vec<_> = decoded
        .entries
        .into_iter()
        .map(|entry| match entry {
            Ok(Entry::Call(call)) => call.body,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, ["small".into(), Bytes::new(), "small too".into(), large.clone()]);
    assert_eq!(bodies[3].as_ptr(), large.as_ptr(), "an aligned frame is not copied");
}

#[test]
fn a_body_does_not_hold_the_frame_that_it_came_in() {
    for (frame, length, shares) in [(1 << 20, 16, false), (1 << 20, 1 << 19, true), (20 << 10, 16, false)] {
        let frame = Bytes::from(vec![7; frame]);
        let decoded = decode(&[call_with_body_at(0, 8, length), frame.clone()], &Limits::default()).unwrap();
        let Some(Ok(Entry::Call(call))) = decoded.entries.into_iter().next() else { panic!("no call") };
        assert_eq!(call.body, frame[8..8 + length as usize]);
        assert_eq!(frame.as_ptr_range().contains(&call.body.as_ptr()), shares, "{length} of {}", frame.len());
        assert_eq!(frame.is_unique(), !shares);
    }
}

#[test]
fn an_encoder_is_full_at_the_flush_threshold_and_gives_back_what_it_does_not_take() {
    let mut encoder = Encoder::new(Limits::default());
    while !encoder.is_full() {
        encoder.push(Entry::Call(call(Bytes::from(vec![0; 1000])))).unwrap();
    }
    assert!((FLUSH..FLUSH + 2000).contains(&encoder.bytes()), "{}", encoder.bytes());
    let refused = encoder.push(Entry::Ping(5)).unwrap_err();
    assert!(refused.full);
    assert_eq!(refused.entry, Entry::Ping(5));

    let bytes = encoder.bytes();
    let frames = encoder.finish();
    assert_eq!(frames.iter().map(Bytes::len).sum::<usize>(), bytes);
    assert!(encoder.is_empty() && encoder.finish().is_empty());
    encoder.push(refused.entry).unwrap();
    assert_eq!(encoder.finish(), message([Entry::Ping(5)]));
}

#[test]
fn a_cleared_encoder_has_forgotten_everything() {
    let mut encoder = Encoder::new(Limits::default());
    encoder.push(Entry::Call(call(Bytes::from(vec![0; OWN_FRAME])))).unwrap();
    encoder.push(Entry::Call(call(Bytes::from_static(b"small")))).unwrap();
    encoder.clear();
    assert!(encoder.is_empty() && !encoder.is_full());
    encoder.push(Entry::Ping(5)).unwrap();
    assert_eq!(encoder.finish(), message([Entry::Ping(5)]));
}

#[test]
fn an_entry_that_exceeds_a_limit_by_itself_is_given_back_whole() {
    let mut encoder = Encoder::new(Limits::default());
    encoder.set_body_limit(100);
    let mut wide = call(Bytes::new());
    wide.metadata = vec![("name".into(), Bytes::from(vec![0; 8 * 1024]))];
    let mut many = call(Bytes::new());
    many.metadata = vec![(String::new(), Bytes::new()); 65];
    let shape = vec![(1, 1); 16 * 1024];
    let long = Hello { contracts: vec![Contract { shape, ..Contract::default() }], ..Hello::default() };
    let heavy = call(Bytes::from(vec![0; 101]));
    for entry in [Entry::Call(wide), Entry::Call(many), Entry::Hello(long), Entry::Call(heavy)] {
        let refused = encoder.push(entry.clone()).unwrap_err();
        assert!(!refused.full, "{refused}");
        assert_eq!(refused.entry, entry);
    }
    assert!(encoder.is_empty());
    encoder.push(Entry::Call(call(Bytes::from(vec![0; 100])))).unwrap();
}

#[test]
fn the_text_of_an_answer_is_cut_between_characters() {
    let limits = Limits { text: 5, ..Limits::default() };
    let mut encoder = Encoder::new(limits);
    encoder.push(Entry::Goodbye(Goodbye { reason: "größer".into(), refusal: None })).unwrap();
    let decoded = decode(&encoder.finish(), &limits).unwrap();
    assert_eq!(decoded.entries, [Ok(Entry::Goodbye(Goodbye { reason: "grö".into(), refusal: None }))]);
}

#[test]
fn every_refusal_and_every_time_arrives_as_it_was_sent() {
    let replies: Vec<_> = REFUSALS
        .iter()
        .map(|&refusal| {
            let retry_after = Some(Duration::from_micros(1500));
            let answer =
                Answer::Refused(Refused { refusal, ambiguous: true, retry_after, message: "m".into() });
            Reply {
                registration: Registration(1),
                id: CallId::Sequenced(2),
                attempt: 3,
                replayed: true,
                answer,
            }
        })
        .collect();
    let decoded = decode(&message(replies.iter().cloned().map(Entry::Reply)), &Limits::default()).unwrap();
    for (sent, got) in replies.into_iter().zip(decoded.entries) {
        let mut expected = sent;
        if let Answer::Refused(refused) = &mut expected.answer {
            refused.retry_after = Some(Duration::from_millis(2)); // rounded up
        }
        assert_eq!(got, Ok(Entry::Reply(expected)));
    }
}

#[test]
fn a_body_that_is_not_where_the_header_says_is_answered_and_spoils_no_other() {
    let limits = Limits { body: 64, ..Limits::default() };
    let frame = Bytes::from(vec![0; 128]);
    for (frame_number, offset, length, refusal) in [
        (1, 0, 8, Refusal::Malformed),
        (u16::MAX, 0, 8, Refusal::Malformed),
        (0, 4, 8, Refusal::Malformed),
        (0, 128, 8, Refusal::Malformed),
        (0, 120, 16, Refusal::Malformed),
        (0, u32::MAX - 7, 64, Refusal::Malformed),
        (0, 0, 72, Refusal::TooLarge),
        (0, 0, u32::MAX, Refusal::TooLarge),
    ] {
        let header = call_with_body_at(frame_number, offset, length);
        let decoded = decode(&[header, frame.clone()], &limits).unwrap();
        let bad = decoded.entries[0].clone().unwrap_err();
        let (registration, id) = (Registration(7), CallId::Sequenced(1));
        assert_eq!(bad.subject, Subject::Call { registration, incarnation: Incarnation(8), id, attempt: 3 });
        assert_eq!(bad.refusal, refusal);
        let Some(Entry::Reply(reply)) = bad.answer() else { panic!("a call is answered") };
        assert_eq!((reply.registration, reply.id, reply.attempt), (registration, id, 3));
    }
    assert!(decode(&[call_with_body_at(0, 120, 8), frame], &limits).unwrap().entries[0].is_ok());
    let nowhere = call_with_body_at(9, 3, 0);
    assert!(
        decode(&[nowhere], &limits).unwrap().entries[0].is_ok(),
        "without a body its place means nothing"
    );
}

#[test]
fn calls_without_registration_number_or_attempt_are_malformed() {
    let with = |registration, number, attempt| {
        let header = header(|header| {
            let mut call = header.init_entries(1).get(0).init_call();
            call.reborrow().init_registration().set_high(registration);
            call.reborrow().init_id().set_sequenced(number);
            call.set_attempt(attempt);
        });
        decode(&[header], &Limits::default()).unwrap().entries.remove(0)
    };
    assert!(with(1, 1, 1).is_ok());
    for bad in [with(0, 1, 1), with(1, 0, 1), with(1, 1, 0)] {
        assert_eq!(refusal_of(&bad), Refusal::Malformed);
        let answer = bad.unwrap_err().answer().unwrap();
        let echoed = decode(&message([answer.clone()]), &Limits::default()).unwrap();
        assert_eq!(echoed.entries, [Ok(answer)], "the refusal itself can be read, whatever the call was");
    }
}

#[test]
fn unknown_kinds_are_skipped_and_unknown_words_are_incompatible() {
    let frames = message([Entry::Ping(1), Entry::Ping(2)]);
    let mut bytes = frames[0].to_vec();
    let kind = 8 + 3 * 8 + 2; // segment table; root pointer, root, tag; after the frame's number
    assert_eq!(bytes[kind], 7, "a ping");
    for newer in [0, 12, 200] {
        bytes[kind] = newer;
        let decoded = decode(&[Bytes::from(bytes.clone())], &Limits::default()).unwrap();
        assert_eq!((decoded.skipped, decoded.entries), (1, vec![Ok(Entry::Ping(2))]));
    }

    let mut bytes = call_with_body_at(0, 0, 0).to_vec();
    let retry = bytes.len() - (16 + 1) * 8 + 5 * 8 + 4; // the call is what the header ends with
    assert_eq!(bytes[retry - 2..retry + 2], [0; 4], "method and class");
    bytes[retry] = 4;
    let decoded = decode(&[Bytes::from(bytes)], &Limits::default()).unwrap();
    assert_eq!(refusal_of(&decoded.entries[0]), Refusal::Incompatible);
}

#[test]
fn names_of_metadata_are_utf8_and_texts_for_people_are_read_as_well_as_they_can_be() {
    let raw = |bytes| capnp::text::Reader(bytes);
    let header = header(|header| {
        let mut entries = header.init_entries(2);
        let mut call = entries.reborrow().get(0).init_call();
        call.reborrow().init_registration().set_low(1);
        call.reborrow().init_id().set_sequenced(1);
        call.set_attempt(1);
        call.init_metadata(1).get(0).set_name(raw(b"\xff"));
        entries.get(1).init_reply().set_failed(raw(b"bro\xffken"));
    });
    let decoded = decode(&[header], &Limits::default()).unwrap();
    assert_eq!(refusal_of(&decoded.entries[0]), Refusal::Malformed);
    let Ok(Entry::Reply(Reply { answer: Answer::Failed(why), .. })) = &decoded.entries[1] else {
        panic!("{:?}", decoded.entries[1]);
    };
    assert_eq!(why, "bro\u{fffd}ken");
}

#[test]
fn a_message_beyond_the_limits_is_refused_as_a_whole() {
    let ping = message([Entry::Ping(1), Entry::Ping(2)]).remove(0);
    let refusal = |frames: &[Bytes], limits| decode(frames, &limits).expect_err("refused").refusal;
    let limits = Limits::default();
    assert_eq!(refusal(&[], limits), Refusal::Malformed);
    assert_eq!(refusal(&[Bytes::new()], limits), Refusal::Malformed);
    assert_eq!(refusal(&[ping.slice(..ping.len() - 1)], limits), Refusal::Malformed);
    assert_eq!(refusal(&[Bytes::from(vec![0xff; 64])], limits), Refusal::Malformed);
    let one = std::slice::from_ref(&ping);
    let header = u32::try_from(ping.len()).unwrap() - 1;
    assert_eq!(refusal(one, Limits { header, ..limits }), Refusal::TooLarge);
    assert_eq!(refusal(one, Limits { entries: 1, ..limits }), Refusal::TooLarge);
    assert_eq!(refusal(&[ping.clone(), ping.clone()], Limits { frames: 1, ..limits }), Refusal::TooLarge);
    assert_eq!(decode(one, &limits).unwrap().entries.len(), 2);
}

#[test]
fn a_few_bytes_do_not_stand_for_many() {
    // A list of 2^29 - 1 structs of no size, which Cap'n Proto could be told in one word.
    let mut zero_sized = vec![0; 32];
    zero_sized[4] = 3; // one segment of three words
    zero_sized[8..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0]); // a struct of one pointer
    zero_sized[16..24].copy_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]); // a list of structs in no words
    zero_sized[24..32].copy_from_slice(&[0xfc, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    let refused = decode(&[Bytes::from(zero_sized)], &Limits::default()).unwrap_err();
    assert!(refused.message.contains("limit exceeded"), "{refused}");

    // A list of structs may be written as a list of bytes, a byte for each, since bytes may grow into structs.
    let closed = vec![(1, 1); 16];
    let mut bytes =
        message([Entry::Ack(Ack { registration: Registration(1), below: 0, closed })]).remove(0).to_vec();
    let pointer = 8 + 3 * 8 + 4 * 8 + 2 * 8; // segment table; root pointer, root, tag; entry; number, registration
    assert_eq!(
        bytes[pointer + 4..pointer + 8],
        ((32 << 3) | 7u32).to_le_bytes(),
        "a list of 32 words of structs"
    );
    bytes[pointer + 4..pointer + 8].copy_from_slice(&(((33 * 8) << 3) | 2u32).to_le_bytes());
    let decoded = decode(&[Bytes::from(bytes)], &Limits::default()).unwrap();
    assert_eq!(refusal_of(&decoded.entries[0]), Refusal::Malformed);

    // A thousand calls that name the same kilobyte: the first may have it, and with it all that the frame holds.
    let shared = header(|header| {
        let mut entries = header.init_entries(1000);
        for at in 0..1000 {
            let mut entry = entries.reborrow().get(at);
            entry.set_length(1024);
            entry.init_event();
        }
    });
    let decoded = decode(&[shared, Bytes::from(vec![0; 1024])], &Limits::default()).unwrap();
    assert!(decoded.entries[0].is_ok());
    assert!(decoded.entries[1..].iter().all(|entry| refusal_of(entry) == Refusal::Malformed));
}

#[test]
fn a_saved_call_comes_back_and_damaged_bytes_are_an_error() {
    let key = Key { key: u128::MAX - 5, issued: WallTime(1), expiry: WallTime(2) };
    let metadata = vec![("tenant".to_owned(), Bytes::from_static(b"blue")), (String::new(), Bytes::new())];
    let call = SavedCall { key, interface: 3, method: 4, body: Bytes::from(vec![5; 24]), metadata };
    let bytes = encode_saved(&call);
    assert_eq!(bytes[..4], [0; 4], "one segment");
    let plain = SavedCall { metadata: Vec::new(), ..call.clone() };
    assert_eq!(encode_saved(&plain)[..4], [0; 4], "one segment");
    assert_eq!(decode_saved(&encode_saved(&plain)).unwrap(), plain);
    let back = decode_saved(&bytes).unwrap();
    assert_eq!(back, call);
    assert_eq!(back.body.as_ptr().addr() % 8, 0);

    for cut in 0..bytes.len() {
        assert!(decode_saved(&bytes[..cut]).is_err(), "{cut}");
    }
    let mut newer = bytes.clone();
    newer[16] = 3; // segment table, root pointer, version
    assert!(decode_saved(&newer).unwrap_err().to_string().contains("version"));
    let mut sequenced = bytes.clone();
    let id = 8 + 6 * 8; // segment table; root pointer, root
    sequenced[id + 8] = 0;
    assert!(decode_saved(&sequenced).unwrap_err().to_string().contains("sequenced"));
}

/// As a library of version 1 wrote it: the body of 8 bytes, key 7, issued 1, expiry 2, interface 3, method 4.
#[test]
fn a_call_that_was_saved_before_metadata_were_is_read() {
    let header = [0xb_0000_0000, 0x2_0002_0000_0000, 0x4_0001, 3, 0x5_0000_0004, 0x42_0000_0015];
    let words = header.into_iter().chain([0, 1, 7, 1, 2, 0x0505_0505_0505_0505_u64]);
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let call = decode_saved(&bytes).unwrap();
    let key = Key { key: 7, issued: WallTime(1), expiry: WallTime(2) };
    assert_eq!(
        call,
        SavedCall { key, interface: 3, method: 4, body: Bytes::from(vec![5; 8]), metadata: Vec::new() }
    );
}

#[test]
fn both_speak_the_lower_version() {
    assert_eq!(negotiate(0), None);
    assert_eq!(negotiate(1), Some(1));
    assert_eq!(negotiate(u16::MAX), Some(VERSION));
}
