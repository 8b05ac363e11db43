//! What each operation answers.

use std::time::Duration;

use bytes::Bytes;
use selfsame::Store;
use selfsame::protocol::store::{Done, Kept, Op};
use selfsame::protocol::wire::{Answer, Refused};
use selfsame::protocol::{PrincipalId, Refusal, WallTime};
use selfsame_test_postgres::Server;

use crate::rig::*;

fn shared(server: &Server) -> Store {
    Store::shared(server.url()).schema(schema())
}

#[tokio::test]
async fn one_claim_wins_and_others_find_it() {
    let server = quiet();
    let store = shared(&server);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    assert_eq!((a.opened.ordinal, b.opened.ordinal), (1, 2));
    assert_eq!((a.opened.store, a.opened.generation), (b.opened.store, b.opened.generation));
    let session = a.session().await;
    let intent = call(session, 1);
    assert_eq!(a.claim(intent).await, Done::Claimed);
    assert_eq!(b.claim(intent).await, running(a.incarnation));
    assert_eq!(b.look(intent.record()).await, running(a.incarnation));
    assert_eq!(b.finish(intent, Some(ok("not b's"))).await, running(a.incarnation), "compare and swap");
    assert_eq!(a.finish(intent, Some(ok("done"))).await, Done::Stored);
    assert_eq!(b.claim(intent).await, ended(ok("done")));
    assert_eq!(b.look(intent.record()).await, ended(ok("done")));
    assert_eq!(a.finish(intent, Some(ok("other"))).await, ended(ok("done")), "the first end stays");
}

#[tokio::test]
async fn every_answer_comes_back_as_it_was() {
    let server = quiet();
    let mut a = Replica::open(shared(&server)).await;
    let session = a.session().await;
    let refused = Refused {
        refusal: Refusal::Cancelled,
        ambiguous: false,
        retry_after: Some(Duration::from_millis(1_234)),
        message: "with a \0 in it".into(),
    };
    let answers = [
        ok(""),
        ok("a reply"),
        Answer::Ok(Bytes::from(vec![0xA5; 1 << 20])),
        Answer::Declined { fault: u64::MAX, body: Bytes::from_static(b"\0fault") },
        Answer::Failed("why: \0 ü".into()),
        Answer::Refused(refused),
    ];
    for (number, answer) in (1..).zip(answers) {
        for intent in [call(session, number), keyed(session, u128::from(number) << 100, WallTime(u64::MAX))] {
            assert_eq!(a.claim(intent).await, Done::Claimed);
            assert_eq!(a.finish(intent, Some(answer.clone())).await, Done::Stored);
            let found = a.look(intent.record()).await;
            assert_eq!(found, ended(answer.clone()));
            if let Done::Found(found) = found
                && let Kept::Ended(Answer::Ok(body) | Answer::Declined { body, .. }) = found.state
            {
                assert!(body.as_ptr().addr().is_multiple_of(8), "a message is read where it lies");
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_record_may_be_claimed_again() {
    let server = quiet();
    let mut a = Replica::open(shared(&server)).await;
    let intent = call(a.session().await, 1);
    assert_eq!(a.claim(intent).await, Done::Claimed);
    assert_eq!(a.finish(intent, None).await, Done::Stored);
    assert_eq!(a.look(intent.record()).await, Done::Absent);
    assert_eq!(a.finish(intent, None).await, Done::Absent);
    assert_eq!(a.finish(intent, Some(ok("late"))).await, Done::Absent);
    assert_eq!(a.claim(intent).await, Done::Claimed);
}

#[tokio::test]
async fn s05_what_the_watermark_has_passed_is_not_claimed() {
    let server = quiet();
    let store = shared(&server);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    for number in [1, 2, 3, 9] {
        assert_eq!(a.claim(call(session, number)).await, Done::Claimed);
    }
    for number in [1, 3] {
        assert_eq!(a.finish(call(session, number), Some(ok("done"))).await, Done::Stored);
    }
    let close = Op::Close { registration: session, below: 4, ranges: vec![(6, 7), (9, u64::MAX)] };
    assert_eq!(a.does(close).await, Done::Stored);
    for number in [1, 3, 6, 7, u64::MAX - 1, u64::MAX] {
        assert_eq!(b.claim(call(session, number)).await, Done::Passed, "{number}");
    }
    assert_eq!(b.claim(call(session, 4)).await, Done::Claimed);
    // What runs stays, and is collected by the next close after it has ended.
    for number in [2, 9] {
        assert_eq!(b.look(call(session, number).record()).await, running(a.incarnation));
        assert_eq!(a.finish(call(session, number), Some(ok("done"))).await, Done::Stored);
    }
    assert_eq!(b.close(session, 1).await, Done::Stored, "it only rises");
    assert_eq!(b.look(call(session, 2).record()).await, Done::Absent);
    let done = b.does(Op::Resume { registration: session, principal: PrincipalId::ANYONE }).await;
    assert_eq!(done, Done::Session { below: 4, ranges: vec![(6, 7), (9, u64::MAX)], ordinal: 2 });
}

#[tokio::test]
async fn s07_s20_a_session_is_its_principals_and_lives_or_not() {
    let server = quiet();
    let mut a = Replica::open(shared(&server)).await;
    let session = a.session().await;
    let stranger = PrincipalId(u64::MAX);
    assert_eq!(a.does(Op::Resume { registration: session, principal: stranger }).await, Done::Gone);
    let foreign = selfsame::protocol::store::Intent { principal: stranger, ..call(session, 1) };
    assert_eq!(a.claim(foreign).await, Done::Gone);
    let unknown = selfsame::protocol::Registration(77);
    assert_eq!(a.claim(call(unknown, 1)).await, Done::Gone);
    assert_eq!(a.close(unknown, 4).await, Done::Gone);
    assert_eq!(a.look(call(unknown, 1).record()).await, Done::Absent, "nothing of it stays");
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
}

#[tokio::test]
async fn claims_and_ends_that_wait_together_are_answered_each_by_itself() {
    let server = quiet();
    let mut a = Replica::open(shared(&server).connections(2)).await;
    let session = a.session().await;
    assert_eq!(a.close(session, 100).await, Done::Stored);
    let calls: Vec<_> = (1..=600).map(|number| call(session, number)).collect();
    let tickets: Vec<_> = calls.iter().map(|&intent| a.ask(Op::Claim(intent))).collect();
    for (ticket, number) in tickets.into_iter().zip(1..) {
        let expected = if number < 100 { Done::Passed } else { Done::Claimed };
        assert_eq!(a.answer(ticket).await, expected, "{number}");
    }
    let keep = |number: u64| (!number.is_multiple_of(3)).then(|| ok(&number.to_string()));
    let finish = |(&intent, number)| Op::Finish {
        claim: selfsame::protocol::store::Ticket(0),
        intent,
        keep: keep(number),
    };
    let tickets: Vec<_> = calls.iter().zip(1..).map(finish).map(|op| a.ask(op)).collect();
    for (ticket, number) in tickets.into_iter().zip(1..) {
        let expected = if number < 100 { Done::Absent } else { Done::Stored };
        assert_eq!(a.answer(ticket).await, expected, "{number}");
    }
    for (intent, number) in calls.iter().zip(1..).skip(99) {
        assert_eq!(a.look(intent.record()).await, keep(number).map_or(Done::Absent, ended), "{number}");
    }
}

#[tokio::test]
async fn s17_an_expired_key_raises_the_floor() {
    let server = quiet();
    let store = shared(&server);
    let mut a = Replica::open(store.clone()).await;
    let session = a.session().await;
    let (old, older, new) = (
        keyed(session, 1, WallTime(2_000)),
        keyed(session, 2, WallTime(1_999)),
        keyed(session, 3, WallTime(2_001)),
    );
    assert_eq!(a.claim(old).await, Done::Claimed);
    assert_eq!(a.does(Op::Sweep).await, Done::Stored);
    assert_eq!(a.look(old.record()).await, running(a.incarnation), "what runs is not collected");
    assert_eq!(a.finish(old, Some(ok("done"))).await, Done::Stored);
    assert_eq!(a.does(Op::Sweep).await, Done::Stored);
    assert_eq!(a.look(old.record()).await, Done::Absent);
    assert_eq!(a.claim(old).await, Done::Expired);
    assert_eq!(a.claim(older).await, Done::Expired);
    assert_eq!(a.claim(new).await, Done::Claimed);
    assert_eq!(Replica::open(store).await.opened.floor, WallTime(2_000));
}

#[tokio::test]
async fn idle_sessions_go_with_their_records_and_busy_ones_stay() {
    let server = quiet();
    let mut a = Replica::open_for(shared(&server), Duration::ZERO).await;
    let (idle, busy) = (a.session().await, a.session().await);
    assert_eq!(a.claim(call(idle, 1)).await, Done::Claimed);
    assert_eq!(a.finish(call(idle, 1), Some(ok("done"))).await, Done::Stored);
    assert_eq!(a.claim(call(busy, 1)).await, Done::Claimed);
    assert_eq!(a.does(Op::Sweep).await, Done::Stored);
    assert_eq!(a.look(call(idle, 1).record()).await, Done::Absent);
    assert_eq!(a.claim(call(idle, 1)).await, Done::Gone);
    assert_eq!(a.finish(call(busy, 1), Some(ok("done"))).await, Done::Stored);
}

#[tokio::test]
async fn settled_is_what_is_there() {
    let server = quiet();
    let store = shared(&server);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    let (mine, done, never, passed) =
        (call(session, 1), call(session, 2), call(session, 3), call(session, 4));
    assert_eq!(a.claim(mine).await, Done::Claimed);
    assert_eq!(a.claim(done).await, Done::Claimed);
    assert_eq!(a.finish(done, Some(ok("done"))).await, Done::Stored);
    assert_eq!(a.does(Op::Settle(mine)).await, Done::Claimed);
    assert_eq!(b.does(Op::Settle(mine)).await, running(a.incarnation));
    assert_eq!(a.does(Op::Settle(done)).await, ended(ok("done")));
    assert_eq!(a.does(Op::Settle(never)).await, Done::Absent);
    assert_eq!(a.look(never.record()).await, Done::Absent, "it leaves nothing behind");
    let close = Op::Close { registration: session, below: 1, ranges: vec![(4, 4)] };
    assert_eq!(a.does(close).await, Done::Stored);
    assert_eq!(a.does(Op::Settle(passed)).await, Done::Passed);
    assert_eq!(a.does(Op::Settle(call(selfsame::protocol::Registration(5), 1))).await, Done::Gone);
}

#[tokio::test]
async fn a_session_that_is_heard_of_is_seen_in_time_for_its_retention() {
    let server = quiet();
    let other = observer(&server.url()).await;
    for (retention, is_seen) in [(Duration::from_secs(900), false), (Duration::from_secs(6), true)] {
        let schema = schema();
        let mut a = Replica::open_for(Store::shared(server.url()).schema(&schema), retention).await;
        let session = a.session().await;
        let ago = "SET seen = clock_timestamp() - interval '1 second' RETURNING seen::text";
        let before = other.query_one(&format!("UPDATE {schema}.session {ago}"), &[]).await.unwrap();
        assert_eq!(a.close(session, 0).await, Done::Stored);
        let after = other.query_one(&format!("SELECT seen::text FROM {schema}.session"), &[]).await.unwrap();
        assert_eq!(before.get::<_, String>(0) != after.get::<_, String>(0), is_seen, "{retention:?}");
    }
}
