//! How a store opens: its tables, its options, and what it finds there.

use selfsame::protocol::Incarnation;
use selfsame::protocol::store::{Op, StoreEvent};
use selfsame::store::Opener;
use selfsame::{Spin, Store};

use crate::rig::*;

#[tokio::test]
async fn servers_that_open_a_new_store_at_once_agree_on_what_it_is() {
    let server = quiet();
    let store = Store::shared(server.url()).schema(schema());
    let (a, b, c) = tokio::join!(
        Replica::open(store.clone()),
        Replica::open(store.clone()),
        Replica::open(store.clone())
    );
    let mut ordinals = [&a, &b, &c].map(|replica| replica.opened.ordinal);
    ordinals.sort_unstable();
    assert_eq!(ordinals, [1, 2, 3]);
    assert!(
        [&b, &c]
            .iter()
            .all(|other| other.opened.store == a.opened.store && other.opened.born == a.opened.born)
    );
    let d = Replica::open(store).await;
    assert_eq!((d.opened.ordinal, d.opened.generation), (4, a.opened.generation));
    let elsewhere = Replica::open(Store::shared(server.url()).schema(schema())).await;
    assert_ne!(elsewhere.opened.generation, a.opened.generation);
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused_and_left_alone() {
    let server = quiet();
    let schema = schema();
    let store = Store::shared(server.url()).schema(&schema);
    drop(Replica::open(store.clone()).await);
    let other = observer(&server.url()).await;
    other.batch_execute(&format!("INSERT INTO {schema}.version VALUES (999)")).await.unwrap();
    let mut late = Replica::begin(store, RETENTION).await;
    let StoreEvent::Stopped(why) = late.event().await else { panic!("it opened") };
    assert!(why.contains("999") && why.contains("older"), "{why}");
    let row = other.query_one(&format!("SELECT incarnations FROM {schema}.meta"), &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn tables_that_were_dropped_stop_the_store() {
    let server = quiet();
    let schema = schema();
    let mut a = Replica::open(Store::shared(server.url()).schema(&schema)).await;
    let other = observer(&server.url()).await;
    other.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    a.ask(Op::Sweep);
    loop {
        match a.event().await {
            StoreEvent::Stopped(why) => break assert!(why.contains("gone"), "{why}"),
            StoreEvent::Down(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_role_without_privileges_of_an_administrator_will_do() {
    let server = quiet();
    let schema = schema();
    let other = observer(&server.url()).await;
    other
        .batch_execute(&format!("CREATE ROLE {schema} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {schema}"))
        .await
        .unwrap();
    let url = server.url().replace("user=postgres", &format!("user={schema}"));
    let mut a = Replica::open(Store::shared(url).schema(&schema)).await;
    a.session().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error_at_once() {
    for (store, expected) in [
        (Store::shared("postgresql://user@"), "no host"),
        (Store::shared("mysql://here"), "not the URL"),
        (Store::shared("postgresql:///x?sslmode=require&host=/tmp"), "TLS"),
        (Store::atomic("postgresql://here/x").schema("Robert'); DROP"), "schema"),
        (Store::atomic("postgresql://here/x").lease(std::time::Duration::ZERO), "lease"),
    ] {
        let opener = Opener { incarnation: Incarnation(1), retention: RETENTION, spin: Spin::default() };
        let Err(error) = store.open(opener).await else { panic!("{expected}: it opens") };
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}
