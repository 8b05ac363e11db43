//! Strangers that ask too much, or speak something else; on either side.

use bytes::Bytes;
use selfsame::io::{IoThread, Router, RouterEvent, RouterOptions};
use selfsame::protocol::fanout::{sync_id, sync_topic};
use selfsame::protocol::wire::{Encoder, Entry, Event, Limits, Numbers};
use selfsame::{Publisher, Subscriber};
use tokio::sync::oneshot;

use super::contract::Price;
use super::peers::{PlainSub, blocking, next, publish, until};
use super::transport::{Over, anywhere};

#[tokio::test]
async fn who_subscribes_too_much_or_says_something_else_is_closed_and_nobody_else() {
    let publisher = Publisher::builder().subscriptions(100).over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    type Misdeed = fn(&mut PlainSub);
    let misdeeds: [Misdeed; 6] = [
        |sub| (0..101).for_each(|number| drop(sub.say(format!("\u{1}{number}").as_bytes()))),
        |sub| drop(sub.say(&[1; 600])),
        |sub| drop(sub.say(b"hello")),
        |sub| drop(sub.say(b"")),
        // Beyond what the gate lets through.
        |sub| drop(sub.say(&[1; 100_000])),
        |sub| (0..1_000).for_each(|_| drop(sub.say(b"\xff\xff\xff\xff"))),
    ];
    for misdeed in misdeeds {
        let publisher = publisher.clone();
        blocking(move || {
            let mut sub = PlainSub::connect(&publisher);
            misdeed(&mut sub);
            assert_eq!(sub.message(), None, "closed");
        })
        .await;
    }
    let counters = until(&publisher, |counters| counters.subscribers == 1).await;
    assert_eq!((counters.closed_subscriptions, counters.closed_garbage), (2, 3), "{counters:?}");
    assert_eq!(counters.subscriptions, 1);
    publish(&publisher.topic::<Price>(), "ann 1").await;
    assert_eq!(next(&mut prices).await, "ann 1");
}

#[tokio::test]
async fn reserved_prefixes_and_idle_cancels_are_ignored() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let mut sub = {
        let publisher = publisher.clone();
        blocking(move || PlainSub::connect(&publisher)).await
    };
    for frame in
        [&b"\x00never"[..], b"\x01selfsame", b"\x01selfsame/sync/xyz", b"\x00selfsame/sync/0000000000000001"]
    {
        sub.say(frame).unwrap();
    }
    sub.say(b"\x01selfsame/sync/00000000000000ab").unwrap();
    let answer = blocking(move || sub.message().unwrap()).await;
    assert_eq!(answer[0], b"selfsame/sync/00000000000000ab");
    let counters = publisher.counters();
    assert_eq!((counters.reserved, counters.subscriptions), (2, 0));
}

/// Someone at a PUB socket who confirms each subscription, and after the first to a topic sends these messages. A subscriber may ask for
/// the numbers before that, when it has connected and has no subscription yet.
async fn impostor(mut messages: Vec<Vec<Bytes>>) -> (IoThread, String) {
    let io = IoThread::start("impostor").unwrap();
    let (tell, bound) = oneshot::channel();
    drop(io.run(move || async move {
        let endpoint = anywhere().parse().unwrap();
        let mut router = Router::bind(&endpoint, RouterOptions::publisher().over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        let mut subscribed = false;
        loop {
            let RouterEvent::Message(from, frames) = router.next().await else { continue };
            let Some(sync) = frames[0].strip_prefix(b"\x01").and_then(sync_id) else {
                subscribed = true;
                continue;
            };
            let answer = Entry::Numbers(Numbers { publisher: 9, sync, ..Numbers::default() });
            router.send(from, message(&frames[0][1..], [answer])).unwrap();
            if subscribed {
                messages.drain(..).for_each(|message| router.send(from, message).unwrap());
            }
        }
    }));
    (io, bound.await.unwrap())
}

fn message(topic: &[u8], entries: impl IntoIterator<Item = Entry>) -> Vec<Bytes> {
    let mut encoder = Encoder::new(Limits::default());
    entries.into_iter().for_each(|entry| encoder.push(entry).unwrap());
    [vec![Bytes::copy_from_slice(topic)], encoder.finish()].concat()
}

fn event(sequence: u64, body: &'static [u8]) -> Entry {
    let body = Bytes::from_static(body);
    Entry::Event(Event { publisher: 9, epoch: 0, sequence, type_id: 0xa1, trace: None, body })
}

#[tokio::test]
async fn whatever_a_publisher_sends_the_stream_says_what_is_wrong_and_goes_on() {
    let text = b"\0\0\0\0\x02\0\0\0\x01\0\0\0\x32\0\0\0ann\x20\x31\0\0\0";
    let messages = vec![
        vec![Bytes::from("price/ann")],
        vec![Bytes::from("price/ann"), Bytes::from("no header")],
        vec![Bytes::from(vec![b'p'; 600]), Bytes::from("no topic")],
        message(b"price/ann", [event(1, b"no body at all")]),
        message(b"price/ann", [event(2, text), event(u64::MAX, text), event(3, text)]),
        message(
            b"selfsame/beacon",
            [Entry::Numbers(Numbers { publisher: 9, more: false, ..Numbers::default() })],
        ),
        message(b"price/ann", [Entry::Ping(1), Entry::Numbers(Numbers::default())]),
        message(b"price", [event(1, text)]),
        message(
            &sync_topic(u64::MAX),
            [Entry::Numbers(Numbers { publisher: 8, sync: u64::MAX, ..Numbers::default() })],
        ),
    ];
    let (_impostor, endpoint) = impostor(messages).await;
    let subscriber = Subscriber::builder().over().connect(&endpoint).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    for _ in 0..3 {
        let error = next(&mut prices).await;
        assert!(
            error.starts_with("error: ") && error.contains("price/ann") && error.contains(&endpoint),
            "{error}"
        );
    }
    assert_eq!(next(&mut prices).await, "ann 1");
    assert_eq!(next(&mut prices).await, format!("missed {} of ann", u64::MAX - 3));
    assert_eq!(next(&mut prices).await, "ann 1");
    assert_eq!(subscriber.counters().malformed, 3);
}

#[tokio::test]
async fn of_many_small_messages_at_once_none_is_lost() {
    let text = b"\0\0\0\0\x02\0\0\0\x01\0\0\0\x32\0\0\0ann\x20\x31\0\0\0";
    let messages = (1..=2_000).map(|sequence| message(b"price/ann", [event(sequence, text)])).collect();
    let (_impostor, endpoint) = impostor(messages).await;
    let subscriber = Subscriber::builder().over().connect(&endpoint).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    for number in 1..=2_000 {
        assert_eq!(next(&mut prices).await, "ann 1", "number {number}");
    }
}
