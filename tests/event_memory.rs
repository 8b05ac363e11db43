//! Goal: subscribers that never read cost what their limits say, however much is published.
//!
//! Method: a process of its own, since it is the process's memory that is looked at. Twenty SUB sockets subscribe and never read, while
//! many times the memory that may be used is published.
#![cfg(target_os = "linux")]

#[path = "events/contract.rs"]
#[allow(dead_code)]
mod contract;
#[path = "events/peers.rs"]
#[allow(dead_code)]
mod peers;
#[path = "transport/mod.rs"]
mod transport;

use contract::{News, Price};
use peers::{PlainSub, blocking, next, publish, until};
use selfsame::{Publisher, Subscriber};

const DEAF: u64 = 20;
const EVENTS: u64 = 2_000;
const SIZE: usize = 100_000;

/// The process's memory, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn deaf_subscribers_cost_their_windows_and_one_queue() {
    let publisher = Publisher::bind("tcp://127.0.0.1:0").await.unwrap();
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let publisher = publisher.clone();
        let mut sub = blocking(move || PlainSub::connect(&publisher)).await;
        sub.subscribe("price/");
        deaf.push(sub);
    }
    let subscriber = Subscriber::connect(publisher.endpoint()).await.unwrap();
    let mut news = subscriber.subscribe::<News>().await.unwrap();
    until(&publisher, |counters| counters.subscriptions == DEAF + 1).await;
    let before = resident();
    let (prices, headlines) = (publisher.topic::<Price>(), publisher.topic::<News>());
    let filler = "x".repeat(SIZE);
    for number in 0..EVENTS {
        publish(&prices, &format!("ann {number} {filler}")).await;
        if number % 100 == 0 {
            publish(&headlines, "hello").await;
            assert_eq!(next(&mut news).await, "hello", "the others are not disturbed");
        }
    }
    let counters = until(&publisher, |counters| counters.published >= EVENTS).await;
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{} MB were published, memory grew by {grown}: {counters:?}",
        (EVENTS * SIZE as u64) >> 20
    );
    assert_eq!(counters.subscribers, DEAF + 1);
    assert!(counters.dropped_oldest > DEAF * EVENTS / 2, "{counters:?}");
    drop(deaf);
}
