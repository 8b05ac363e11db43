//! The races that a plain statement would lose (each was seen to happen on PostgreSQL 15), against the store's own statements. The other side of each race is
//! played by hand, over a connection beside the store.

use std::time::Duration;

use selfsame::Store;
use selfsame::protocol::store::{Done, Op};

use selfsame_test_postgres::Server;

use crate::rig::*;

#[tokio::test]
async fn a_claim_that_waits_for_a_deletion_sees_the_watermark_that_came_with_it() {
    let server = quiet();
    let schema = schema();
    let mut a = Replica::open(Store::shared(server.url()).schema(&schema)).await;
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(a.finish(call(session, 1), Some(ok("done"))).await, Done::Stored);

    let other = observer(&server.url()).await;
    other
        .batch_execute(&format!("BEGIN; UPDATE {schema}.session SET below = 2; DELETE FROM {schema}.record"))
        .await
        .unwrap();
    let claim = a.ask(Op::Claim(call(session, 1)));
    assert!(!a.is_answered(claim).await, "the insert waits for the deletion");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(a.answer(claim).await, Done::Passed);
    assert_eq!(a.look(call(session, 1).record()).await, Done::Absent);
}

#[tokio::test]
async fn an_eviction_and_a_claim_do_not_pass_each_other() {
    let server = quiet();
    let schema = schema();
    let mut a = Replica::open(Store::shared(server.url()).schema(&schema)).await;
    let session = a.session().await;
    let other = observer(&server.url()).await;
    other.batch_execute(&format!("BEGIN; DELETE FROM {schema}.session")).await.unwrap();
    let claim = a.ask(Op::Claim(call(session, 1)));
    assert!(!a.is_answered(claim).await, "the look at the session waits for its eviction");
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(a.answer(claim).await, Done::Gone);
    assert_eq!(a.look(call(session, 1).record()).await, Done::Absent);
}

#[tokio::test]
async fn what_is_held_for_too_long_is_busy_and_takes_no_others_with_it() {
    let server = quiet();
    let schema = schema();
    let mut a = Replica::open(Store::shared(server.url()).schema(&schema).connections(1)).await;
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(a.finish(call(session, 1), Some(ok("done"))).await, Done::Stored);
    let other = observer(&server.url()).await;
    other.batch_execute(&format!("BEGIN; DELETE FROM {schema}.record")).await.unwrap();
    let tickets: Vec<_> = (1..=3).map(|number| a.ask(Op::Claim(call(session, number)))).collect();
    let mut dones = Vec::new();
    for ticket in tickets {
        dones.push(a.answer(ticket).await);
    }
    assert_eq!(dones, [Done::Busy, Done::Claimed, Done::Claimed]);
    other.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_lease_that_has_expired_is_taken_over_by_compare_and_swap() {
    let server = quiet();
    let schema = schema();
    let store = Store::shared(server.url()).schema(&schema);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    let (taken, finished) = (call(session, 1), call(session, 2));
    assert_eq!(a.claim(taken).await, Done::Claimed);
    assert_eq!(a.claim(finished).await, Done::Claimed);
    assert_eq!(b.look(taken.record()).await, running(a.incarnation), "its lease holds");
    let other = observer(&server.url()).await;
    let expire = format!("UPDATE {schema}.owner SET expires = '-infinity' WHERE incarnation = $1");
    // The owner first: its answer stays.
    assert_eq!(a.finish(finished, Some(ok("done"))).await, Done::Stored);
    other.execute(&expire, &[&(a.incarnation.0 as i64)]).await.unwrap();
    assert_eq!(b.look(finished.record()).await, ended(ok("done")));
    // The other first: what it recorded stays, and the owner finds it.
    let found = b.look(taken.record()).await;
    assert!(is_recorded_unknown(&found), "{found:?}");
    assert_eq!(a.finish(taken, Some(ok("late"))).await, found);
    assert_eq!(b.claim(taken).await, found);
}

#[tokio::test]
async fn unfinished_records_run_again_only_where_that_was_chosen() {
    let server = quiet();
    let schema = schema();
    let store = Store::shared(server.url()).schema(&schema).rerun_unfinished(true);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    let other = observer(&server.url()).await;
    other.batch_execute(&format!("UPDATE {schema}.owner SET expires = '-infinity'")).await.unwrap();
    assert_eq!(b.look(call(session, 1).record()).await, Done::Absent);
    assert_eq!(b.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(a.finish(call(session, 1), Some(ok("late"))).await, running(b.incarnation));
}

#[tokio::test]
async fn a_sweep_ends_what_dead_owners_left() {
    let server = quiet();
    let schema = schema();
    let store = Store::shared(server.url()).schema(&schema);
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(b.claim(call(session, 2)).await, Done::Claimed);
    let other = observer(&server.url()).await;
    let expire = format!("UPDATE {schema}.owner SET expires = '-infinity' WHERE incarnation = $1");
    other.execute(&expire, &[&(a.incarnation.0 as i64)]).await.unwrap();
    assert_eq!(b.does(Op::Sweep).await, Done::Stored);
    let found = a.finish(call(session, 1), Some(ok("late"))).await;
    assert!(is_recorded_unknown(&found), "{found:?}");
    assert_eq!(b.finish(call(session, 2), Some(ok("done"))).await, Done::Stored);
}

#[tokio::test]
async fn an_abandoned_record_of_ones_own_becomes_unknown() {
    let server = quiet();
    let mut a = Replica::open(Store::shared(server.url()).schema(schema())).await;
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    let found = a.does(Op::Look { record: call(session, 1).record(), abandon: true }).await;
    assert!(is_recorded_unknown(&found), "{found:?}");
}

#[tokio::test]
async fn two_replicas_that_claim_the_same_calls_do_not_block_each_other() {
    let server = quiet();
    let store = Store::shared(server.url()).schema(schema());
    let (mut a, mut b) = (Replica::open(store.clone()).await, Replica::open(store).await);
    let session = a.session().await;
    let ask = |replica: &mut Replica, backwards: bool| {
        let number = |at: u64| if backwards { 400 - at } else { 1 + at };
        (0..400u64)
            .map(|at| (number(at), replica.ask(Op::Claim(call(session, number(at))))))
            .collect::<Vec<_>>()
    };
    let (of_a, mut of_b) = (ask(&mut a, false), ask(&mut b, true));
    of_b.sort_unstable();
    for ((number, at_a), (_, at_b)) in of_a.into_iter().zip(of_b) {
        let dones = (a.answer(at_a).await, b.answer(at_b).await);
        let one_won = dones == (Done::Claimed, running(a.incarnation))
            || dones == (running(b.incarnation), Done::Claimed);
        assert!(one_won, "{number}: {dones:?}");
    }
}

#[tokio::test]
async fn a_commit_in_doubt_is_waited_for_and_not_looked_up() {
    let server = Server::start();
    let schema = schema();
    let mut a = Replica::open(Store::shared(server.url()).schema(&schema)).await;
    let session = a.session().await;
    let other = observer(&server.url()).await;
    // No standby of that name will ever confirm, so a COMMIT is written, and then waits.
    wait_for_standby(&other, "nobody").await;
    let claim = a.ask(Op::Claim(call(session, 1)));
    assert!(matches!(a.answer(claim).await, Done::InDoubt(_)));
    let seen = other.query(&format!("SELECT FROM {schema}.record"), &[]).await.unwrap();
    assert!(seen.is_empty(), "a look sees nothing, though it was committed");
    let settle = a.ask(Op::Settle(call(session, 1)));
    assert!(!a.is_answered(settle).await, "it waits");
    wait_for_standby(&other, "").await;
    let mut done = a.answer(settle).await;
    while matches!(done, Done::InDoubt(_) | Done::NotDone(_)) {
        done = a.does(Op::Settle(call(session, 1))).await;
    }
    assert_eq!(done, Done::Claimed, "it was there all the time");
}

/// Asks for confirmation by a standby, and waits until new transactions see that.
async fn wait_for_standby(other: &selfsame::postgres::Client, name: &str) {
    other.batch_execute("SET synchronous_commit = local").await.unwrap();
    other.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await.unwrap();
    other.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let shown = || other.query_one("SHOW synchronous_standby_names", &[]);
    while shown().await.unwrap().get::<_, String>(0) != name {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
