//! What broke the obvious protocol, and the classes that leave no record.

use super::*;

/// An old hello, delivered late, re-created an evicted session, and a held attempt ran a second time.
#[test]
fn a_late_hello_revives_no_session() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.run(&client, &client.call(1), b"reply");
    rig.pass(rig.dedup.limits().retention);
    let late = rig.greet(client.principal, Some(client.registration)).unwrap();
    assert_ne!(late.registration, client.registration);
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::SessionUnknown, true));
    assert_eq!(rig.dedup.counters().admitted, 1);
}

/// A client that comes back to another incarnation says what it had closed under its old registration. The new one's first numbers were taken for
/// closed, and its first calls for stale.
#[test]
fn what_was_closed_under_one_registration_is_not_closed_under_the_next() {
    let mut rig = Rig::new();
    let hello = Hello { version: 1, resume: Some(Registration(99)), acked_below: 5, ..Hello::default() };
    let minted = Minted { registration: Registration(3), stamp: Stamp(1) };
    let welcome = rig.dedup.hello(&hello, PrincipalId::ANYONE, minted, rig.now).unwrap();
    let client = Client { registration: welcome.registration, stamp: welcome.stamp, ..rig.client() };
    rig.run(&client, &client.call(1), b"reply");
}

/// Attempt 1 was refused as overloaded, "not executed" was reported, then its copy was admitted.
#[test]
fn a_refusal_leaves_a_mark() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        assert_eq!(rig.shed(&client, &attempt(&call, 2), Refusal::Overloaded), (Refusal::Overloaded, false));
        for copy in [2, 1] {
            assert_eq!(rig.refusal(&client, &attempt(&call, copy)), (Refusal::Overloaded, false), "again");
        }
        rig.run(&client, &attempt(&call, 3), b"the next attempt runs");
        assert!(rig.answer(&client, &attempt(&call, 2)).replayed);
    }
}

/// A stale refusal of attempt 1 was taken for attempt 2's: so replies name the attempt that they answer.
#[test]
fn replies_name_the_attempt() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = client.call(1);
    rig.shed(&client, &call, Refusal::Overloaded);
    let execution = rig.execute(&client, &attempt(&call, 2));
    assert_eq!(rig.admit(&client, &call), Admission::Joined, "a copy of attempt 1 waits for attempt 2");
    assert_eq!(rig.complete(execution, ok(b"reply"))[0].reply.attempt, 2);
    assert_eq!(rig.answer(&client, &call).attempt, 1);
}

/// A copy that was shed before the look-up reported "not executed" of a call that had run.
#[test]
fn look_up_first_refuse_after() {
    let mut rig = Rig::new();
    let client = rig.client();
    for call in [client.call(1), client.keyed(5)] {
        let execution = rig.execute(&client, &call);
        for why in [Refusal::Overloaded, Refusal::ShuttingDown, Refusal::Unavailable, Refusal::UnknownMethod]
        {
            assert_eq!(rig.deliver(&client, &call, Some(Shed::new(why))), Admission::Joined);
        }
        rig.complete(execution, ok(b"reply"));
        let late = Call { time_left: Duration::ZERO, ..call.clone() };
        let Admission::Reply(reply) = rig.deliver(&client, &late, Some(Shed::new(Refusal::Overloaded)))
        else {
            panic!("a replay was expected")
        };
        assert!(reply.replayed);
    }
}

/// A keyed nonce: attempts begin at 1 in each life, so a mark of the last life must not refuse the next one's.
#[test]
fn marks_of_a_keyed_call_are_per_life() {
    let mut rig = Rig::new();
    let (life, next) = (rig.client(), rig.client());
    assert_eq!(
        rig.shed(&life, &attempt(&life.keyed(5), 3), Refusal::Overloaded),
        (Refusal::Overloaded, false)
    );
    rig.run(&next, &next.keyed(5), b"reply");
    assert!(rig.answer(&life, &attempt(&life.keyed(5), 3)).replayed);
    assert_eq!(rig.shed(&life, &life.keyed(6), Refusal::Overloaded), (Refusal::Overloaded, false));
    assert_eq!(rig.refusal(&life, &life.keyed(6)), (Refusal::Overloaded, false));
}

/// Bytes of another incarnation touch nothing: not even the watermark.
#[test]
fn hello_first_touches_nothing() {
    let mut rig = Rig::new();
    let client = rig.client();
    let old = Call { incarnation: Incarnation(6), acked_below: u64::MAX, ..client.call(1) };
    assert_eq!(rig.refusal(&client, &old), (Refusal::HelloFirst, true));
    rig.run(&client, &client.call(1), b"reply");
}

/// A call whose time was up is not started, and marked: its copy with time left would contradict "not executed".
#[test]
fn a_late_call_is_marked() {
    let mut rig = Rig::new();
    let client = rig.client();
    let late = Call { time_left: Duration::ZERO, ..client.call(1) };
    assert_eq!(rig.refusal(&client, &late), (Refusal::Deadline, false));
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::Deadline, false));
}

/// `never` leaves no record, but a mark: its copy must neither run nor be told that the call did not run.
#[test]
fn a_copy_of_a_never_call_neither_runs_nor_is_denied() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = classed(client.call(1), RetryClass::Never);
    let execution = rig.execute(&client, &call);
    assert_eq!(rig.refusal(&client, &call), (Refusal::InProgress, true));
    assert_eq!(rig.complete(execution, ok(b"reply")).len(), 1);
    assert_eq!(rig.refusal(&client, &call), (Refusal::InProgress, true));
    assert_eq!(rig.shed(&client, &call, Refusal::Overloaded), (Refusal::InProgress, true));
    assert_eq!(rig.dedup.counters().records, 0);

    let unavailable_one = classed(client.call(2), RetryClass::Never);
    let execution = rig.execute(&client, &unavailable_one);
    assert_eq!(refusal(&rig.complete(execution, unavailable())[0].reply), (Refusal::Unavailable, false));
    let keyed = classed(client.keyed(5), RetryClass::Never);
    rig.run(&client, &keyed, b"held to once");
    assert!(rig.answer(&client, &keyed).replayed);
}

/// `idempotent` and `readOnly` leave no record: each attempt runs, each at most once, and none that ran is denied.
#[test]
fn attempts_of_an_idempotent_call_each_run() {
    let mut rig = Rig::new();
    let client = rig.client();
    for (number, class) in [(1, RetryClass::Idempotent), (2, RetryClass::ReadOnly)] {
        let call = classed(client.call(number), class);
        let (first, second) = (rig.execute(&client, &call), rig.execute(&client, &attempt(&call, 2)));
        assert_eq!(rig.shed(&client, &attempt(&call, 3), Refusal::Overloaded), (Refusal::Overloaded, false));
        assert_eq!(rig.refusal(&client, &call), (Refusal::Overloaded, true), "a copy of one that runs");
        assert_eq!(rig.complete(first, ok(b"1"))[0].reply.attempt, 1);
        assert_eq!(refusal(&rig.complete(second, interrupted())[0].reply), (Refusal::Interrupted, true));
        assert_eq!(rig.refusal(&client, &attempt(&call, 3)), (Refusal::Overloaded, false));
        rig.run(&client, &attempt(&call, 4), b"4");
    }
    assert_eq!(rig.dedup.counters().records, 0);
    rig.ack(&client, 3, &[]);
    assert_eq!(rig.dedup.counters().notes, 0);
    assert_eq!(rig.refusal(&client, &classed(client.call(2), RetryClass::ReadOnly)), (Refusal::Stale, true));

    // Keyed, there is no acknowledgement to end a mark: nothing is noted, so nothing is denied.
    let keyed = classed(client.keyed(5), RetryClass::Idempotent);
    assert_eq!(rig.shed(&client, &keyed, Refusal::Overloaded), (Refusal::Overloaded, true));
    rig.run(&client, &keyed, b"1");
    rig.run(&client, &keyed, b"2");
    assert_eq!((rig.dedup.counters().notes, rig.dedup.counters().records), (0, 0));
}

/// Whoever of client and server is stricter is heeded.
#[test]
fn the_stricter_class_holds() {
    use RetryClass::{Idempotent, Never, Once, ReadOnly};
    for (theirs, ours, replayed) in [
        (Once, ReadOnly, true),
        (ReadOnly, Once, true),
        (Never, Idempotent, false),
        (Idempotent, Never, false),
    ] {
        let mut rig = Rig::new();
        let client = rig.client();
        let call = classed(client.call(1), theirs);
        let attempt =
            Attempt { call: &call, digest: 0, principal: client.principal, from: client.from, class: ours };
        let Admission::Execute(execution) = rig.dedup.admit(&attempt, None, rig.now) else { panic!() };
        rig.complete(execution, ok(b"reply"));
        match rig.dedup.admit(&attempt, None, rig.now) {
            Admission::Reply(reply) if replayed => assert!(reply.replayed),
            Admission::Reply(reply) => assert_eq!(refusal(&reply), (Refusal::InProgress, true)),
            other => panic!("{other:?}"),
        }
    }
}

/// A queued call of a class without records can be cancelled too; then it was not executed.
#[test]
fn a_queued_idempotent_call_is_cancelled() {
    let mut rig = Rig::new();
    let client = rig.client();
    let call = classed(client.call(1), RetryClass::Idempotent);
    let execution = rig.execute(&client, &call);
    assert_eq!(rig.cancel(&client, &call), Some(execution));
    assert_eq!(rig.complete(execution, Terminal::Cancelled).len(), 1);
    assert_eq!(rig.dedup.counters().records, 0);
}

/// A handle outlives its record without harm, also when the place has a new tenant.
#[test]
fn an_old_handle_does_no_harm() {
    let mut rig = Rig::new();
    let client = rig.client();
    let old = rig.execute(&client, &client.call(1));
    rig.complete(old, unavailable());
    let new = rig.execute(&client, &client.call(2));
    assert!(!rig.dedup.started(old));
    assert_eq!(rig.complete(old, ok(b"for the first")), []);
    assert_eq!(rig.complete(new, ok(b"for the second")).len(), 1);
}

/// A queued call was closed by its client, a copy was told that it is stale, and then the queued call began.
#[test]
fn no_effect_starts_after_stale() {
    let mut rig = Rig::new();
    let client = rig.client();
    let execution = rig.execute(&client, &client.call(1));
    rig.ack(&client, 2, &[]);
    assert_eq!(rig.refusal(&client, &client.call(1)), (Refusal::Stale, true));
    assert!(!rig.dedup.is_wanted(execution) && !rig.dedup.started(execution));
    assert_eq!(rig.dedup.counters().records, 0);
    assert!(rig.complete(execution, ok(b"late")).is_empty(), "it is over");
    rig.pass(rig.dedup.limits().retention);
    assert_eq!(rig.dedup.counters().sessions, 0, "it holds no place");
}

/// A key came back with a later expiry after its first run was interrupted; the mark of that run expired, the second was cancelled in the queue, and a copy of the
/// first attempt was told that it had not run.
#[test]
fn a_cancelled_keyed_call_is_not_denied_to_an_attempt_that_ran() {
    let mut rig = Rig::new();
    let client = rig.client();
    let first = client.keyed(5);
    let CallId::Keyed(key) = first.id else { unreachable!() };
    let execution = rig.execute(&client, &first);
    rig.complete(execution, Terminal::Interrupted { message: String::new(), retry_after: None });
    let longer = Key { expiry: WallTime(key.expiry.0 + 600_000), ..key };
    let second = Call { id: CallId::Keyed(longer), ..attempt(&first, 2) };
    let execution = rig.execute(&client, &second);
    rig.pass(Duration::from_millis(key.expiry.0 - rig.now.wall.0 + 500));
    rig.complete(execution, Terminal::Cancelled);
    assert_eq!(rig.refusal(&client, &first), (Refusal::Cancelled, true));
}
