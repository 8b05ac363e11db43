//! Slow subscribers, lost connections, publishers that restart or come late.

use std::collections::BTreeMap;
use std::time::Duration;

use selfsame::{Policy, Publisher, Subscriber, Subscription};

use super::contract::{News, Price};
use super::peers::{Flow, PlainSub, Relay, blocking, next, publish, until};
use super::transport::{Over, anywhere};

/// Reads until each of `keys` has `count` events or losses, and returns how many of them were lost.
async fn account(subscription: &mut Subscription<Price>, keys: &[&str], count: u64) -> u64 {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut lost = 0;
    while keys.iter().any(|key| seen.get(*key) != Some(&count)) {
        let text = next(subscription).await;
        match text.split_once(' ').unwrap_or_else(|| panic!("{text}")) {
            ("missed", rest) => {
                let (missed, key) = rest.split_once(" of ").unwrap();
                let missed: u64 = missed.parse().unwrap();
                lost += missed;
                *seen.entry(key.to_string()).or_default() += missed;
            }
            (key, rest) => {
                let number: u64 = rest.split(' ').next().unwrap().parse().unwrap();
                let seen = seen.entry(key.to_string()).or_default();
                assert_eq!(*seen, number, "after what was lost comes the next");
                *seen += 1;
            }
        }
    }
    lost
}

#[tokio::test]
async fn slow_subscribers_lose_events_and_know_it_and_nobody_else_does() {
    const COUNT: u64 = 1_500;
    let builder = Publisher::builder().beacon(Duration::from_secs(20));
    let publisher = builder.over().bind(anywhere()).await.unwrap();
    let relay = Relay::to(&publisher).await;
    let slow = Subscriber::builder().over().connect(&relay.endpoint).await.unwrap();
    let mut slow = slow.subscribe::<Price>().queue(64 << 20).await.unwrap();
    let fast = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut fast = fast.subscribe::<Price>().queue(64 << 20).await.unwrap();
    let mut deaf = {
        let publisher = publisher.clone();
        blocking(move || PlainSub::connect(&publisher)).await
    };
    deaf.subscribe("price/");
    until(&publisher, |counters| counters.subscriptions == 3).await;
    relay.set(Flow::Stalled);
    let prices = publisher.topic::<Price>();
    let filler = "x".repeat(10_000);
    for number in 0..COUNT {
        for key in ["ann", "bob"] {
            publish(&prices, &format!("{key} {number} {filler}")).await;
            // In step with the fast one, which therefore loses nothing.
            assert!(next(&mut fast).await.starts_with(&format!("{key} {number} ")));
        }
    }
    let counters = publisher.counters();
    assert_eq!(counters.published, 2 * COUNT);
    assert!(counters.dropped_oldest > COUNT, "both others are stuck: {counters:?}");
    let wait = counters.queued - counters.sent - counters.dropped_oldest;
    assert!(wait <= 3 * (1 << 20) / 10_000, "queues of 1 MiB: {counters:?}");
    relay.set(Flow::Open);
    let lost = account(&mut slow, &["ann", "bob"], COUNT).await;
    assert!(lost > COUNT / 2, "{lost}");
    assert_eq!(slow.counters().missed, lost);
    assert_eq!(fast.counters().missed, 0);
    drop(deaf);
    until(&publisher, |counters| counters.subscribers == 2).await;
}

#[tokio::test]
async fn a_publisher_that_blocks_loses_nothing() {
    const COUNT: u64 = 2_000;
    let builder = Publisher::builder().policy(Policy::Block).queue(50_000).backlog(50_000);
    let publisher = builder.beacon(Duration::from_secs(20)).over().bind(anywhere()).await.unwrap();
    let relay = Relay::to(&publisher).await;
    let subscriber = Subscriber::builder().over().connect(&relay.endpoint).await.unwrap();
    let mut slow = subscriber.subscribe::<Price>().queue(64 << 20).await.unwrap();
    relay.set(Flow::Stalled);
    let publishing = tokio::spawn({
        let prices = publisher.topic::<Price>();
        async move {
            let filler = "x".repeat(5_000);
            for number in 0..COUNT {
                publish(&prices, &format!("ann {number} {filler}")).await;
            }
        }
    });
    // Ten megabytes are more than all buffers on the way hold.
    until(&publisher, |counters| counters.queued - counters.sent >= 9).await;
    assert!(!publishing.is_finished());
    relay.set(Flow::Open);
    assert_eq!(account(&mut slow, &["ann"], COUNT).await, 0);
    publishing.await.unwrap();
    assert_eq!(publisher.counters().dropped_oldest, 0);
}

#[tokio::test]
async fn a_blocked_publisher_loses_its_patience_with_a_subscriber_not_its_events() {
    let builder = Publisher::builder().policy(Policy::Block).queue(50_000).patience(Duration::from_secs(1));
    let publisher = builder.over().bind(anywhere()).await.unwrap();
    let mut deaf = {
        let publisher = publisher.clone();
        blocking(move || PlainSub::connect(&publisher)).await
    };
    deaf.subscribe("price/");
    until(&publisher, |counters| counters.subscriptions == 1).await;
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut keen = subscriber.subscribe::<Price>().queue(64 << 20).await.unwrap();
    let prices = publisher.topic::<Price>();
    let filler = "x".repeat(10_000);
    let mut number = 0;
    while publisher.counters().closed_blocking == 0 {
        publish(&prices, &format!("ann {number} {filler}")).await;
        number += 1;
    }
    assert_eq!(account(&mut keen, &["ann"], number).await, 0);
    drop(deaf);
}

#[tokio::test]
async fn a_publisher_that_disconnects_the_slow_sees_them_again() {
    const COUNT: u64 = 3_000;
    let builder = Publisher::builder().policy(Policy::Disconnect).beacon(Duration::from_secs(20));
    let publisher = builder.over().bind(anywhere()).await.unwrap();
    let relay = Relay::to(&publisher).await;
    let subscriber = Subscriber::builder().over().connect(&relay.endpoint).await.unwrap();
    let mut slow = subscriber.subscribe::<Price>().key("ann").queue(64 << 20).await.unwrap();
    relay.set(Flow::Stalled);
    let prices = publisher.topic::<Price>();
    let filler = "x".repeat(5_000);
    for number in 0..COUNT {
        publish(&prices, &format!("ann {number} {filler}")).await;
    }
    until(&publisher, |counters| counters.closed_slow == 1 && counters.published == COUNT).await;
    relay.set(Flow::Open);
    let (mut told, mut seen) = (Vec::new(), 0);
    while seen < COUNT {
        let text = next(&mut slow).await;
        match text.strip_prefix("missed ") {
            Some(missed) => seen += missed.split(' ').next().unwrap().parse::<u64>().unwrap(),
            None if text.starts_with("ann ") => seen += 1,
            None => told.push(text),
        }
    }
    assert_eq!((seen, told), (COUNT, vec!["disconnected".to_string(), "reconnected".to_string()]));
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_the_oldest_and_knows_it() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    let mut lazy = subscriber.subscribe::<Price>().queue(2_000).await.unwrap();
    let mut keen = subscriber.subscribe::<Price>().await.unwrap();
    let prices = publisher.topic::<Price>();
    for number in 0..1_000 {
        publish(&prices, &format!("ann {number}")).await;
        assert_eq!(next(&mut keen).await, format!("ann {number}"));
    }
    // A last one for both queues: the lazy one has come first.
    let lost = account(&mut lazy, &["ann"], 1_000).await;
    assert!(lost > 900, "{lost}");
    assert_eq!((lazy.counters().dropped, lazy.counters().missed), (lost, 0));
}

#[tokio::test]
async fn after_a_cut_the_gap_has_the_right_size() {
    let publisher = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let relay = Relay::to(&publisher).await;
    let subscriber = Subscriber::builder().over().connect(&relay.endpoint).await.unwrap();
    let mut ann = subscriber.subscribe::<Price>().key("ann").await.unwrap();
    let mut news = subscriber.subscribe::<News>().await.unwrap();
    let prices = publisher.topic::<Price>();
    publish(&prices, "ann 0").await;
    assert_eq!(next(&mut ann).await, "ann 0");
    relay.set(Flow::Cut);
    assert_eq!(next(&mut ann).await, "disconnected");
    until(&publisher, |counters| counters.subscribers == 0).await;
    for text in ["ann 1", "anna 2", "ann 3", "bob 4"] {
        publish(&prices, text).await;
    }
    publish(&publisher.topic::<News>(), "unheard").await;
    until(&publisher, |counters| counters.published == 6).await;
    relay.set(Flow::Open);
    assert_eq!(next(&mut ann).await, "reconnected");
    assert_eq!(next(&mut ann).await, "missed 2 of ann");
    publish(&prices, "ann 5").await;
    assert_eq!(next(&mut ann).await, "ann 5");
    for told in ["disconnected", "reconnected", "missed 1 of -"] {
        assert_eq!(next(&mut news).await, told);
    }
    assert_eq!(subscriber.counters().reconnects, 1);
}

#[tokio::test]
async fn a_restart_is_told_and_events_go_on() {
    let first = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let endpoint = first.endpoint().to_string();
    let subscriber = Subscriber::builder().over().connect(&endpoint).await.unwrap();
    let mut prices = subscriber.subscribe::<Price>().await.unwrap();
    publish(&first.topic::<Price>(), "ann 1").await;
    assert_eq!(next(&mut prices).await, "ann 1");
    first.shutdown().await;
    drop(first);
    let second = Publisher::builder().over().bind(&endpoint).await.unwrap();
    for told in ["disconnected", "reconnected", "restarted"] {
        assert_eq!(next(&mut prices).await, told);
    }
    publish(&second.topic::<Price>(), "ann 2").await;
    assert_eq!(next(&mut prices).await, "ann 2");
    assert_eq!(subscriber.counters().restarts, 1);
}

#[tokio::test]
async fn a_subscriber_may_come_before_its_publisher() {
    // A port that is free, by all chances still when it is bound again.
    let first = Publisher::builder().over().bind(anywhere()).await.unwrap();
    let endpoint = first.endpoint().to_string();
    first.shutdown().await;
    drop(first);
    let subscriber = Subscriber::builder().over().connect(&endpoint).await.unwrap();
    let hasty = subscriber.subscribe::<Price>().deadline(Duration::from_millis(50)).await;
    let error = hasty.unwrap_err().to_string();
    assert!(error.contains("price") && error.contains("of 1 publishers 0"), "{error}");
    let waiting =
        tokio::spawn(subscriber.subscribe::<Price>().deadline(Duration::from_secs(30)).into_future());
    let publisher = Publisher::builder().over().bind(&endpoint).await.unwrap();
    let mut prices = waiting.await.unwrap().unwrap();
    publish(&publisher.topic::<Price>(), "ann 1").await;
    assert_eq!(next(&mut prices).await, "ann 1");
    // What gave up has left nothing behind.
    assert_eq!(publisher.counters().subscriptions, 1);
}

#[tokio::test]
async fn a_loss_that_no_event_reveals_is_told_by_a_beacon() {
    let builder = Publisher::builder().queue(30_000).beacon(Duration::from_millis(300));
    let publisher = builder.over().bind(anywhere()).await.unwrap();
    let relay = Relay::to(&publisher).await;
    let subscriber = Subscriber::builder().over().connect(&relay.endpoint).await.unwrap();
    let mut ann = subscriber.subscribe::<Price>().key("ann").await.unwrap();
    let _others = subscriber.subscribe::<Price>().queue(0).await.unwrap();
    let prices = publisher.topic::<Price>();
    publish(&prices, "ann 0").await;
    relay.set(Flow::Stalled);
    // Ann's last event is followed by so many of Bob's that it is dropped.
    let filler = "x".repeat(10_000);
    let (mut number, mut all) = (0, 1);
    while publisher.counters().dropped_oldest < 20 {
        publish(&prices, &format!("bob {number} {filler}")).await;
        number += 1;
        if number % 10 == 0 {
            publish(&prices, "ann 1").await;
            all += 1;
        }
    }
    relay.set(Flow::Open);
    let mut seen = 0;
    while seen < all {
        let text = next(&mut ann).await;
        match text.strip_prefix("missed ") {
            Some(missed) => seen += missed.split(' ').next().unwrap().parse::<u64>().unwrap(),
            None if text.starts_with("ann ") => seen += 1,
            // The relay may have stalled for longer than three beacons.
            None => {}
        }
    }
    assert_eq!(seen, all);
}
