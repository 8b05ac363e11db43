//! Ends that are meant: what was said before them arrives.

use std::time::Duration;

use bytes::Bytes;
use selfsame::io::{
    CloseReason, Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, Router, RouterEvent, RouterOptions,
};

use super::stranger::{Echo, PATIENCE, Stranger, blocking, frame};
use super::transport::{Line, Over, anywhere};

#[tokio::test]
async fn a_drain_delivers_what_was_said() {
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    let mut stranger = blocking(move || {
        let mut stranger = Stranger::dealer(address, b"");
        // Far more than the sockets hold, so most of it waits inside when the drain begins.
        for number in 0_u32..200 {
            stranger.say(&frame(0, &[&number.to_be_bytes()[..], &[0; 60_000]].concat()));
        }
        stranger
    })
    .await;
    echo.until(|_| true).await;
    // All that the router has taken it has answered, or will have before it hears of the drain; how much that is only the stranger can tell.
    let heard = tokio::task::spawn_blocking(move || {
        let mut heard = 0_u32;
        while let Ok((0, body)) = stranger.hear() {
            assert_eq!(body[..4], heard.to_be_bytes());
            heard += 1;
        }
        heard
    });
    echo.drain(PATIENCE).await;
    assert!(heard.await.unwrap() > 0);
    assert!(Line::connect(address).is_err(), "it still listens");
}

#[tokio::test]
async fn a_router_that_is_drained_after_sending_has_sent_all() {
    const MESSAGES: usize = 40;
    let (router, dealer) = (IoThread::start("test-router").unwrap(), IoThread::start("test-dealer").unwrap());
    let (tell, bound) = tokio::sync::oneshot::channel();
    let drained = router.run(move || async move {
        let mut router =
            Router::bind(&anywhere().parse().unwrap(), RouterOptions::router().over()).await.unwrap();
        tell.send(router.endpoint().clone()).unwrap();
        let RouterEvent::Opened(to, ..) = router.next().await else {
            panic!("something comes before Opened")
        };
        for _ in 0..MESSAGES {
            router.send(to, vec![Bytes::from(vec![5; 1 << 20])]).unwrap();
        }
        router.drain(PATIENCE).await;
    });
    let endpoint: Endpoint = bound.await.unwrap();
    let heard = dealer.run(move || async move {
        let mut dealer = Dealer::dial(&endpoint, DealerOptions::dealer().over()).await.unwrap();
        let mut heard = 0;
        loop {
            match dealer.next().await {
                DealerEvent::Message(_) => heard += 1,
                DealerEvent::Closed(reason) => return (heard, reason),
                DealerEvent::Writable => {}
            }
        }
    });
    assert_eq!(heard.await.unwrap(), (MESSAGES, CloseReason::Peer));
    tokio::time::timeout(PATIENCE / 2, drained).await.expect("it waited for its cap").unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_longer_than_its_cap_for_one_that_never_reads() {
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    let stranger = blocking(move || {
        let mut deaf = Stranger::dealer(address, b"");
        for _ in 0..300 {
            deaf.say(&frame(0, &[0; 60_000]));
        }
        deaf
    })
    .await;
    tokio::time::timeout(PATIENCE, echo.drain(Duration::from_millis(200))).await.expect("it hangs");
    drop(stranger);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_one_that_never_said_who_it_is() {
    let echo =
        Echo::start(RouterOptions { handshake_timeout: PATIENCE * 2, ..RouterOptions::router() }).await;
    let address = echo.address;
    let silent = blocking(move || Stranger::connect(address)).await;
    echo.until(|counters| counters.accepted == 1).await;
    tokio::time::timeout(PATIENCE, echo.drain(PATIENCE * 2)).await.expect("it waits for the stranger");
    drop(silent);
}

#[tokio::test]
async fn a_dealer_that_is_dropped_after_sending_has_sent_all() {
    let (router, dealer) = (IoThread::start("test-router").unwrap(), IoThread::start("test-dealer").unwrap());
    let (tell, bound) = tokio::sync::oneshot::channel();
    let heard = router.run(move || async move {
        let mut router =
            Router::bind(&anywhere().parse().unwrap(), RouterOptions::router().over()).await.unwrap();
        tell.send(router.endpoint().clone()).unwrap();
        let mut heard = 0;
        loop {
            match router.next().await {
                RouterEvent::Message(..) => heard += 1,
                RouterEvent::Closed(_, reason) => return (heard, reason),
                _ => {}
            }
        }
    });
    let endpoint: Endpoint = bound.await.unwrap();
    let dialled = dealer.run(move || async move {
        let mut dealer = Dealer::dial(&endpoint, DealerOptions::dealer().over()).await.unwrap();
        for _ in 0..40 {
            dealer.send(vec![Bytes::from(vec![5; 1 << 20])]).unwrap();
        }
    });
    dialled.await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, heard).await.expect("it hangs").unwrap();
    assert_eq!(heard, (40, CloseReason::Peer));
}

#[tokio::test]
async fn what_a_stranger_said_before_it_left_arrives() {
    let io = IoThread::start("test-router").unwrap();
    let (tell, bound) = tokio::sync::oneshot::channel();
    let heard = io.run(move || async move {
        let mut router =
            Router::bind(&anywhere().parse().unwrap(), RouterOptions::router().over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        let mut heard = 0;
        loop {
            match router.next().await {
                RouterEvent::Message(..) => heard += 1,
                RouterEvent::Closed(_, reason) => return (heard, reason),
                _ => {}
            }
        }
    });
    let address = bound.await.unwrap();
    blocking(move || {
        let mut stranger = Stranger::dealer(&address, b"");
        for _ in 0..1000 {
            stranger.say(&frame(0, &[0; 5000]));
        }
        stranger.say(&frame(1, b"and half a message"));
    })
    .await;
    assert_eq!(heard.await.unwrap(), (1000, CloseReason::Peer));
}
