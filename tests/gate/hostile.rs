//! Strangers that break the protocol or a limit, before the handshake and after it. Each time an honest one is there too, and must not notice.

use std::time::{Duration, Instant};

use selfsame::io::{CloseReason, RouterOptions};
use selfsame::protocol::zmtp::Violation;

use super::stranger::{Echo, Stranger, blocking, frame, greeting, ready};
use super::transport::{Over, anywhere};

/// A frame header that claims 2^40 bytes. After a greeting it makes 73 bytes, which used to end the process: the socket crate reserves what a peer announces.
const HUGE: [u8; 9] = [2, 0, 0, 1, 0, 0, 0, 0, 0];

/// Both say something to a router of these options; the hostile one must see the end of its connection, the honest one an echo.
///
/// The honest one comes back, still connected: its end is not to be mistaken for the other's.
async fn attack(
    options: RouterOptions,
    hostile: impl FnOnce(&mut Stranger) + Send + 'static,
) -> (Echo, Stranger) {
    let echo = Echo::start(options).await;
    let address = echo.address;
    let honest = blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        honest.echoes(b"before");
        let mut stranger = Stranger::connect(address);
        hostile(&mut stranger);
        stranger.hears_the_end();
        honest.echoes(b"after");
        honest
    })
    .await;
    (echo, honest)
}

/// As [`attack`], after a handshake: the connection must end by this violation.
async fn violates(options: RouterOptions, said: Vec<u8>, violation: Violation) {
    let hostile = move |stranger: &mut Stranger| {
        stranger.shake("DEALER", b"");
        // It may be cut off before it has said all.
        let _ = std::io::Write::write_all(&mut stranger.0, &said);
    };
    let (mut echo, _honest) = attack(options, hostile).await;
    assert_eq!(echo.next_closed().await, CloseReason::Violation(violation));
    assert_eq!(echo.until(|counters| counters.violations() >= 1).await.violations(), 1);
}

#[tokio::test]
async fn a_frame_that_claims_2_to_the_40_bytes_in_place_of_a_ready() {
    let (echo, _honest) =
        attack(RouterOptions::router(), |stranger| stranger.say(&[&greeting()[..], &HUGE].concat())).await;
    assert_eq!(echo.until(|counters| counters.refused >= 1).await.refused, 1);
}

#[tokio::test]
async fn a_ready_that_claims_2_to_the_40_bytes() {
    let mut huge = HUGE;
    huge[0] |= 4;
    let (echo, _honest) =
        attack(RouterOptions::router(), move |stranger| stranger.say(&[&greeting()[..], &huge].concat()))
            .await;
    assert_eq!(echo.until(|counters| counters.refused >= 1).await.refused, 1);
}

#[tokio::test]
async fn a_frame_that_claims_2_to_the_40_bytes_after_the_handshake() {
    violates(RouterOptions::router(), HUGE.to_vec(), Violation::Frame).await;
}

#[tokio::test]
async fn a_message_of_endless_frames() {
    violates(RouterOptions::router(), frame(1, b"").repeat(100_000), Violation::Frames).await;
}

#[tokio::test]
async fn a_message_of_too_many_bytes_in_small_frames() {
    let options = RouterOptions { message_limit: 1 << 20, ..RouterOptions::router() };
    violates(options, frame(1, &[0; 4096]).repeat(300), Violation::Message).await;
}

#[tokio::test]
async fn reserved_flags() {
    violates(RouterOptions::router(), vec![0x80, 0], Violation::Flags).await;
}

#[tokio::test]
async fn an_unknown_command() {
    violates(RouterOptions::router(), frame(4, b"\x04PANG"), Violation::Command).await;
}

#[tokio::test]
async fn another_protocol() {
    let (echo, _honest) =
        attack(RouterOptions::router(), |stranger| stranger.say(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"))
            .await;
    assert_eq!(echo.until(|counters| counters.refused >= 1).await.refused, 1);
}

#[tokio::test]
async fn silence_is_ended_by_the_time_out() {
    let options = RouterOptions { handshake_timeout: Duration::from_millis(200), ..RouterOptions::router() };
    let started = Instant::now();
    let (echo, _honest) = attack(options, |_| ()).await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(echo.until(|counters| counters.handshake_timeouts >= 1).await.handshake_timeouts, 1);
}

#[tokio::test]
async fn a_handshake_that_never_gets_further_is_ended_by_the_time_out() {
    let options = RouterOptions { handshake_timeout: Duration::from_millis(200), ..RouterOptions::router() };
    let (echo, _honest) = attack(options, |stranger| stranger.say(&greeting())).await;
    assert_eq!(echo.until(|counters| counters.handshake_timeouts >= 1).await.handshake_timeouts, 1);
}

#[tokio::test]
async fn a_handshake_byte_by_byte_is_slow_but_good() {
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    blocking(move || {
        let mut stranger = Stranger::connect(address);
        for byte in greeting().iter().chain(&ready("DEALER", b"x")).chain(&frame(0, b"hello")) {
            stranger.say(&[*byte]);
        }
        std::io::Read::read_exact(&mut stranger.0, &mut [0; 64]).unwrap();
        assert_eq!(stranger.hear().unwrap().0, 4);
        assert_eq!(stranger.hear().unwrap().1.as_ref(), b"hello");
    })
    .await;
}

#[tokio::test]
async fn one_more_than_may_be_is_turned_away_until_one_leaves() {
    let echo = Echo::start(RouterOptions { connections_limit: 2, ..RouterOptions::router() }).await;
    let address = echo.address;
    let first = blocking(move || {
        let mut first = Stranger::dealer(address, b"");
        let mut silent = Stranger::connect(address);
        silent.say(&greeting()[..1]);
        first.echoes(b"so both were accepted"); // in turn
        Stranger::connect(address).hears_the_end();
        drop(silent);
        first
    })
    .await;
    echo.until(|counters| counters.turned_away == 1 && counters.refused == 1).await;
    blocking(move || {
        Stranger::dealer(address, b"").echoes(b"a place is free");
        drop(first);
    })
    .await;
}

#[tokio::test]
async fn whoever_promised_to_speak_up_and_does_not_is_closed() {
    use selfsame::io::{IoThread, Router, RouterEvent};
    let io = IoThread::start("test-router").unwrap();
    let (tell, bound) = tokio::sync::oneshot::channel();
    let closed = io.run(move || async move {
        let options = RouterOptions { linger: Duration::from_millis(100), ..RouterOptions::router() };
        let mut router = Router::bind(&anywhere().parse().unwrap(), options.over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        loop {
            match router.next().await {
                RouterEvent::Message(from, _) => {
                    router.set_idle_timeout(from, Some(Duration::from_millis(100)))
                }
                RouterEvent::Closed(_, reason) => return reason,
                _ => {}
            }
        }
    });
    let address = bound.await.unwrap();
    blocking(move || {
        let mut stranger = Stranger::dealer(&address, b"");
        stranger.say(&frame(0, b"hello"));
        stranger.hears_the_end();
    })
    .await;
    assert_eq!(closed.await.unwrap(), CloseReason::Idle);
}
