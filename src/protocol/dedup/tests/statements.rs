//! The numbered statements.

use super::*;

/// The connection, and with it all that a peer may choose, is no part of a call's identity: from another connection it is the same call.
/// Another registration with the same number is another call; another principal cannot use the registration.
#[test]
fn s01_identity_is_principal_registration_and_number() {
    let mut rig = Rig::new();
    let ann = rig.greet(PrincipalId(1), None).unwrap();
    rig.run(&ann, &ann.call(1), b"ann's");
    let moved = Client { from: ConnectionId(99), ..ann };
    assert_eq!(
        rig.answer(&moved, &attempt(&ann.call(1), 2)).answer,
        Answer::Ok(Bytes::from_static(b"ann's"))
    );

    let bob = rig.greet(PrincipalId(1), None).unwrap();
    rig.run(&bob, &bob.call(1), b"bob's");
    let eve = Client { principal: PrincipalId(2), ..ann };
    assert_eq!(rig.refusal(&eve, &attempt(&ann.call(1), 3)), (Refusal::SessionUnknown, true));
}

/// For a keyed call the session is no part of the identity either: the next life of a client gets the reply of the last.
#[test]
fn s01_identity_is_principal_and_key() {
    let mut rig = Rig::new();
    let (life, next) = (rig.client(), rig.client());
    rig.run(&life, &life.keyed(5), b"done");
    let reply = rig.answer(&next, &next.keyed(5));
    assert_eq!((reply.registration, reply.replayed), (next.registration, true));
    assert_eq!(reply.answer, Answer::Ok(Bytes::from_static(b"done")));

    let other = rig.greet(PrincipalId(2), None).unwrap();
    rig.run(&other, &other.keyed(5), b"another call");
}

#[test]
fn s02_a_retry_joins_the_attempt_that_runs() {
    let mut rig = Rig::new();
    let client = rig.client();
    let first = client.call(1);
    let execution = rig.execute(&client, &first);
    let reconnected = Client { from: ConnectionId(50), ..client };
    assert_eq!(rig.admit(&reconnected, &attempt(&first, 3)), Admission::Joined);
    assert_eq!(rig.admit(&client, &attempt(&first, 2)), Admission::Joined, "a delayed attempt");
    assert_eq!(rig.admit(&client, &first), Admission::Joined, "a copy");

    let deliveries = rig.complete(execution, ok(b"reply"));
    assert_eq!(deliveries.len(), 1, "to where the last attempt came from: {deliveries:?}");
    assert_eq!((deliveries[0].to, deliveries[0].reply.attempt), (ConnectionId(50), 3));
    let replay = rig.answer(&client, &attempt(&first, 4));
    assert_eq!(replay.answer, deliveries[0].reply.answer, "byte-identical");
    assert_eq!(rig.dedup.counters().admitted, 1);
}

/// Two lives of a client wait for one keyed call: each is told.
#[test]
fn s02_every_life_that_joined_a_keyed_call_is_answered() {
    let mut rig = Rig::new();
    let (life, next) = (rig.client(), rig.client());
    let execution = rig.execute(&life, &life.keyed(5));
    assert_eq!(rig.admit(&next, &next.keyed(5)), Admission::Joined);
    let to: Vec<_> =
        rig.complete(execution, ok(b"reply")).iter().map(|d| (d.to, d.reply.registration)).collect();
    assert_eq!(to, [(life.from, life.registration), (next.from, next.registration)]);
}

#[test]
fn s03_a_retry_after_completion_gets_the_stored_reply() {
    let mut rig = Rig::new();
    let client = rig.client();
    let fault = Bytes::from_static(b"no such order");
    for (number, terminal, answer) in [
        (1, ok(b"reply"), Answer::Ok(Bytes::from_static(b"reply"))),
        (2, Terminal::Declined { fault: 9, body: fault.clone() }, Answer::Declined { fault: 9, body: fault }),
        (3, Terminal::Failed("broken".into()), Answer::Failed("broken".into())),
    ] {
        let execution = rig.execute(&client, &client.call(number));
        let deliveries = rig.complete(execution, terminal);
        assert!(!deliveries[0].reply.replayed && deliveries[0].reply.answer == answer);
        for next in 1..4 {
            let reply = rig.answer(&client, &attempt(&client.call(number), next));
            assert!(reply.replayed && reply.answer == answer, "{reply:?}");
        }
    }
    assert_eq!(rig.dedup.counters().replayed, 9);
}

#[test]
fn s04_another_method_or_body_under_the_same_nonce_is_a_mismatch() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        let execution = rig.execute(&client, &call);
        let others = [
            Call { method: 4, ..attempt(&call, 2) },
            Call { interface: 1, ..attempt(&call, 2) },
            Call { body: Bytes::from_static(b"others"), ..attempt(&call, 2) },
        ];
        for other in &others {
            assert_eq!(rig.refusal(&client, other), (Refusal::Mismatch, true), "while it runs");
        }
        assert_eq!(rig.complete(execution, ok(b"reply")).len(), 1, "the mismatches wait for nothing");
        for other in &others {
            assert_eq!(rig.refusal(&client, other), (Refusal::Mismatch, true), "afterwards");
        }
        let untouched = rig.answer(&client, &attempt(&call, 2));
        assert_eq!(untouched.answer, Answer::Ok(Bytes::from_static(b"reply")));
    }
    assert_eq!(rig.dedup.counters().admitted, 2);
}

#[test]
fn s05_below_the_watermark_is_stale_even_a_delayed_first_copy() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.run(&client, &client.call(1), b"reply");
    let later = Call { acked_below: 5, ..client.call(7) };
    rig.run(&client, &later, b"reply");
    for number in [0, 1, 2, 4] {
        assert_eq!(rig.refusal(&client, &client.call(number)), (Refusal::Stale, true), "number {number}");
    }
    assert_eq!(
        rig.refusal(&client, &Call { acked_below: 9, ..client.call(8) }),
        (Refusal::Stale, true),
        "by itself"
    );
    rig.run(&client, &client.call(9), b"open");
    assert_eq!(rig.dedup.counters().records, 1, "what is acknowledged is forgotten at once");
}

/// One slow call does not hold up the others' records: ranges above the watermark close them.
#[test]
fn s05_a_number_in_an_acknowledged_range_is_stale() {
    let mut rig = Rig::new();
    let client = rig.client();
    let slow = rig.execute(&client, &client.call(1));
    for number in 2..10 {
        rig.run(&client, &client.call(number), b"reply");
    }
    rig.ack(&client, 1, &[(2, 5), (7, 9)]);
    assert_eq!(rig.dedup.counters().records, 2, "the slow one and number 6");
    assert_eq!(rig.refusal(&client, &client.call(5)), (Refusal::Stale, true));
    assert!(rig.answer(&client, &client.call(6)).replayed);
    assert_eq!(rig.complete(slow, ok(b"reply")).len(), 1);
    rig.ack(&client, 7, &[]);
    assert_eq!((rig.dedup.counters().records, rig.dedup.counters().notes), (0, 0), "the range was absorbed");
    assert_eq!(rig.refusal(&client, &client.call(9)), (Refusal::Stale, true));
}

#[test]
fn s06_the_watermark_only_rises() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.ack(&client, 5, &[]);
    rig.ack(&client, 2, &[(3, 3)]);
    assert_eq!(rig.refusal(&client, &Call { acked_below: 1, ..client.call(4) }), (Refusal::Stale, true));
    let again = rig.greet(client.principal, Some(client.registration)).unwrap();
    assert_eq!(again.registration, client.registration);
    assert_eq!(rig.refusal(&again, &again.call(4)), (Refusal::Stale, true), "a hello with an old number");
}

/// Acknowledged while it runs: it runs on, nobody is told, nothing stays, and no copy starts it again.
#[test]
fn s06_the_watermark_never_collects_a_running_record() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    assert!(rig.dedup.started(execution));
    rig.ack(&client, 2, &[]);
    assert_eq!(rig.dedup.counters().records, 1);
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::Stale, true));
    rig.pass(Duration::from_secs(3600));
    assert_eq!(rig.dedup.counters().sessions, 1, "a session with a running call stays");
    assert_eq!(rig.complete(execution, ok(b"reply")), []);
    assert_eq!(rig.dedup.counters().records, 0);
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::Stale, true));
}

#[test]
fn s07_unknown_session_is_refused() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.run(&client, &client.call(1), b"reply");
    let stranger = Client { registration: Registration(12345), ..client };
    assert_eq!(rig.refusal(&stranger, &stranger.call(1)), (Refusal::SessionUnknown, true));

    rig.pass(rig.dedup.limits().retention);
    for call in [client.call(1), attempt(&client.call(2), 2), client.keyed(5)] {
        assert_eq!(rig.refusal(&client, &call), (Refusal::SessionUnknown, true), "a call registers nothing");
    }
    assert_eq!((rig.dedup.counters().sessions, rig.dedup.counters().records), (0, 0));
}

/// What a hello has closed are numbers of the registration that it names. If that is gone, the new one begins with all of them open.
#[test]
fn s07_a_new_session_has_closed_nothing() {
    let mut rig = Rig::new();
    let minted = Minted { registration: Registration(9), stamp: Stamp(9) };
    let hello = Hello { version: 1, resume: Some(Registration(5)), acked_below: 4, ..Hello::default() };
    let welcome = rig.dedup.hello(&hello, PrincipalId::ANYONE, minted, rig.now).unwrap();
    assert_eq!(welcome.registration, minted.registration);
    let client = Client { registration: welcome.registration, stamp: welcome.stamp, ..rig.client() };
    rig.run(&client, &client.call(1), b"reply");
}

/// In a memory store the generation is the incarnation. What was sent to the last one is refused by the next: it names the other
/// incarnation, and if the client resends it under the new one, the registration is not known.
#[test]
fn s08_a_call_of_another_generation_is_refused() {
    let mut rig = Rig::new();
    let client = rig.client();
    let _ = rig.execute(&client, &client.call(1));
    rig.dedup = Dedup::new(
        Identity { incarnation: Incarnation(8), generation: 8, born: rig.now.wall, ..Identity::default() },
        Limits::default(),
    );
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::HelloFirst, true));
    let resumed = rig.greet(client.principal, Some(client.registration)).unwrap();
    assert_ne!(resumed.registration, client.registration, "a registration is never created again");
    let resent = Call { incarnation: Incarnation(8), ..attempt(&client.call(1), 2) };
    assert_eq!(rig.refusal(&client, &resent), (Refusal::SessionUnknown, true));
    let keyed = Call { incarnation: Incarnation(8), ..resumed.keyed(5) };
    assert_eq!(rig.refusal(&resumed, &keyed), (Refusal::Expired, true), "minted before this store began");
    assert_eq!(rig.dedup.counters().admitted, 0);
}

/// The table of what a handler may answer: kept, or dropped so that a later attempt runs.
#[test]
fn s11_the_answer_decides_what_is_kept() {
    let mut rig = Rig::new();
    let client = rig.client();
    let kept = [
        ok(b""),
        Terminal::Failed("x".into()),
        Terminal::Declined { fault: 1, body: Bytes::new() },
        Terminal::Unknown,
    ];
    let dropped = [
        (unavailable(), Refusal::Unavailable, false),
        (interrupted(), Refusal::Interrupted, true),
        (Terminal::NotStarted(Shed::new(Refusal::Deadline)), Refusal::Deadline, false),
        (Terminal::NotStarted(Shed::new(Refusal::ShuttingDown)), Refusal::ShuttingDown, false),
    ];
    for (number, terminal) in (1..).zip(kept) {
        for call in [client.call(number), client.keyed(number.into())] {
            let execution = rig.execute(&client, &call);
            let told = rig.complete(execution, terminal.clone()).remove(0).reply.answer;
            assert_eq!(rig.answer(&client, &attempt(&call, 2)).answer, told, "kept");
        }
    }
    for (number, (terminal, why, ambiguous)) in (10..).zip(dropped) {
        for call in [client.call(number), client.keyed(number.into())] {
            let execution = rig.execute(&client, &call);
            let told = rig.complete(execution, terminal.clone());
            assert_eq!(refusal(&told[0].reply), (why, ambiguous));
            assert_eq!(rig.refusal(&client, &call), (why, ambiguous), "a copy gets the same refusal again");
            rig.run(&client, &attempt(&call, 2), b"the next attempt runs");
        }
    }
}

/// What is dropped answers every attempt that joined, so that the client can settle each.
#[test]
fn s11_a_dropped_run_settles_every_attempt_that_joined() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        let execution = rig.execute(&client, &call);
        assert_eq!(rig.admit(&client, &attempt(&call, 2)), Admission::Joined);
        let told = rig.complete(execution, unavailable());
        assert_eq!(told.iter().map(|d| d.reply.attempt).collect::<Vec<_>>(), [1, 2]);
        assert!(told.iter().all(|d| refusal(&d.reply) == (Refusal::Unavailable, false)));
        for copy in [1, 2] {
            let reply = rig.answer(&client, &attempt(&call, copy));
            assert_eq!(refusal(&reply), (Refusal::Unavailable, false));
            assert!(
                matches!(reply.answer, Answer::Refused(r) if r.retry_after == Some(Duration::from_millis(20)))
            );
        }
    }
}

/// A refusal that denies an execution never covers an attempt that may have had effects, even if a later attempt was refused for good.
#[test]
fn s11_an_interrupted_attempt_is_never_denied() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        let execution = rig.execute(&client, &call);
        rig.complete(execution, interrupted());
        assert_eq!(rig.shed(&client, &attempt(&call, 2), Refusal::Overloaded), (Refusal::Overloaded, false));
        assert_eq!(
            rig.refusal(&client, &call),
            (Refusal::Overloaded, true),
            "attempt 1 may have had effects"
        );
        let execution = rig.execute(&client, &attempt(&call, 3));
        assert_eq!(refusal(&rig.complete(execution, unavailable())[0].reply), (Refusal::Unavailable, false));
        assert_eq!(rig.refusal(&client, &call), (Refusal::Unavailable, true));
    }
}

/// The shell reports a panic or a time-out as failed. The handler that was timed out may still answer: too late, the first end counts.
#[test]
fn s12_a_panic_or_time_out_is_a_terminal_failure() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    assert!(rig.dedup.started(execution));
    rig.complete(execution, Terminal::Failed("timed out".into()));
    assert_eq!(rig.complete(execution, ok(b"late")), []);
    assert_eq!(rig.answer(&client, &attempt(&client.call(1), 2)).answer, Answer::Failed("timed out".into()));
    assert_eq!((rig.dedup.counters().admitted, rig.dedup.counters().late), (1, 1));
}

#[test]
fn s13_cancelling_a_started_call_changes_nothing() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    assert!(rig.dedup.started(execution));
    assert_eq!(rig.cancel(&client, &client.call(1)), None);
    assert_eq!(rig.complete(execution, ok(b"ran to its end")).len(), 1);
    assert_eq!(rig.cancel(&client, &client.call(1)), None, "nor one that has ended");
    assert!(rig.answer(&client, &attempt(&client.call(1), 2)).replayed);
}

#[test]
fn s13_a_cancelled_call_in_the_queue_never_runs_and_its_number_stays_taken() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        let execution = rig.execute(&client, &call);
        assert_eq!(rig.cancel(&client, &call), Some(execution));
        assert_eq!(rig.cancel(&client, &call), None, "once is enough");
        assert!(!rig.dedup.started(execution), "it must not be started any more");
        // Of a keyed call another life may have been, so it is not denied.
        let cancelled = (Refusal::Cancelled, matches!(call.id, CallId::Keyed(_)));
        assert_eq!(refusal(&rig.complete(execution, Terminal::Cancelled)[0].reply), cancelled);
        assert_eq!(rig.refusal(&client, &attempt(&call, 2)), cancelled);
    }
    let unseen = client.call(9);
    assert_eq!(rig.cancel(&client, &unseen), None, "a cancel that overtook its call");
    rig.run(&client, &unseen, b"reply");
}

/// A call that somebody else waits for as well is not cancelled, nor is one of another principal.
#[test]
fn s13_nobody_cancels_for_others() {
    let mut rig = Rig::new();
    let (life, next) = (rig.client(), rig.client());
    let execution = rig.execute(&life, &life.keyed(5));
    assert_eq!(rig.admit(&next, &next.keyed(5)), Admission::Joined);
    assert_eq!(rig.cancel(&life, &life.keyed(5)), None);
    assert!(rig.dedup.started(execution));
    let eve = Client { principal: PrincipalId(2), ..life };
    let queued = rig.execute(&life, &life.call(2));
    assert_eq!(rig.cancel(&eve, &life.call(2)), None);
    assert!(rig.dedup.started(queued));
}

/// The shell ends what lost its handler as unknown. Everyone who waits is told, and it stays the answer.
#[test]
fn s14_a_running_record_whose_handler_is_gone_resolves() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    assert_eq!(rig.admit(&client, &attempt(&client.call(1), 2)), Admission::Joined);
    let told = rig.complete(execution, Terminal::Unknown);
    assert_eq!(refusal(&told[0].reply), (Refusal::RecordedUnknown, true));
    assert_eq!(rig.refusal(&client, &attempt(&client.call(1), 3)), (Refusal::RecordedUnknown, true));
    rig.pass(rig.dedup.limits().retention);
    assert_eq!(rig.dedup.counters().sessions, 0, "and the session may end");
}

/// The wall clock may jump a year: sessions go by the other one.
#[test]
fn s16_retention_goes_by_the_monotonic_clock() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.run(&client, &client.call(1), b"reply");
    rig.now.wall.0 += 365 * 24 * 3600 * 1000;
    rig.pass(rig.dedup.limits().retention - Duration::from_millis(1));
    rig.now.wall.0 = 0;
    assert!(rig.answer(&client, &attempt(&client.call(1), 2)).replayed);
    rig.pass(rig.dedup.limits().retention - Duration::from_millis(1));
    rig.dedup.touch(client.registration, client.principal, rig.now);
    rig.pass(rig.dedup.limits().retention - Duration::from_millis(1));
    assert!(rig.answer(&client, &attempt(&client.call(1), 3)).replayed, "pings keep it");
    rig.pass(rig.dedup.limits().retention);
    assert_eq!(rig.refusal(&client, &attempt(&client.call(1), 4)), (Refusal::SessionUnknown, true));
}

/// No record outstays its expiry for longer.
const BUCKET: Duration = Duration::from_millis(4_096);

#[test]
fn s17_an_expired_keyed_nonce_is_refused() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.keyed(5);
    let CallId::Keyed(key) = call.id else { unreachable!() };
    rig.run(&client, &call, b"reply");
    rig.now.wall = key.expiry;
    assert!(rig.answer(&client, &attempt(&call, 2)).replayed, "it is looked up before it is refused");
    rig.pass(BUCKET);
    assert_eq!(rig.dedup.counters().keyed, 0);
    assert_eq!(rig.refusal(&client, &attempt(&call, 3)), (Refusal::Expired, true));

    let never_seen = Call { id: CallId::Keyed(Key { key: 6, ..key }), ..client.keyed(6) };
    assert_eq!(rig.refusal(&client, &never_seen), (Refusal::Expired, true));
}

/// Deleting a record raises a floor, so that a clock that steps back revives nothing.
#[test]
fn s17_the_floor_needs_no_clock() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.keyed(5);
    let CallId::Keyed(key) = call.id else { unreachable!() };
    rig.run(&client, &call, b"reply");
    rig.now.wall = key.expiry;
    rig.pass(BUCKET);
    rig.now.wall = WallTime(BORN.0 + 40_000);
    assert_eq!(rig.refusal(&client, &attempt(&call, 2)), (Refusal::Expired, true));
    let longer = Key { expiry: WallTime(key.expiry.0 + 1), ..key };
    rig.run(&client, &Call { id: CallId::Keyed(Key { key: 6, ..longer }), ..call }, b"valid for longer");
}

/// Its caller was told that it may have run and is over; so no copy of it runs later.
#[test]
fn s17_what_was_told_to_have_expired_does_not_run_when_the_clock_steps_back() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.keyed(5);
    let CallId::Keyed(key) = call.id else { unreachable!() };
    rig.now.wall = key.expiry;
    assert_eq!(rig.refusal(&client, &call), (Refusal::Expired, true));
    rig.now.wall = WallTime(BORN.0 + 40_000);
    assert_eq!(rig.refusal(&client, &call), (Refusal::Expired, true));
}

#[test]
fn s17_a_nonce_older_than_the_store_is_refused() {
    let mut rig = Rig::new();
    let client = rig.client();
    let CallId::Keyed(key) = client.keyed(5).id else { unreachable!() };
    let margin = 2 * rig.dedup.limits().clock_error.as_millis() as u64;
    for (issued, runs) in [(0, false), (BORN.0, false), (BORN.0 + margin, false), (BORN.0 + margin + 1, true)]
    {
        let call = Call { id: CallId::Keyed(Key { issued: WallTime(issued), ..key }), ..client.call(1) };
        match runs {
            false => assert_eq!(rig.refusal(&client, &call), (Refusal::Expired, true)),
            true => rig.run(&client, &call, b"reply"),
        }
    }
}

/// A running keyed record outlives its expiry: it is neither collected nor run again.
#[test]
fn s17_a_running_keyed_record_does_not_expire() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.keyed(5));
    rig.pass(Duration::from_secs(2 * 3600));
    assert_eq!(rig.admit(&client, &attempt(&client.keyed(5), 2)), Admission::Joined);
    assert_eq!(rig.complete(execution, ok(b"reply")).len(), 1);
    rig.pass(Duration::ZERO);
    assert_eq!(rig.refusal(&client, &attempt(&client.keyed(5), 3)), (Refusal::Expired, true));
}

/// What was noted of earlier attempts goes when their key expires. One of them that comes again, and waits for a later one that still runs, is not told "not executed":
/// it may have been.
#[test]
fn s17_of_a_key_that_expires_while_it_runs_nothing_is_denied() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.keyed(5);
    let execution = rig.execute(&client, &call);
    assert_eq!(refusal(&rig.complete(execution, interrupted())[0].reply), (Refusal::Interrupted, true));
    let execution = rig.execute(&client, &attempt(&call, 2));
    rig.pass(Duration::from_secs(2 * 3600));
    assert_eq!(rig.admit(&client, &call), Admission::Joined);
    let told = rig.complete(execution, unavailable());
    assert_eq!(told.len(), 2);
    told.iter().for_each(|told| assert_eq!(refusal(&told.reply), (Refusal::Unavailable, true)));
}

/// Forgetting what was noted of a key raises the floor too: a copy of an attempt that was told "not executed" does not run when the clock steps back.
#[test]
fn s17_a_refused_attempt_of_an_expired_key_does_not_run_when_the_clock_steps_back() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.keyed(5);
    rig.execute(&client, &client.call(1)); // keeps the session
    assert_eq!(rig.shed(&client, &call, Refusal::Overloaded), (Refusal::Overloaded, false));
    rig.pass(Duration::from_secs(2 * 3600));
    rig.now.wall = WallTime(BORN.0 + 40_000);
    assert_eq!(rig.refusal(&client, &call), (Refusal::Expired, true));
}

/// Two clones of one client resume one registration and number their calls alike: the second is told, and gets nobody's reply.
#[test]
fn s19_a_shared_session_is_noticed() {
    let mut rig = Rig::new();
    let client = rig.client();
    let clone = rig.greet(client.principal, Some(client.registration)).unwrap();
    assert_eq!(clone.registration, client.registration);
    let execution = rig.execute(&client, &client.call(1));
    assert_eq!(rig.refusal(&clone, &clone.call(1)), (Refusal::SessionShared, true), "while it runs");
    assert_eq!(rig.complete(execution, ok(b"the first one's")).len(), 1);
    assert_eq!(rig.refusal(&clone, &clone.call(1)), (Refusal::SessionShared, true), "afterwards");
    let resent = Client { from: ConnectionId(77), ..client };
    assert!(
        rig.answer(&resent, &attempt(&client.call(1), 2)).replayed,
        "a client that reconnects keeps the first stamp"
    );
}

#[test]
fn s20_another_principal_can_neither_read_nor_block() {
    let mut rig = Rig::new();
    let ann = rig.greet(PrincipalId(1), None).unwrap();
    let eve = rig.greet(PrincipalId(2), None).unwrap();
    rig.run(&ann, &ann.call(1), b"secret");
    let disguised = Client { principal: eve.principal, ..ann };
    assert_eq!(rig.refusal(&disguised, &ann.call(1)), (Refusal::SessionUnknown, true));
    rig.ack(&disguised, u64::MAX, &[(1, u64::MAX)]);
    assert_eq!(
        rig.refusal(&disguised, &Call { acked_below: u64::MAX, ..ann.call(2) }),
        (Refusal::SessionUnknown, true)
    );
    let stolen = rig.greet(PrincipalId(2), Some(ann.registration)).unwrap();
    assert_ne!(stolen.registration, ann.registration, "a hello of another principal resumes nothing");
    assert!(rig.answer(&ann, &attempt(&ann.call(1), 2)).replayed, "and all is as it was");

    rig.run(&eve, &eve.keyed(5), b"eve's");
    rig.run(&ann, &ann.keyed(5), b"ann's");
}
