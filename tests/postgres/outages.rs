//! PostgreSQL that is not there, goes away, or does not answer: what was asked is answered, truthfully and soon, and the store comes back by itself.

use std::time::{Duration, Instant};

use selfsame::Store;
use selfsame::protocol::store::{Done, Op, StoreEvent};
use selfsame_test_postgres::Server;

use crate::relay::Relay;
use crate::rig::*;

async fn up_again(replica: &mut Replica) {
    if let Some(at) = replica.events.iter().position(|event| *event == StoreEvent::Up) {
        replica.events.drain(..=at);
        return;
    }
    replica.events.clear();
    while replica.event().await != StoreEvent::Up {}
}

/// Asks until the store is there.
async fn claimed(replica: &mut Replica, intent: selfsame::protocol::store::Intent) -> Done {
    loop {
        match replica.claim(intent).await {
            Done::NotDone(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            done => return done,
        }
    }
}

#[tokio::test]
async fn the_store_opens_when_postgresql_comes() {
    let mut server = Server::start();
    server.stop();
    for url in [server.url(), server.tcp_url()] {
        server.stop();
        let mut a = Replica::begin(Store::shared(url).schema(schema()), RETENTION).await;
        let began = Instant::now();
        assert!(matches!(a.does(Op::Sweep).await, Done::NotDone(_)));
        assert!(began.elapsed() < Duration::from_secs(2), "it does not wait");
        server.resume_service();
        assert!(matches!(a.event().await, StoreEvent::Opened(_)));
        a.session().await;
    }
}

#[tokio::test]
async fn a_killed_postgresql_loses_nothing_that_was_told() {
    let mut server = Server::start();
    let mut a = Replica::open(Store::shared(server.url())).await;
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(a.claim(call(session, 2)).await, Done::Claimed);
    assert_eq!(a.finish(call(session, 1), Some(ok("done"))).await, Done::Stored);
    let under_way: Vec<_> =
        (3..300).map(|number| (number, a.ask(Op::Claim(call(session, number))))).collect();
    server.kill9();
    let mut told = Vec::new();
    for (number, ticket) in under_way {
        told.push((number, a.answer(ticket).await));
    }
    server.resume_service();
    up_again(&mut a).await;
    assert_eq!(a.look(call(session, 1).record()).await, ended(ok("done")));
    assert_eq!(a.finish(call(session, 2), Some(ok("done"))).await, Done::Stored);
    for (number, done) in told {
        let found = a.look(call(session, number).record()).await;
        match done {
            Done::Claimed => assert_eq!(found, running(a.incarnation), "{number}"),
            Done::NotDone(_) => assert_eq!(found, Done::Absent, "{number}"),
            Done::InDoubt(_) => {
                let settled = a.does(Op::Settle(call(session, number))).await;
                let expected = if found == Done::Absent { Done::Absent } else { Done::Claimed };
                assert_eq!(settled, expected, "{number}");
            }
            other => panic!("{number}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_restart_is_told_and_survived() {
    let mut server = Server::start();
    let mut a = Replica::open(Store::shared(server.tcp_url()).lease(Duration::from_secs(1))).await;
    let session = a.session().await;
    for number in 1..4 {
        server.restart();
        assert_eq!(claimed(&mut a, call(session, number)).await, Done::Claimed);
    }
}

#[tokio::test]
async fn a_postgresql_that_does_not_answer_holds_nobody_up() {
    let mut server = Server::start();
    let mut a = Replica::open(Store::shared(server.url()).lease(Duration::from_secs(3))).await;
    let session = a.session().await;
    server.pause();
    let began = Instant::now();
    let done = a.claim(call(session, 1)).await;
    assert!(matches!(done, Done::NotDone(_)), "{done:?}");
    while !matches!(a.events.pop(), Some(StoreEvent::Down(_))) {
        let event = a.event().await;
        a.events.push(event);
    }
    assert!(matches!(a.claim(call(session, 2)).await, Done::NotDone(_)));
    assert!(began.elapsed() < Duration::from_secs(15));
    server.unpause();
    up_again(&mut a).await;
    assert_eq!(claimed(&mut a, call(session, 1)).await, Done::Claimed);
}

#[tokio::test]
async fn a_removal_that_was_given_up_and_arrives_late_leaves_the_next_run_alone() {
    let server = Server::start();
    let relay = Relay::start(&server, Duration::ZERO).await;
    let mut a = Replica::open(Store::shared(relay.url()).schema(schema())).await;
    let session = a.session().await;
    let intent = call(session, 1);
    assert_eq!(a.claim(intent).await, Done::Claimed);
    let caught = relay.catch(session.0.to_be_bytes().to_vec());
    let done = a.finish(intent, None).await;
    assert!(matches!(done, Done::InDoubt(_)), "{done:?}");
    while let done = a.finish(intent, None).await
        && done != Done::Stored
    {
        assert!(matches!(done, Done::NotDone(_)), "{done:?}");
    }
    assert_eq!(claimed(&mut a, intent).await, Done::Claimed);
    caught.await.expect("the first removal").arrive().await;
    assert_eq!(a.finish(intent, Some(ok("done"))).await, Done::Stored);
    assert_eq!(a.claim(intent).await, ended(ok("done")));
}

#[tokio::test]
async fn a_postgresql_that_is_far_away_is_used() {
    let server = Server::start();
    let relay = Relay::start(&server, Duration::from_millis(150)).await;
    let mut a = Replica::open(Store::shared(relay.url()).schema(schema())).await;
    let session = a.session().await;
    assert_eq!(a.claim(call(session, 1)).await, Done::Claimed);
    assert_eq!(a.finish(call(session, 1), Some(ok("done"))).await, Done::Stored);
}
