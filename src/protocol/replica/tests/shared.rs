//! A store that several replicas share: the database decides, and what is in doubt is settled.

use super::*;

fn rig() -> Rig {
    Rig::new(Level::Shared)
}

fn atomic() -> Rig {
    Rig::new(Level::Atomic)
}

fn runs_at(owner: Incarnation, intent: &Intent) -> Done {
    Done::Found(Found { imprint: intent.imprint, state: Kept::Running(owner) })
}

#[test]
fn a_session_of_another_replica_is_resumed() {
    let mut rig = rig();
    let registration = Registration(77);
    rig.hello(Some(registration));
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Resume { registration, principal: PrincipalId::ANYONE });
    rig.done(ticket, Done::Session { below: 3, ranges: vec![], ordinal: 9 });
    let welcome = rig.welcomed();
    assert_eq!((welcome.registration, welcome.ordinal), (registration, 9));
    let (execution, ..) = rig.claim(&call(registration, 3));
    assert!(rig.replica.claim(execution).is_some());
}

#[test]
fn s07_a_session_that_the_store_does_not_know_is_registered_anew() {
    let mut rig = rig();
    rig.hello(Some(Registration(77)));
    let (ticket, _) = rig.asked();
    rig.done(ticket, Done::Gone);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Register { registration: Registration(1), principal: PrincipalId::ANYONE });
    rig.done(ticket, Done::Registered { ordinal: 4 });
    assert_eq!(rig.welcomed().registration, Registration(1));
}

#[test]
fn s03_a_record_of_another_replica_is_replayed() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, ticket, intent) = rig.claim(&first);
    rig.done(ticket, ended(&intent, Answer::Ok(BODY)));
    let actions = rig.actions();
    assert!(
        matches!(&actions[..], [Action::Reply { reply, .. }, Action::Skip(over)]
        if reply.replayed && reply.answer == Answer::Ok(BODY) && *over == execution),
        "{actions:?}"
    );
    assert_eq!(rig.call(&again(&first)), None);
    assert!(rig.reply().replayed, "it is known here now");
}

#[test]
fn s02_a_call_that_runs_at_another_replica_is_joined() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (_, ticket, intent) = rig.claim(&first);
    rig.done(ticket, runs_at(ELSEWHERE, &intent));
    rig.nothing();
    for _ in 0..3 {
        rig.pass(LATEST);
        let (ticket, op) = rig.asked();
        assert_eq!(op, Op::Look { record: intent.record(), abandon: false });
        rig.done(ticket, runs_at(ELSEWHERE, &intent));
    }
    assert_eq!(rig.call(&again(&first)), None, "and here too");
    rig.pass(LATEST);
    let (ticket, _) = rig.asked();
    rig.done(ticket, ended(&intent, Answer::Ok(BODY)));
    assert_eq!(rig.reply().attempt, 2);
}

/// Its client has closed the number while it ran. If the record went before the watermark is committed, another replica would run a copy.
#[test]
fn s06_a_record_stays_until_the_watermark_that_passed_it_is_committed() {
    let mut rig = rig();
    let registration = rig.session();
    let (execution, _) = rig.run(&call(registration, 1));
    rig.replica.ack(&Ack { registration, below: 2, closed: vec![] }, PrincipalId::ANYONE, rig.now);
    let (closing, op) = rig.asked();
    assert!(matches!(op, Op::Close { below: 2, .. }), "{op:?}");
    let (finishing, keep) = rig.finish(execution, ok());
    assert_eq!(keep, Some(Answer::Ok(BODY)));
    rig.done(finishing, Done::Stored);
    rig.nothing();
    rig.done(closing, Done::Stored);
    let (_, op) = rig.asked();
    assert!(
        matches!(op, Op::Close { below: 2, .. }),
        "the store is told again, since the record ran: {op:?}"
    );
}

#[test]
fn a_record_that_its_owner_dropped_may_be_claimed() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, ticket, intent) = rig.claim(&first);
    rig.done(ticket, runs_at(ELSEWHERE, &intent));
    rig.pass(LATEST);
    let (ticket, _) = rig.asked();
    rig.done(ticket, Done::Absent);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Claim(intent));
    rig.done(ticket, Done::Claimed);
    assert_eq!(rig.action(), Action::Run(execution));
    assert_eq!(rig.replica.claim(execution), Some(ticket));
}

#[test]
fn s14_the_rest_of_an_execution_that_nobody_here_runs_is_abandoned() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (_, ticket, intent) = rig.claim(&first);
    rig.done(ticket, runs_at(INCARNATION, &intent));
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Look { record: intent.record(), abandon: true });
    rig.done(ticket, ended(&intent, recorded_unknown()));
    assert_eq!(rig.refused().refusal, Refusal::RecordedUnknown);
}

#[test]
fn s04_s19_another_call_under_the_nonce_leaves_the_record_alone() {
    let mut rig = rig();
    let registration = rig.session();
    for (number, change, refusal) in [
        (1, Imprint { method: 9, ..Imprint::default() }, Refusal::Mismatch),
        (2, Imprint { first_stamp: Stamp(9), ..Imprint::default() }, Refusal::SessionShared),
    ] {
        let (_, ticket, intent) = rig.claim(&call(registration, number));
        let mut imprint = intent.imprint;
        if change.method == 9 {
            imprint.method = 9;
        } else {
            imprint.first_stamp = change.first_stamp;
        }
        rig.done(ticket, Done::Found(Found { imprint, state: Kept::Ended(Answer::Ok(BODY)) }));
        let refused = rig.refused();
        assert_eq!((refused.refusal, refused.ambiguous), (refusal, true));
    }
}

#[test]
fn what_the_store_forbids_does_not_run() {
    let mut rig = rig();
    let registration = rig.session();
    let (_, ticket, _) = rig.claim(&keyed(registration, 1));
    rig.done(ticket, Done::Expired);
    assert_eq!(rig.refused().refusal, Refusal::Expired);
    let (_, ticket, _) = rig.claim(&call(registration, 1));
    rig.done(ticket, Done::Passed);
    assert_eq!(rig.refused().refusal, Refusal::Stale);
    let (_, ticket, _) = rig.claim(&call(registration, 2));
    rig.done(ticket, Done::Gone);
    assert_eq!(rig.refused().refusal, Refusal::SessionUnknown);
    unknown(&mut rig, registration, 3);
}

/// The session is over here too; that is told when the store has said so.
fn unknown(rig: &mut Rig, registration: Registration, number: u64) {
    assert_eq!(rig.call(&call(registration, number)), None);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Resume { registration, principal: PrincipalId::ANYONE });
    rig.done(ticket, Done::Gone);
    assert_eq!(rig.refused().refusal, Refusal::SessionUnknown);
}

/// A replica that stood still had dropped the session, and told its client so; then the client's next attempt ran.
#[test]
fn s07_a_session_that_only_this_table_does_not_know_is_not_unknown() {
    let mut rig = rig();
    let registration = Registration(77);
    assert_eq!(rig.call(&call(registration, 3)), None);
    let (ticket, _) = rig.asked();
    rig.done(ticket, Done::Session { below: 3, ranges: vec![], ordinal: 3 });
    rig.nothing();
    rig.claim(&again(&call(registration, 3)));
}

/// What is only known here might be lost, and the call run elsewhere. But a client whose session was copied has to learn that it is.
#[test]
fn s05_stale_is_told_when_the_store_says_so() {
    let mut rig = rig();
    let registration = rig.session();
    rig.replica.ack(&Ack { registration, below: 5, closed: vec![] }, PrincipalId::ANYONE, rig.now);
    rig.asked();
    let other = |intent: &Intent| Imprint { first_stamp: Stamp(9), ..intent.imprint };
    for told in [Some(Refusal::Stale), Some(Refusal::SessionShared), None] {
        assert_eq!(rig.call(&call(registration, 4)), None);
        let (ticket, op) = rig.asked();
        let Op::Settle(intent) = op else { panic!("{op:?}") };
        rig.done(
            ticket,
            match told {
                Some(Refusal::Stale) => Done::Passed,
                Some(_) => {
                    Done::Found(Found { imprint: other(&intent), state: Kept::Ended(Answer::Ok(BODY)) })
                }
                None => Done::Absent,
            },
        );
        match told {
            Some(refusal) => assert_eq!(rig.refused().refusal, refusal),
            None => rig.nothing(),
        }
    }
}

#[test]
fn a_claim_that_was_not_made_is_refused_for_good() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (_, ticket, _) = rig.claim(&first);
    rig.done(ticket, Done::NotDone("no connection".into()));
    let refused = rig.refused();
    assert_eq!((refused.refusal, refused.ambiguous), (Refusal::Unavailable, false));
    assert_eq!(rig.call(&first), None, "no copy of the attempt runs");
    assert!(!rig.refused().ambiguous);
    rig.run(&again(&first));
}

#[test]
fn a_claim_in_doubt_is_settled_before_anything_is_said() {
    for (settled, runs) in [(Done::Claimed, true), (Done::Absent, false)] {
        let mut rig = rig();
        let first = call(rig.session(), 1);
        let (execution, ticket, intent) = rig.claim(&first);
        rig.done(ticket, Done::InDoubt("connection lost".into()));
        let (mut ticket, op) = rig.asked();
        assert_eq!(op, Op::Settle(intent));
        for done in [Done::NotDone("still down".into()), Done::InDoubt("again".into()), Done::Busy] {
            rig.done(ticket, done);
            rig.nothing();
            rig.pass(LATEST);
            let (next, op) = rig.asked();
            assert_eq!(op, Op::Settle(intent));
            ticket = next;
        }
        rig.done(ticket, settled);
        if runs {
            assert_eq!(rig.action(), Action::Run(execution));
        } else {
            assert!(!rig.refused().ambiguous);
        }
    }
}

#[test]
fn an_owner_that_lost_its_lease_tells_what_the_record_says() {
    let mut rig = rig();
    let (execution, intent) = {
        let first = call(rig.session(), 1);
        rig.run(&first)
    };
    let (ticket, _) = rig.finish(execution, ok());
    rig.done(ticket, ended(&intent, recorded_unknown()));
    assert_eq!(rig.refused().refusal, Refusal::RecordedUnknown);
}

#[test]
fn an_end_is_written_until_it_is_known_to_be() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, intent) = rig.run(&first);
    let (mut ticket, keep) = rig.finish(execution, ok());
    for done in [Done::NotDone("down".into()), Done::InDoubt("lost".into())] {
        rig.done(ticket, done);
        rig.pass(LATEST);
        let (next, op) = rig.asked();
        assert!(matches!(op, Op::Finish { keep: again, .. } if again == keep));
        ticket = next;
    }
    // The one in doubt had been done.
    rig.done(ticket, ended(&intent, Answer::Ok(BODY)));
    assert_eq!(rig.reply().answer, Answer::Ok(BODY));
}

#[test]
fn an_end_whose_record_is_gone_is_not_told() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    let (ticket, _) = rig.finish(execution, ok());
    rig.done(ticket, Done::Absent);
    rig.nothing();
}

#[test]
fn while_the_store_is_down_what_needs_no_record_runs() {
    let mut rig = rig();
    let registration = rig.session();
    rig.replica.store_event(StoreEvent::Down("connection refused".into()), rig.now);
    assert_eq!(rig.call(&call(registration, 1)), None);
    let refused = rig.refused();
    assert_eq!((refused.refusal, refused.ambiguous), (Refusal::Unavailable, false));
    assert!(refused.retry_after.is_some());
    assert!(rig.call(&Call { retry: RetryClass::ReadOnly, ..call(registration, 2) }).is_some());
    rig.hello(Some(registration));
    assert!(matches!(rig.action(), Action::Refuse { .. }));
    rig.replica.store_event(StoreEvent::Up, rig.now);
    rig.run(&again(&call(registration, 1)));
}

#[test]
fn keyed_records_stay_in_the_store_alone() {
    let mut rig = rig();
    let first = keyed(rig.session(), 1);
    let (execution, intent) = rig.run(&first);
    let (ticket, _) = rig.finish(execution, ok());
    rig.done(ticket, Done::Stored);
    assert_eq!(rig.reply().answer, Answer::Ok(BODY));
    assert_eq!(rig.replica.counters().records, 0);
    let (_, ticket, _) = rig.claim(&first);
    rig.done(ticket, ended(&intent, Answer::Ok(BODY)));
    assert!(rig.reply().replayed);
    // So this table cannot tell that a copy did not run.
    let shed = Some(Shed::new(Refusal::Overloaded));
    assert_eq!(rig.replica.call(&attempt(&first), shed, rig.now), None);
    assert!(rig.refused().ambiguous);
}

#[test]
fn the_store_hears_of_a_live_session_now_and_then() {
    let mut rig = rig();
    let registration = rig.session();
    rig.replica.touch(registration, PrincipalId::ANYONE, rig.now);
    rig.nothing();
    rig.pass(Limits::default().retention / 8);
    rig.replica.touch(registration, PrincipalId::ANYONE, rig.now);
    let (ticket, op) = rig.asked();
    assert!(matches!(op, Op::Close { .. }));
    rig.done(ticket, Done::Gone);
    unknown(&mut rig, registration, 1);
}

#[test]
fn atomic_a_commit_in_doubt_is_settled() {
    for (settled, replies) in [(true, Answer::Ok(BODY)), (false, Answer::Failed(String::new()))] {
        let mut rig = atomic();
        let first = call(rig.session(), 1);
        let (execution, intent) = rig.run(&first);
        let (ticket, _) = rig.finish(execution, ok());
        rig.done(ticket, Done::InDoubt("connection lost".into()));
        let (ticket, op) = rig.asked();
        assert_eq!(op, Op::Settle(intent));
        if settled {
            rig.done(ticket, ended(&intent, Answer::Ok(BODY)));
            assert_eq!(rig.reply().answer, replies);
        } else {
            rig.done(ticket, Done::Absent);
            let refused = rig.refused();
            assert_eq!((refused.refusal, refused.ambiguous), (Refusal::Interrupted, true));
            rig.run(&again(&first));
        }
    }
}

/// Of what the handler did in the transaction nothing is left; but a call that it made within its request has happened, and its caller was told No.
#[test]
fn atomic_what_was_rolled_back_may_run_again_and_is_not_denied() {
    let mut rig = atomic();
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    let (ticket, _) = rig.finish(execution, ok());
    rig.done(ticket, Done::NotDone("a deferred constraint failed".into()));
    let refused = rig.refused();
    assert_eq!((refused.refusal, refused.ambiguous), (Refusal::Interrupted, true));
    assert!(refused.message.contains("rolled back"), "{refused:?}");
}

#[test]
fn atomic_a_record_that_is_held_elsewhere_is_in_progress() {
    let mut rig = atomic();
    let first = call(rig.session(), 1);
    let (_, ticket, _) = rig.claim(&first);
    rig.done(ticket, Done::Busy);
    let refused = rig.refused();
    assert_eq!((refused.refusal, refused.ambiguous), (Refusal::InProgress, true));
    rig.run(&again(&first));
}

/// A replica dropped a session that the store still had, and with it the mark of an attempt that it had refused. The session was taken in again, and a copy of that
/// attempt ran, whose caller had been told that it had not.
#[test]
fn s07_a_session_that_was_dropped_here_is_taken_in_again_when_nothing_is_lost() {
    let mut rig = rig();
    let registration = rig.session();
    let shed = Some(Shed::new(Refusal::Overloaded));
    assert_eq!(rig.replica.call(&attempt(&call(registration, 1)), shed, rig.now), None);
    assert!(!rig.refused().ambiguous);
    rig.pass(Limits::default().retention);
    rig.replica.sweep(rig.now);
    rig.actions();
    let lives = |below| Done::Session { below, ranges: vec![], ordinal: 3 };
    assert_eq!(rig.call(&call(registration, 1)), None);
    let (ticket, _) = rig.asked();
    rig.done(ticket, lives(1));
    assert_eq!(rig.refused().refusal, Refusal::HelloFirst);
    rig.hello(Some(registration));
    let (ticket, _) = rig.asked();
    rig.done(ticket, lives(1));
    let (_, op) = rig.asked();
    assert!(matches!(op, Op::Register { registration: new, .. } if new != registration), "{op:?}");
    // Once its client has closed what was refused, wherever, it may come back.
    rig.hello(Some(registration));
    let (ticket, _) = rig.asked();
    rig.done(ticket, lives(2));
    assert_eq!(rig.welcomed().registration, registration);
}

/// To the store, a session of somebody else is as good as none.
#[test]
fn s20_a_hello_of_another_principal_ends_nobodys_session() {
    let mut rig = rig();
    let first = call(rig.session(), 1);
    let (execution, _) = rig.run(&first);
    let (bob, there) = (PrincipalId(2), ConnectionId(2));
    let hello = Hello { id: 1, version: 1, resume: Some(first.registration), ..Hello::default() };
    let minted = Minted { registration: Registration(50), stamp: Stamp(50) };
    rig.replica.hello(there, &hello, bob, minted, rig.now);
    let (ticket, op) = rig.asked();
    assert_eq!(op, Op::Resume { registration: first.registration, principal: bob });
    rig.done(ticket, Done::Gone);
    let (ticket, _) = rig.asked();
    rig.done(ticket, Done::Registered { ordinal: 4 });
    assert_eq!(rig.welcomed().registration, Registration(50));
    assert_eq!(rig.call(&again(&first)), None, "it joins what runs");
    let (finishing, _) = rig.finish(execution, ok());
    rig.done(finishing, Done::Stored);
    assert_eq!(rig.reply().attempt, 2);
}
