//! Who may read what.

use selfsame::{EventError, Publisher, Subscriber};

use super::contract::{News, Price};
use super::peers::{PlainSub, blocking, next, publish};
use super::transport::{Over, anywhere};

/// Rules about principals are tried where there are some, in the tests of TLS.
async fn no_news() -> Publisher {
    let builder = Publisher::builder().allow(|_, topic| topic != "news");
    builder.over().bind(anywhere()).await.unwrap()
}

#[tokio::test]
async fn who_subscribes_to_what_it_may_not_read_is_told_so_and_gets_the_rest() {
    let publisher = no_news().await;
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    let error = subscriber.subscribe::<News>().await.unwrap_err().to_string();
    assert!(error.contains("subscribe to news") && error.contains("does not allow"), "{error}");
    publish(&publisher.topic::<News>(), "secret").await;
    publish(&publisher.topic::<Price>(), "ann 1").await;
    assert_eq!(next(&mut prices).await, "ann 1");
    assert!(publisher.counters().denied >= 1);
}

#[tokio::test]
async fn one_publisher_of_two_denies_the_topic() {
    let (open, closed) = (Publisher::builder().over().bind(anywhere()).await.unwrap(), no_news().await);
    let subscriber =
        Subscriber::builder().over().connect(open.endpoint()).await.unwrap().also(closed.endpoint()).unwrap();
    let mut news = subscriber.subscribe::<News>().await.unwrap();
    let denied = news.next().await.unwrap();
    let publisher = closed.endpoint().into();
    assert_eq!(denied.unwrap_err(), EventError::Denied { topic: "news", publisher });
    publish(&closed.topic::<News>(), "secret").await;
    publish(&open.topic::<News>(), "open").await;
    assert_eq!(next(&mut news).await, "open");
}

#[tokio::test]
async fn a_plain_socket_that_wants_everything_gets_what_it_may_read_and_learns_of_nothing_else() {
    let publisher = no_news().await;
    publish(&publisher.topic::<News>(), "secret").await;
    let mut sub = {
        let publisher = publisher.clone();
        blocking(move || PlainSub::connect(&publisher)).await
    };
    for frame in [&b"\x01"[..], b"\x01news/", b"\x01selfsame/sync/00000000000000ab"] {
        sub.say(frame).unwrap();
    }
    let (mut sub, answer) = blocking(move || {
        let answer = sub.message().unwrap();
        (sub, answer)
    })
    .await;
    assert_eq!(answer[0], b"selfsame/sync/00000000000000ab");
    publish(&publisher.topic::<News>(), "secret").await;
    publish(&publisher.topic::<Price>(), "ann 1").await;
    let event = blocking(move || sub.message().unwrap()).await;
    assert_eq!(event[0], b"price/ann");
}
