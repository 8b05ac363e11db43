//! What arrives where, when nothing goes wrong.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use selfsame::protocol::wire::{Entry, Limits, decode};
use selfsame::{Publish, PublishError, Publisher, Subscriber, Subscription, TopicPublisher};

use super::contract::{Divided, News, OtherPrice, Price, Reserved};
use super::peers::{PlainSub, blocking, describe, next, patiently, publish, until};
use super::transport::{Over, anywhere};

#[test]
fn handles_may_be_shared_and_futures_and_streams_spawned() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn spawned<T: Send + Unpin + 'static>() {}
    shared::<(Publisher, Subscriber, TopicPublisher<Price>)>();
    spawned::<(Publish, Subscription<Price>)>();
}

#[tokio::test]
async fn topics_and_keys_are_told_apart() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut all = subscriber.subscribe::<Price>().await.unwrap();
    let mut ann = subscriber.subscribe::<Price>().key("ann").key("7").await.unwrap();
    let mut news = subscriber.subscribe::<News>().await.unwrap();
    let prices = publisher.topic::<Price>();
    for text in ["ann 1", "anna 2", "bob 3", "7 4", "77 5", "ann 6"] {
        publish(&prices, text).await;
    }
    publish(&publisher.topic::<News>(), "hello").await;
    for text in ["ann 1", "anna 2", "bob 3", "7 4", "77 5", "ann 6"] {
        assert_eq!(next(&mut all).await, text);
    }
    for text in ["ann 1", "7 4", "ann 6"] {
        assert_eq!(next(&mut ann).await, text);
    }
    // As a stream too.
    assert_eq!(describe(patiently("news", StreamExt::next(&mut news)).await.unwrap()), "hello");
    assert_eq!((ann.counters().received, subscriber.counters().events), (3, 7));
}

#[tokio::test]
async fn a_subscription_starts_where_it_stands_and_ends_with_its_drop() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let prices = publisher.topic::<Price>();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    publish(&prices, "ann 1").await;
    until(&publisher, |counters| counters.published == 1).await;
    let mut first = subscriber.subscribe::<Price>().await.unwrap();
    publish(&prices, "ann 2").await;
    assert_eq!(next(&mut first).await, "ann 2", "and no gap: the event before was before the subscription");
    drop(first);
    // Publishers are told in order: when this one stands, the first is cancelled.
    let mut news = subscriber.subscribe::<News>().await.unwrap();
    publish(&prices, "ann 3").await;
    let counters = until(&publisher, |counters| counters.published == 3).await;
    assert_eq!((counters.subscriptions, counters.unmatched), (1, 2));
    let mut again = subscriber.subscribe::<Price>().await.unwrap();
    publish(&prices, "ann 4").await;
    assert_eq!(next(&mut again).await, "ann 4");
    publish(&publisher.topic::<News>(), "hello").await;
    assert_eq!(next(&mut news).await, "hello");
}

#[tokio::test]
async fn many_events_arrive_in_order_and_share_messages() {
    const COUNT: u64 = 20_000;
    let publisher = Publisher::builder().queue(16 << 20).over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        subscriptions.push(subscriber.subscribe::<Price>().key("ann").queue(16 << 20).await.unwrap());
    }
    let other = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    subscriptions.push(other.subscribe::<Price>().queue(16 << 20).await.unwrap());
    let prices = publisher.topic::<Price>();
    for number in 0..COUNT {
        publish(&prices, &format!("ann {number}")).await;
    }
    for subscription in &mut subscriptions {
        for number in 0..COUNT {
            assert_eq!(next(subscription).await, format!("ann {number}"));
        }
    }
    let counters = publisher.counters();
    assert_eq!(
        (counters.published, counters.sent),
        (COUNT, 2 * COUNT),
        "one copy a connection: {counters:?}"
    );
    assert!(counters.messages < counters.sent / 2, "{counters:?}");
}

#[tokio::test]
async fn large_events_arrive_whole() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    for size in [1, 4_000, 5_000, 20_000, 900_000] {
        let text = format!("ann {}", "x".repeat(size));
        publish(&publisher.topic::<Price>(), &text).await;
        assert_eq!(next(&mut prices).await, text);
    }
}

#[tokio::test]
async fn one_subscriber_takes_events_of_several_publishers() {
    let one = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let other = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let gone = Publisher::builder().over().bind(anywhere()).await.unwrap();
    gone.shutdown().await;
    let subscriber = Subscriber::builder().over().connect(one.endpoint()).await.unwrap();
    let subscriber = subscriber.also(other.endpoint()).unwrap().also(gone.endpoint()).unwrap();
    let mut prices = subscriber.subscribe::<Price>().key("ann").await.unwrap();
    // Equal keys, equal numbers: still two events.
    publish(&one.topic::<Price>(), "ann one").await;
    publish(&other.topic::<Price>(), "ann other").await;
    let mut got = [next(&mut prices).await, next(&mut prices).await];
    got.sort();
    assert_eq!(got, ["ann one", "ann other"]);
}

#[tokio::test]
async fn a_plain_sub_socket_gets_events_and_nothing_else() {
    let publisher =
        Publisher::builder().beacon(Duration::from_millis(10)).over().bind(anywhere()).await.unwrap();
    let mut sub = {
        let publisher = publisher.clone();
        blocking(move || PlainSub::connect(&publisher)).await
    };
    sub.subscribe("price/ann");
    until(&publisher, |counters| counters.subscriptions == 1).await;
    let prices = publisher.topic::<Price>();
    publish(&prices, "bob 1").await;
    publish(&prices, "ann 2").await;
    // Beacons go to others meanwhile.
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let _synced = subscriber.subscribe::<News>().await.unwrap();
    publish(&prices, "anna 3").await;
    let messages = blocking(move || [sub.message().unwrap(), sub.message().unwrap()]).await;
    for (message, (topic, text)) in
        messages.into_iter().zip([("price/ann", "ann 2"), ("price/anna", "anna 3")])
    {
        let frames: Vec<Bytes> = message.into_iter().map(Bytes::from).collect();
        assert_eq!(frames[0], topic);
        let entries = decode(&frames[1..], &Limits::default()).unwrap().entries;
        let [Ok(Entry::Event(event))] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((event.sequence, event.type_id), (1, 0xa1));
        let body = event.body.escape_ascii().to_string();
        assert!(body.contains(text), "{body}");
    }
}

#[tokio::test]
async fn what_waits_is_sent_before_a_shutdown_and_nothing_after() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    let topic = publisher.topic::<Price>();
    for number in 0..1_000 {
        publish(&topic, &format!("ann {number}")).await;
    }
    patiently("shutting down", publisher.shutdown()).await;
    patiently("shutting down again", publisher.shutdown()).await;
    let refused = topic.publish(|mut event| event.set_as("ann")).await;
    assert_eq!(refused, Err(PublishError::Closed));
    for number in 0..1_000 {
        assert_eq!(next(&mut prices).await, format!("ann {number}"));
    }
    assert_eq!(next(&mut prices).await, "disconnected");
    subscriber.close();
    assert!(patiently("the end", prices.next()).await.is_none());
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_the_reason() {
    let publisher = Publisher::builder().queue(10_000).over().bind(anywhere()).await.unwrap();
    let refused = publisher.topic::<Reserved>().publish(|mut event| event.set_as("x")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "selfsame.price cannot be the name of a topic: it begins with `selfsame`, as only the library's own topics do; rename it"
    );
    let refused = publisher.topic::<Divided>().publish(|mut event| event.set_as("x")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "price/eur cannot be the name of a topic: it contains `/`, which ends a topic's name; rename it"
    );
    let prices = publisher.topic::<Price>();
    let long = "x".repeat(600);
    let refused = prices.publish(|mut event| event.set_as(&*long)).await.unwrap_err();
    assert_eq!(refused, PublishError::KeyTooLong { topic: "price", length: 606, limit: 512 });
    let long = format!("ann {}", "x".repeat(20_000));
    let refused = prices.publish(|mut event| event.set_as(&*long)).await.unwrap_err();
    assert!(matches!(refused, PublishError::TooLarge { limit: 10_000, .. }), "{refused}");
    let refused = prices.publish(|_| Err(capnp::Error::failed("on purpose".into()))).await.unwrap_err();
    assert!(refused.to_string().contains("on purpose"), "{refused}");
    assert_eq!(publisher.counters().published, 0);
    for endpoint in ["tcp://127.0.0.1", publisher.endpoint()] {
        let error = Publisher::builder().over().bind(endpoint).await.unwrap_err().to_string();
        assert!(error.contains(endpoint), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_published_cannot_be_subscribed_to() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let refused = subscriber.subscribe::<Reserved>().await.unwrap_err().to_string();
    assert!(refused.contains("subscribe to selfsame.price: it begins with `selfsame`"), "{refused}");
    let refused = subscriber.subscribe::<Divided>().await.unwrap_err().to_string();
    assert!(refused.contains("subscribe to price/eur: it contains `/`"), "{refused}");
    let refused = subscriber.subscribe::<Price>().key(&"x".repeat(600)).await.unwrap_err().to_string();
    assert!(refused.contains("topic and key take more than 512 bytes"), "{refused}");
}

#[tokio::test]
async fn an_event_of_another_type_is_an_error_and_the_stream_goes_on() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    publish(&publisher.topic::<OtherPrice>(), "who knows").await;
    publish(&publisher.topic::<Price>(), "ann 1").await;
    let error = next(&mut prices).await;
    assert!(error.contains("0x00000000000000a3") && error.contains("0x00000000000000a1"), "{error}");
    assert!(error.contains("price/ann") && error.contains(publisher.endpoint()), "{error}");
    assert_eq!(next(&mut prices).await, "ann 1");
}
