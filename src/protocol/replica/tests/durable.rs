//! A store with a single owner: what has to be in the file before what.

use super::*;
use crate::protocol::store::StoredSession;

fn rig() -> Rig {
    Rig::new(Level::Durable)
}

#[test]
fn a_session_is_durable_before_its_welcome() {
    let mut rig = rig();
    rig.hello(None);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Register { registration: Registration(1), principal: PrincipalId::ANYONE });
    rig.nothing();
    rig.done(ticket, Done::Stored);
    let welcome = rig.welcomed();
    assert_eq!((welcome.registration, welcome.store, welcome.generation), (Registration(1), 5, 2));
    assert_eq!((welcome.level, welcome.ordinal), (Level::Durable, 3));
    rig.hello(Some(Registration(1)));
    assert_eq!(rig.welcomed().registration, Registration(1), "one that is known needs no writing");
}

#[test]
fn s15_the_intent_is_durable_before_the_handler_and_the_end_before_the_reply() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, ticket, intent) = rig.claim(&first);
    assert_eq!(intent.imprint.digest, attempt(&first).digest);
    rig.nothing();
    rig.done(ticket, Done::Claimed);
    assert_eq!(rig.action(), Action::Run(execution));
    assert_eq!(rig.replica.claim(execution), Some(ticket));
    assert_eq!(rig.call(&again(&first)), None, "a retry joins");
    let (ticket, keep) = rig.finish(execution, ok());
    assert_eq!(keep, Some(Answer::Ok(BODY)));
    assert_eq!(rig.call(&again(&again(&first))), None, "also while the end is being written");
    rig.nothing();
    rig.done(ticket, Done::Stored);
    let reply = rig.reply();
    assert_eq!((reply.answer, reply.attempt), (Answer::Ok(BODY), 3));
}

#[test]
fn s15_what_the_file_knows_is_told_after_a_restart() {
    let mut rig = Rig::unopened(Level::Durable, Limits::default());
    rig.hello(None);
    assert!(matches!(rig.action(), Action::Refuse { .. }), "not open yet");
    let registration = Registration(40);
    let imprint = Imprint {
        interface: 1,
        method: 2,
        digest: attempt(&call(registration, 1)).digest,
        first_stamp: Stamp(1),
    };
    let intent = |id| Intent { registration, principal: PrincipalId::ANYONE, id, imprint };
    let session = StoredSession { registration, below: 2, ranges: vec![(5, 6)], ..Default::default() };
    let records = vec![
        (intent(CallId::Sequenced(3)), Answer::Ok(BODY)),
        (intent(CallId::Sequenced(4)), recorded_unknown()),
        (intent(keyed(registration, 9).id), Answer::Failed("no luck".into())),
    ];
    let floor = WallTime(BORN.0 + 70_000);
    let store = Opened { floor, sessions: vec![session], records, ..opened() };
    rig.replica.store_event(StoreEvent::Opened(Box::new(store)), rig.now);
    rig.nothing();
    rig.hello(Some(registration));
    assert_eq!(rig.welcomed().registration, registration);
    for (call, answer) in [
        (call(registration, 3), Answer::Ok(BODY)),
        (call(registration, 4), recorded_unknown()),
        (keyed(registration, 9), Answer::Failed("no luck".into())),
    ] {
        assert_eq!(rig.call(&call), None);
        let reply = rig.reply();
        assert_eq!((reply.answer, reply.replayed), (answer, true));
    }
    assert_eq!(rig.call(&call(registration, 5)), None);
    assert_eq!(rig.refused().refusal, Refusal::Stale);
    let mut early = keyed(registration, 10);
    if let CallId::Keyed(key) = &mut early.id {
        key.expiry = floor;
    }
    assert_eq!(rig.call(&early), None);
    assert_eq!(rig.refused().refusal, Refusal::Expired);
    assert!(rig.call(&call(registration, 7)).is_some());
}

#[test]
fn s22_when_the_store_stops_what_did_not_run_is_refused_and_of_what_ran_nothing_is_said() {
    let mut rig = rig();
    let registration = rig.session();
    let (ran, _) = rig.run(&call(registration, 1));
    rig.finish(ran, ok());
    let (claimed, ..) = rig.claim(&call(registration, 2));
    rig.hello(None);
    rig.asked();
    rig.replica.store_event(StoreEvent::Stopped("fsync failed".into()), rig.now);
    let actions = rig.actions();
    assert!(
        matches!(&actions[..], [
        Action::Skip(first),
        Action::Reply { reply: Reply { id: CallId::Sequenced(2), answer: Answer::Refused(refused), .. }, .. },
        Action::Skip(second),
        Action::Refuse { .. },
        Action::Stop(why),
    ] if *first == ran && *second == claimed && !refused.ambiguous && why == "fsync failed"),
        "{actions:?}"
    );
    // And from here on nothing runs and nothing is asked.
    assert_eq!(rig.call(&call(registration, 3)), None);
    assert_eq!(rig.refused().refusal, Refusal::Unavailable);
    rig.hello(None);
    assert!(matches!(rig.action(), Action::Refuse { .. }));
}

#[test]
fn an_end_that_leaves_no_record_is_removed_before_it_is_told() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    let (ticket, keep) = rig.finish(execution, unavailable());
    assert_eq!(keep, None);
    rig.done(ticket, Done::Stored);
    let refused = rig.refused();
    assert_eq!((refused.refusal, refused.ambiguous), (Refusal::Unavailable, false));
    assert_eq!(rig.call(&first), None, "the attempt is marked");
    assert_eq!(rig.refused().refusal, Refusal::Unavailable);
    rig.run(&again(&first));
}

#[test]
fn a_reply_too_large_to_keep_is_told_once() {
    let mut rig = Rig::with(Level::Durable, Limits { reply_bytes: 4, ..Limits::default() });
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    let (ticket, keep) = rig.finish(execution, ok());
    assert!(matches!(keep, Some(Answer::Refused(Refused { refusal: Refusal::ReplyEvicted, .. }))));
    rig.done(ticket, Done::Stored);
    assert_eq!(rig.reply().answer, Answer::Ok(BODY));
    assert_eq!(rig.call(&again(&first)), None);
    assert_eq!(rig.refused().refusal, Refusal::ReplyEvicted);
}

#[test]
fn what_has_no_record_is_not_written() {
    let mut rig = rig();
    let registration = rig.session();
    for (number, retry) in
        [RetryClass::ReadOnly, RetryClass::Idempotent, RetryClass::Never].into_iter().enumerate()
    {
        let call = Call { retry, ..call(registration, 1 + number as u64) };
        let execution = rig.call(&call).unwrap();
        assert_eq!(rig.replica.begin(execution), Begun::Run);
        rig.complete(execution, ok());
        assert_eq!(rig.reply().answer, Answer::Ok(BODY));
    }
}

#[test]
fn a_call_that_is_cancelled_in_the_queue_is_not_written() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let execution = rig.call(&first).unwrap();
    let cancel = Cancel { registration: first.registration, id: first.id };
    assert_eq!(rig.replica.cancel(&cancel, PrincipalId::ANYONE, rig.now), Some(execution));
    assert_eq!(rig.replica.begin(execution), Begun::Over);
    rig.complete(execution, Terminal::Cancelled);
    assert_eq!(rig.refused().refusal, Refusal::Cancelled);
}

#[test]
fn s06_closed_numbers_are_told_one_operation_at_a_time() {
    let mut rig = rig();
    let registration = rig.session();
    let ack = |below, closed: &[(u64, u64)]| Ack { registration, below, closed: closed.to_vec() };
    rig.replica.ack(&ack(2, &[(5, 6)]), PrincipalId::ANYONE, rig.now);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Close { registration, below: 2, ranges: vec![(5, 6)] });
    rig.replica.ack(&ack(3, &[]), PrincipalId::ANYONE, rig.now);
    rig.replica.ack(&ack(2, &[]), PrincipalId::ANYONE, rig.now);
    rig.replica.ack(&ack(4, &[]), PrincipalId::ANYONE, rig.now);
    rig.nothing();
    rig.done(ticket, Done::Stored);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Close { registration, below: 4, ranges: vec![(5, 6)] });
    rig.done(ticket, Done::Stored);
    rig.nothing();
}

#[test]
fn a_running_call_that_the_client_closed_leaves_nothing() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    rig.replica.ack(
        &Ack { registration: first.registration, below: 2, closed: vec![] },
        PrincipalId::ANYONE,
        rig.now,
    );
    let (ticket, _) = rig.asked();
    rig.done(ticket, Done::Stored);
    let (ticket, keep) = rig.finish(execution, ok());
    assert_eq!(keep, None);
    rig.done(ticket, Done::Stored);
    rig.nothing();
}

/// A copy was told that the call is stale, and then its intent became durable and its handler began.
#[test]
fn s05_a_call_that_is_closed_while_it_is_claimed_does_not_run() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, ticket, _) = rig.claim(&first);
    rig.replica.ack(
        &Ack { registration: first.registration, below: 2, closed: vec![] },
        PrincipalId::ANYONE,
        rig.now,
    );
    let (close, _) = rig.asked();
    rig.done(close, Done::Stored);
    assert_eq!(rig.call(&first), None);
    assert_eq!(rig.refused().refusal, Refusal::Stale);
    rig.done(ticket, Done::Claimed);
    let actions = rig.actions();
    assert!(
        matches!(&actions[..], [Action::Skip(over), Action::Ask(_, Op::Finish { keep: None, .. })]
        if *over == execution),
        "{actions:?}"
    );
}

#[test]
fn s16_an_idle_session_ends_in_the_file_too() {
    let mut rig = rig();
    let registration = rig.session();
    rig.pass(Limits::default().unused_retention);
    rig.replica.sweep(rig.now);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::End(registration));
    // After a crash it would live again, and a call that was told to be of an unknown session would run.
    assert_eq!(rig.call(&call(registration, 1)), None);
    rig.nothing();
    rig.done(ticket, Done::Stored);
    assert_eq!(rig.call(&call(registration, 1)), None);
    assert_eq!(rig.refused().refusal, Refusal::SessionUnknown);
}

/// Whatever expires at once, a sweep takes away a bounded part of it, says that there is more, and calls go on in between.
#[test]
fn s17_a_sweep_is_bounded_however_many_keys_expire() {
    const KEYS: u64 = 1_000;
    const ROUND: usize = 64;
    for level in [Level::Memory, Level::Durable] {
        let mut rig = Rig::new(level);
        let registration = rig.session();
        let stored = |actions: Vec<Action>, rig: &mut Rig| {
            let mut keys = 0;
            for action in actions {
                if let Action::Ask(ticket, op) = action {
                    keys += if let Op::Expire(expired) = &op { expired.len() } else { 0 };
                    let done = if matches!(op, Op::Claim(_)) { Done::Claimed } else { Done::Stored };
                    rig.done(ticket, done);
                }
            }
            keys
        };
        let run = |rig: &mut Rig, call: &Call| {
            let execution = rig.call(call).expect("it is to be run");
            rig.replica.begin(execution);
            let asked = rig.actions();
            let keys = stored(asked, rig);
            rig.complete(execution, ok());
            let asked = rig.actions();
            keys + stored(asked, rig)
        };
        for key in 1..=KEYS {
            run(&mut rig, &keyed(registration, key.into()));
        }
        rig.actions();
        rig.pass(Duration::from_secs(45));
        let mut rounds = 0;
        while rig.replica.counters().keyed > 0 {
            let before = rig.replica.counters().keyed;
            let again = rig.replica.sweep(rig.now);
            let swept = before - rig.replica.counters().keyed;
            assert!(swept <= ROUND, "{level:?}: {swept} keys in one round");
            if rig.replica.counters().keyed > 0 {
                assert_eq!(again, Some(rig.now.moment), "{level:?}: there is more");
            }
            rounds += 1;
            let asked = run(&mut rig, &call(registration, rounds));
            assert!(asked <= ROUND, "{level:?}: {asked} keys in one operation of the store");
        }
        assert_eq!(rounds, KEYS.div_ceil(ROUND as u64), "{level:?}");
    }
}

#[test]
fn s17_expired_keys_are_removed_a_batch_at_a_time() {
    let mut rig = rig();
    let registration = rig.session();
    for key in 1..=100 {
        let call = keyed(registration, key);
        let (execution, _) = rig.run(&call);
        let (ticket, _) = rig.finish(execution, ok());
        rig.done(ticket, Done::Stored);
        rig.reply();
    }
    rig.pass(Duration::from_secs(45));
    let mut removed = 0;
    for _ in 0..10 {
        rig.replica.sweep(rig.now);
        rig.replica.sweep(rig.now);
        let asked = rig.actions();
        let expired = |action: &Action| match action {
            Action::Ask(ticket, Op::Expire(keys)) => Some((*ticket, keys.len())),
            _ => None,
        };
        let batches: Vec<_> = asked.iter().filter_map(expired).collect();
        assert!(batches.len() <= 1, "one at a time: {batches:?}");
        for (ticket, keys) in batches {
            removed += keys;
            rig.done(ticket, Done::Stored);
        }
    }
    assert_eq!(removed, 100);
}
