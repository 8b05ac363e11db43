//! Publishers and subscribers: the same certificates, and rules about topics.

use selfsame::{Publisher, Subscriber};

use super::certificates::Folder;
use super::contract::{News, Price};
use super::peers::{next, publish, until};

#[tokio::test]
async fn events_reach_who_may_read_them_and_no_one_else() {
    let folder = Folder::new();
    let publisher = Publisher::builder()
        .tls(folder.mutual())
        .allow(|principal, topic| topic == "news" || principal.name() == Some("ann"))
        .bind("tls://127.0.0.1:0")
        .await
        .unwrap();
    let subscribe = async |name| {
        let subscriber = Subscriber::builder().tls(folder.client(name));
        subscriber.connect(publisher.endpoint()).await.unwrap()
    };
    let (ann, bob) = (subscribe("ann").await, subscribe("bob").await);
    let mut prices = ann.subscribe::<Price>().await.unwrap();
    let mut news = bob.subscribe::<News>().await.unwrap();
    let denied = bob.subscribe::<Price>().await.expect_err("bob may not").to_string();
    assert!(denied.contains("price"), "{denied}");
    // Large ones too: one event takes many records of TLS.
    for size in [1, 20_000, 900_000] {
        let text = format!("ann {}", "x".repeat(size));
        publish(&publisher.topic::<Price>(), &text).await;
        publish(&publisher.topic::<News>(), &text).await;
        assert_eq!(next(&mut prices).await, text);
        assert_eq!(next(&mut news).await, text);
    }
    until(&publisher, |counters| counters.published == 6).await;
}

#[tokio::test]
async fn a_subscriber_without_a_certificate_hears_nothing() {
    let folder = Folder::new();
    let publisher = Publisher::builder().tls(folder.mutual()).bind("tls://127.0.0.1:0").await.unwrap();
    let stranger = Subscriber::builder().tls(folder.nobody()).connect(publisher.endpoint()).await.unwrap();
    let ann = Subscriber::builder().tls(folder.client("ann")).connect(publisher.endpoint()).await.unwrap();
    let waits = stranger.subscribe::<News>();
    let mut news = ann.subscribe::<News>().await.unwrap();
    publish(&publisher.topic::<News>(), "hello").await;
    assert_eq!(next(&mut news).await, "hello");
    assert_eq!(stranger.counters().events, 0);
    assert_eq!(format!("{stranger:?}"), "Subscriber(0 of 1 publishers connected)");
    drop(waits);
}
