//! Statement 18, and hostile numbers: at a bound the machine sheds, and forgets nothing.

use super::*;

const OVERLOADED: (Refusal, bool) = (Refusal::Overloaded, false);

#[test]
fn s18_a_full_window_sheds_until_acknowledged() {
    let mut rig = Rig::with(Limits { window: 4, ..Limits::default() });
    let client = rig.client();
    for number in 1..=4 {
        rig.run(&client, &client.call(number), b"reply");
    }
    assert_eq!(rig.refusal(&client, &client.call(5)), OVERLOADED);
    for number in 1..=4 {
        assert!(rig.answer(&client, &client.call(number)).replayed, "nothing was evicted");
    }
    rig.ack(&client, 2, &[]);
    assert_eq!(rig.refusal(&client, &client.call(5)), OVERLOADED, "the mark stays");
    rig.run(&client, &attempt(&client.call(5), 2), b"reply");
    assert_eq!(rig.refusal(&client, &client.call(6)), OVERLOADED);
    let other = rig.client();
    rig.run(&other, &other.call(1), b"others are not disturbed");
}

/// Acknowledging what still runs frees no place: a client cannot have more than a window of handlers at work.
#[test]
fn s18_runs_are_bounded_though_acknowledged() {
    let mut rig = Rig::with(Limits { window: 4, ..Limits::default() });
    let client = rig.client();
    let runs: Vec<_> = (1..=4).map(|number| rig.execute(&client, &client.call(number))).collect();
    rig.ack(&client, 5, &[]);
    assert_eq!(rig.refusal(&client, &client.call(5)), OVERLOADED);
    assert_eq!(rig.refusal(&client, &client.keyed(1)), OVERLOADED);
    rig.complete(runs[0], ok(b"reply"));
    rig.run(&client, &client.call(6), b"reply");
}

/// Marks are bounded too. Where there is no room for one, the refusal does not deny, and no call that needs one runs.
#[test]
fn s18_without_room_for_a_mark_nothing_is_denied() {
    let mut rig = Rig::with(Limits { window: 4, ..Limits::default() });
    let client = rig.client();
    for number in 1..=8 {
        assert_eq!(rig.shed(&client, &client.call(number), Refusal::Overloaded), OVERLOADED);
    }
    for number in 9..100 {
        assert_eq!(rig.shed(&client, &client.call(number), Refusal::Overloaded), (Refusal::Overloaded, true));
        let never = classed(client.call(number), RetryClass::Never);
        assert_eq!(rig.refusal(&client, &never), (Refusal::Overloaded, true));
    }
    assert_eq!(rig.dedup.counters().notes, 8);
    rig.run(&client, &client.call(9), b"its refusal left it open, and now it runs");
}

/// No acknowledgement ends the mark of a key, so they have a bound of their own.
#[test]
fn s18_marks_of_keys_leave_numbers_their_room() {
    let mut rig = Rig::with(Limits { window: 4, ..Limits::default() });
    let client = rig.client();
    for key in 1..=8 {
        assert_eq!(rig.shed(&client, &client.keyed(key), Refusal::Overloaded), OVERLOADED);
    }
    assert_eq!(rig.shed(&client, &client.keyed(9), Refusal::Overloaded), (Refusal::Overloaded, true));
    rig.run(&client, &classed(client.call(1), RetryClass::ReadOnly), b"the overload is over");
    for number in 2..=8 {
        assert_eq!(rig.shed(&client, &client.call(number), Refusal::Overloaded), OVERLOADED);
    }
    assert_eq!(rig.shed(&client, &client.call(9), Refusal::Overloaded), (Refusal::Overloaded, true));
}

/// A tombstone says that the call ran. A failure has not told that much.
#[test]
fn s18_without_room_a_failure_is_kept_without_its_text() {
    let mut rig = Rig::with(Limits { session_bytes: 8, ..Limits::default() });
    let client = rig.client();
    let runs: Vec<_> = (1..=3).map(|number| rig.execute(&client, &client.call(number))).collect();
    rig.complete(runs[0], ok(b"12345678"));
    rig.complete(runs[1], Terminal::Failed("it broke in the middle".into()));
    rig.complete(runs[2], ok(b"123"));
    assert_eq!(rig.answer(&client, &client.call(2)).answer, Answer::Failed(String::new()));
    assert_eq!(rig.refusal(&client, &client.call(3)), (Refusal::ReplyEvicted, true));
}

#[test]
fn s18_records_in_all_are_bounded() {
    let mut rig = Rig::with(Limits { records: 3, keyed: 2, ..Limits::default() });
    let (ann, bob) = (rig.client(), rig.client());
    rig.run(&ann, &ann.call(1), b"reply");
    rig.run(&ann, &ann.call(2), b"reply");
    rig.run(&bob, &bob.call(1), b"reply");
    assert_eq!(rig.refusal(&bob, &bob.call(2)), OVERLOADED);
    rig.run(&bob, &bob.keyed(1), b"reply");
    rig.run(&bob, &bob.keyed(2), b"reply");
    assert_eq!(rig.refusal(&bob, &bob.keyed(3)), OVERLOADED);
    let overloaded_or_open = (Refusal::Overloaded, true);
    assert_eq!(
        rig.refusal(&bob, &classed(bob.keyed(4), RetryClass::ReadOnly)),
        overloaded_or_open,
        "runs are bounded too"
    );
    rig.ack(&ann, 2, &[]);
    rig.run(&bob, &classed(bob.keyed(4), RetryClass::ReadOnly), b"needs no record");
    rig.run(&bob, &attempt(&bob.call(2), 2), b"reply");
    rig.pass(Duration::from_secs(3600));
    let client = rig.client();
    assert_eq!(rig.dedup.counters().keyed, 0, "keyed records go when they expire");
    rig.run(&client, &client.call(1), b"reply");
}

#[test]
fn s18_bytes_are_bounded() {
    let mut rig = Rig::with(Limits { session_bytes: 8, bytes: 24, keyed_bytes: 8, ..Limits::default() });
    let client = rig.client();
    rig.run(&client, &client.call(1), b"12345678");
    assert_eq!(rig.refusal(&client, &client.call(2)), OVERLOADED);
    rig.run(&client, &client.keyed(1), b"12345678");
    assert_eq!(rig.refusal(&client, &client.keyed(2)), OVERLOADED);
    for _ in 0..2 {
        let other = rig.client();
        rig.run(&other, &other.call(1), b"12345678");
    }
    let last = rig.client();
    assert_eq!(rig.refusal(&last, &last.call(1)), OVERLOADED);
    rig.ack(&client, 2, &[]);
    rig.run(&last, &attempt(&last.call(1), 2), b"reply");
    assert_eq!(rig.dedup.counters().bytes, 8 * 3 + 5);
}

#[test]
fn s18_a_reply_too_large_to_keep_leaves_a_tombstone() {
    let mut rig = Rig::with(Limits { reply_bytes: 4, session_bytes: 8, ..Limits::default() });
    let client = rig.client();
    rig.run(&client, &client.call(1), b"12345");
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::ReplyEvicted, true));
    rig.run(&client, &client.keyed(1), b"12345");
    assert_eq!(rig.refusal(&client, &client.keyed(1)), (Refusal::ReplyEvicted, true));
    let runs: Vec<_> = (2..=4).map(|number| rig.execute(&client, &client.call(number))).collect();
    for run in runs {
        assert_eq!(rig.complete(run, ok(b"1234"))[0].reply.answer, Answer::Ok(Bytes::from_static(b"1234")));
    }
    assert!(rig.answer(&client, &client.call(3)).replayed);
    assert_eq!(
        rig.refusal(&client, &client.call(4)),
        (Refusal::ReplyEvicted, true),
        "a quarter above the bound"
    );
    assert_eq!((rig.dedup.counters().bytes, rig.dedup.counters().tombstones), (8, 3));
}

#[test]
fn s18_sessions_are_bounded_and_none_ends_before_its_time() {
    let mut rig = Rig::with(Limits { sessions: 3, ..Limits::default() });
    let clients: Vec<_> = (0..3).map(|_| rig.client()).collect();
    rig.run(&clients[0], &clients[0].call(1), b"reply");
    let refused = rig.greet(PrincipalId::ANYONE, None).unwrap_err();
    assert_eq!((refused.refusal, refused.ambiguous), OVERLOADED);
    assert!(rig.greet(PrincipalId::ANYONE, Some(clients[0].registration)).is_ok(), "known ones resume");
    rig.now.moment += rig.dedup.limits().unused_retention;
    let newcomer = rig.client();
    assert_eq!(rig.dedup.counters().sessions, 2, "those that were never used have made room");
    assert!(rig.answer(&clients[0], &attempt(&clients[0].call(1), 2)).replayed);
    rig.run(&newcomer, &newcomer.call(1), b"reply");
}

#[test]
fn s18_joins_are_bounded() {
    let mut rig = Rig::with(Limits { joins: 3, ..Limits::default() });
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    assert_eq!(rig.admit(&client, &attempt(&client.call(1), 2)), Admission::Joined);
    assert_eq!(rig.admit(&client, &attempt(&client.call(1), 3)), Admission::Joined);
    assert_eq!(rig.refusal(&client, &attempt(&client.call(1), 4)), (Refusal::InProgress, true));
    assert_eq!(rig.admit(&client, &attempt(&client.call(1), 3)), Admission::Joined, "a copy takes no place");
    assert_eq!(rig.complete(execution, unavailable()).len(), 3);
}

/// A keyed nonce that claims to be valid for ever would be kept for ever.
#[test]
fn s18_an_absurd_expiry_is_refused() {
    let mut rig = Rig::new();
    let client = rig.client();
    let CallId::Keyed(key) = client.keyed(5).id else { unreachable!() };
    let call = Call { id: CallId::Keyed(Key { expiry: WallTime(u64::MAX), ..key }), ..client.call(1) };
    assert_eq!(rig.refusal(&client, &call), (Refusal::TooLarge, false));
    assert_eq!(rig.refusal(&client, &call), (Refusal::TooLarge, false), "marked");
}

#[test]
fn hostile_acknowledgements_cost_nothing() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.run(&client, &client.call(1), b"reply");
    rig.ack(&client, 0, &[(u64::MAX, 0), (3, u64::MAX), (0, 0), (u64::MAX, u64::MAX)]);
    assert_eq!(rig.refusal(&client, &client.call(u64::MAX)), (Refusal::Stale, true));
    assert!(rig.answer(&client, &client.call(1)).replayed);
    rig.ack(&client, u64::MAX, &[]);
    for number in [0, 1, 2, u64::MAX - 1, u64::MAX] {
        assert_eq!(rig.refusal(&client, &client.call(number)), (Refusal::Stale, true));
    }
    assert_eq!((rig.dedup.counters().records, rig.dedup.counters().notes), (0, 0));
}

/// Holes in the acknowledged numbers are bounded by the window; what does not fit stays open, and its record stays.
#[test]
fn ranges_are_bounded() {
    let mut rig = Rig::with(Limits { window: 4, ..Limits::default() });
    let client = rig.client();
    rig.run(&client, &client.call(100), b"reply");
    let ranges: Vec<_> = (1..=60).map(|n| (n * 2, n * 2)).collect();
    rig.ack(&client, 0, &ranges);
    for range in ranges {
        rig.ack(&client, 0, &[range]);
    }
    assert_eq!(rig.dedup.counters().notes, 1 + 4);
    assert!(rig.answer(&client, &client.call(100)).replayed);
}

#[test]
fn number_zero_and_attempt_zero_never_run() {
    let mut rig = Rig::new();
    let client = rig.client();
    assert_eq!(rig.refusal(&client, &client.call(0)), (Refusal::Stale, true));
    assert_eq!(rig.refusal(&client, &attempt(&client.call(1), 0)).0, Refusal::Malformed);
    assert_eq!(rig.refusal(&client, &attempt(&client.keyed(1), 0)).0, Refusal::Malformed);
    rig.run(&client, &attempt(&client.call(2), u32::MAX), b"reply");
}

#[test]
fn versions_begin_at_one_and_the_lower_one_is_spoken() {
    let mut rig = Rig::new();
    let minted = Minted { registration: Registration(1), stamp: Stamp(1) };
    let hello = |version| Hello { version, ..Hello::default() };
    let refused = rig.dedup.hello(&hello(0), PrincipalId::ANYONE, minted, rig.now).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Incompatible);
    let welcome = rig.dedup.hello(&hello(u16::MAX), PrincipalId::ANYONE, minted, rig.now).unwrap();
    assert_eq!(welcome.version, crate::protocol::wire::VERSION);
    assert!(rig.dedup.hello(&hello(1), PrincipalId::ANYONE, minted, rig.now).is_err(), "dice that repeat");
}

#[test]
fn a_sweep_tells_when_to_come_again() {
    let mut rig = Rig::new();
    assert_eq!(rig.dedup.sweep(rig.now), None);
    let client = rig.client();
    let unused = rig.now.moment + rig.dedup.limits().unused_retention;
    assert_eq!(rig.dedup.sweep(rig.now), Some(unused));
    rig.run(&client, &client.keyed(5), b"reply");
    for _ in 0..200 {
        rig.client();
    }
    rig.now.moment = unused;
    assert_eq!(rig.dedup.sweep(rig.now), Some(unused), "a bounded amount at a time");
    while rig.dedup.sweep(rig.now) == Some(unused) {}
    assert_eq!(rig.dedup.counters().sessions, 1);
    let retention = rig.dedup.limits().retention;
    assert_eq!(rig.dedup.sweep(rig.now), Some(unused - rig.dedup.limits().unused_retention + retention));
    rig.pass(retention);
    assert_eq!(rig.dedup.counters().keyed, 1);
    let expiry = rig.dedup.sweep(rig.now).unwrap() - rig.now.moment;
    rig.pass(expiry);
    assert_eq!((rig.dedup.counters().keyed, rig.dedup.sweep(rig.now)), (0, None));
}

/// Messages of handlers are kept with the record, so they are cut: at a character, not within one.
#[test]
fn long_messages_are_cut() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    let deliveries = rig.complete(execution, Terminal::Failed(format!("x{}", "é".repeat(5_000))));
    assert!(matches!(&deliveries[0].reply.answer, Answer::Failed(message) if message.len() == 1_023));
}

/// What is kept is copied: it may be a slice of a read buffer that it would hold fast.
#[test]
fn kept_replies_are_copies() {
    let mut rig = Rig::new();
    let client = rig.client();
    let buffer = Bytes::from(vec![7; 65_536]);
    let execution = rig.execute(&client, &client.call(1));
    let deliveries = rig.complete(execution, Terminal::Ok(buffer.slice(100..164)));
    drop(deliveries);
    assert!(buffer.is_unique(), "the record holds no part of the buffer");
    let Answer::Ok(body) = rig.answer(&client, &client.call(1)).answer else {
        panic!("a reply was expected")
    };
    assert_eq!(body, buffer.slice(100..164));
}
