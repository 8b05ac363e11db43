//! Strangers that do not take what they are sent.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use selfsame::io::{CloseReason, IoThread, Router, RouterEvent, RouterOptions, SendError};

use super::stranger::{Echo, Stranger, blocking, frame};
use super::transport::{Over, anywhere};

/// More than a TCP connection over loopback keeps in its buffers.
const MUCH: usize = 32 << 20;

#[tokio::test]
async fn one_that_never_reads_is_closed_and_others_go_on() {
    let mut echo = Echo::start(RouterOptions { outstanding_limit: 4 << 20, ..RouterOptions::router() }).await;
    let address = echo.address;
    let honest = blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        let mut deaf = Stranger::dealer(address, b"");
        let message = frame(0, &[0; 60_000]);
        for round in 0_u64.. {
            if deaf.0.write_all(&message).is_err() {
                break;
            }
            assert!(round < 10_000, "it was never closed");
            honest.echoes(&round.to_be_bytes());
        }
        honest.echoes(b"after");
        honest
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::TooSlow);
    drop(honest);
    let counters = echo.until(|counters| counters.closed == 2).await;
    assert_eq!(counters.too_slow, 1);
}

/// Binds a router that greets whoever speaks with what `greet` does, and returns why the connection ended.
async fn greeted_by<G>(
    options: RouterOptions,
    greet: G,
    stranger: impl FnOnce(Stranger) + Send + 'static,
) -> CloseReason
where
    G: Fn(&mut Router, selfsame::protocol::ConnectionId) + Send + 'static,
{
    let io = IoThread::start("test-router").unwrap();
    let (tell, bound) = tokio::sync::oneshot::channel();
    let closed = io.run(move || async move {
        let mut router = Router::bind(&anywhere().parse().unwrap(), options.over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        loop {
            match router.next().await {
                RouterEvent::Message(from, _) | RouterEvent::Writable(from) => greet(&mut router, from),
                RouterEvent::Closed(_, reason) => return reason,
                RouterEvent::Opened(..) => {}
            }
        }
    });
    let address = bound.await.unwrap();
    blocking(move || {
        let mut peer = Stranger::dealer(&address, b"");
        peer.say(&frame(0, b"hello"));
        stranger(peer);
    })
    .await;
    tokio::time::timeout(super::stranger::PATIENCE, closed).await.expect("it never ended").unwrap()
}

#[tokio::test]
async fn what_is_outstanding_is_bounded_but_for_one_message() {
    let options = RouterOptions { outstanding_limit: 1 << 20, ..RouterOptions::router() };
    let greet = |router: &mut Router, from| {
        router.send(from, vec![Bytes::from(vec![0; MUCH])]).unwrap(); // longer than the limit, but alone
        assert!(router.outstanding(from) > MUCH);
        assert_eq!(router.send(from, vec![Bytes::from_static(b"one more")]), Err(SendError::Full));
        assert_eq!(router.send(from, vec![Bytes::from_static(b"and more")]), Err(SendError::Gone));
    };
    assert_eq!(greeted_by(options, greet, |mut peer| peer.hears_the_end()).await, CloseReason::TooSlow);
}

#[tokio::test]
async fn one_that_takes_nothing_for_too_long_is_closed() {
    let options = RouterOptions { stall_timeout: Duration::from_millis(200), ..RouterOptions::router() };
    let greet = |router: &mut Router, from| router.send(from, vec![Bytes::from(vec![0; MUCH])]).unwrap();
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let closed =
        greeted_by(options, greet, move |peer| drop(std::thread::spawn(move || (hold.recv(), peer))));
    assert_eq!(closed.await, CloseReason::TooSlow);
    drop(release); // until now the stranger was there, and did not read
}

#[tokio::test]
async fn one_that_takes_it_is_sent_more_when_it_has() {
    let greet = |router: &mut Router, from| {
        assert!(router.outstanding(from) <= 64 << 10);
        router.send(from, vec![Bytes::from(vec![0; 1 << 20])]).unwrap();
    };
    let reads = |mut peer: Stranger| {
        for _ in 0..20 {
            assert_eq!(peer.hear().unwrap().1.len(), 1 << 20); // the later ones are sent on `Writable`
        }
    };
    let closed = greeted_by(RouterOptions::router(), greet, reads).await;
    assert!(matches!(closed, CloseReason::Peer | CloseReason::Broken(_)), "{closed}");
}

#[tokio::test]
async fn one_that_resets_with_replies_queued_does_not_disturb_others() {
    let mut echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    for _ in 0..10 {
        blocking(move || {
            let mut honest = Stranger::dealer(address, b"");
            let mut deaf = Stranger::dealer(address, b"");
            for round in 0_u32..200 {
                deaf.say(&frame(0, &[0; 60_000]));
                honest.echoes(&round.to_be_bytes());
            }
            deaf.0.reset_at_drop();
            drop(deaf);
            honest.echoes(b"after");
        })
        .await;
        let reasons = [echo.next_closed().await, echo.next_closed().await];
        assert!(reasons.iter().any(|reason| matches!(reason, CloseReason::Broken(_))), "{reasons:?}");
    }
    assert_eq!(echo.look().await.1, 0);
}
