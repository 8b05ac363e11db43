//! Limits that are kept over connections or over time. Each time the offender is closed, or slowed down, and counted, and an honest one on the same socket
//! goes on. Over TCP alone: there a stranger has an address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use selfsame::io::{CloseReason, RouterOptions};
use selfsame::protocol::gate::Rate;
use socket2::{Domain, Socket, Type};

use super::stranger::{Echo, PATIENCE, Stranger, blocking, frame, greeting};
use super::transport::Line;

/// A stranger whose address is 127.0.0.`host`.
fn stranger_from(host: u8, to: &str) -> Stranger {
    let to: SocketAddr = to.strip_prefix("tcp://").unwrap().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Stranger(Line::Tcp(stream))
}

/// Whether the other side has ended the connection by now.
fn has_ended(stranger: &mut Stranger) -> bool {
    stranger.0.tcp().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    match stranger.0.read(&mut [0; 4096]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_others() {
    let echo = Echo::start(RouterOptions { address_limit: Some(2), ..RouterOptions::router() }).await;
    let address = echo.address;
    blocking(move || {
        let mut first = Stranger::dealer(address, b"");
        let mut second = Stranger::dealer(address, b"");
        for _ in 0..10 {
            Stranger::connect(address).hears_the_end();
        }
        let mut other = stranger_from(2, address);
        other.shake("DEALER", b"");
        other.echoes(b"from elsewhere");
        first.echoes(b"after");
        second.echoes(b"after");
    })
    .await;
    let counters = echo.until(|counters| counters.closed == 3).await;
    assert_eq!((counters.turned_away_by_address, counters.turned_away), (10, 0));
    blocking(move || Stranger::dealer(address, b"").echoes(b"there is room again")).await;
}

#[tokio::test]
async fn handshakes_that_drag_on_give_way_when_there_are_too_many() {
    let options =
        RouterOptions { handshakes_limit: 3, handshake_timeout: PATIENCE * 2, ..RouterOptions::router() };
    let echo = Echo::start(options).await;
    let address = echo.address;
    blocking(move || {
        let mut silent: Vec<_> = (0..3).map(|_| Stranger::connect(address)).collect();
        silent[0].say(&greeting()[..20]);
        // Waits to be accepted until one of the others has had its second.
        Stranger::dealer(address, b"").echoes(b"comes through");
        drop(silent);
        // One alone may take its time.
        let mut slow = Stranger::connect(address);
        slow.say(&greeting()[..20]);
        Stranger::dealer(address, b"").echoes(b"beside it");
        assert!(!has_ended(&mut slow));
    })
    .await;
    let counters = echo.until(|counters| counters.closed == 2).await;
    assert!((1..=3).contains(&counters.handshakes_crowded_out), "{counters:?}");
    assert_eq!(counters.handshake_timeouts, 0);
}

#[tokio::test]
async fn whoever_shakes_hands_and_then_says_nothing_whole_is_closed() {
    let options =
        RouterOptions { first_message_timeout: Some(Duration::from_millis(200)), ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        honest.echoes(b"the first");
        let mut silent = Stranger::dealer(address, b"");
        let mut half = Stranger::dealer(address, b"");
        half.say(&frame(1, b"there is more to come"));
        half.say(&frame(4, b"\x04PING\0\0")); // is no message
        silent.hears_the_end();
        half.hears_the_end();
        honest.echoes(b"after");
    })
    .await;
    for _ in 0..2 {
        assert_eq!(echo.next_closed().await, CloseReason::NoMessage);
    }
    assert_eq!(echo.counters().await.no_first_message, 2);
}

#[tokio::test]
async fn whoever_falls_silent_is_closed_and_whoever_sends_pings_is_not() {
    let options = RouterOptions { idle_timeout: Some(Duration::from_millis(300)), ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    let _pinging = blocking(move || {
        let mut pinging = Stranger::dealer(address, b"");
        let mut silent = Stranger::dealer(address, b"");
        silent.echoes(b"the first and last");
        while !has_ended(&mut silent) {
            pinging.say(&frame(4, b"\x04PING\0\0"));
            assert_eq!(pinging.hear().unwrap().0, 4);
        }
        pinging.echoes(b"after");
        pinging
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Idle);
    assert_eq!(echo.until(|counters| counters.idle >= 1).await.idle, 1);
}

/// A stranger sends all this at once and hears it back; then says one message more. Returns how long that took from the first on.
async fn throttled(options: RouterOptions, messages: u32, body: usize) -> Duration {
    // Whoever is not read cannot be heard, and is not idle for that.
    let options = RouterOptions { idle_timeout: Some(Duration::from_millis(100)), ..options };
    let echo = Echo::start(options).await;
    let address = echo.address;
    let took = blocking(move || {
        let mut stranger = Stranger::dealer(address, b"");
        let started = Instant::now();
        let mut writer = stranger.0.tcp().try_clone().unwrap();
        let said = frame(0, &vec![1; body]).repeat(messages as usize);
        let writing = std::thread::spawn(move || writer.write_all(&said).unwrap());
        (0..messages).for_each(|_| assert_eq!(stranger.hear().unwrap().1.len(), body));
        writing.join().unwrap();
        stranger.echoes(b"one more");
        started.elapsed()
    })
    .await;
    let counters = echo.counters().await;
    assert!(counters.throttled > 0 && counters.violations() == 0, "{counters:?}");
    took
}

#[tokio::test]
async fn more_messages_than_the_rate_are_read_in_their_time() {
    let rate = Rate { per_second: 50, burst: 10 };
    let took = throttled(RouterOptions { messages_rate: Some(rate), ..RouterOptions::router() }, 60, 8).await;
    assert!(took >= Duration::from_millis(50 * 20 - 20), "{took:?}");
}

#[tokio::test]
async fn more_bytes_than_the_rate_are_read_in_their_time() {
    let rate = Rate { per_second: 1 << 20, burst: 64 << 10 };
    let options = RouterOptions { bytes_rate: Some(rate), ..RouterOptions::router() };
    let took = throttled(options, 10, 100_000).await;
    assert!(took >= Duration::from_millis(880), "{took:?}");
}

#[tokio::test]
async fn one_that_is_slowed_down_slows_nobody_else() {
    let rate = Rate { per_second: 1, burst: 500 };
    let echo = Echo::start(RouterOptions { messages_rate: Some(rate), ..RouterOptions::router() }).await;
    let address = echo.address;
    blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        let mut flood = Stranger::dealer(address, b"");
        flood.say(&frame(0, b"").repeat(800)); // few bytes: they are read at once
        (0..800).for_each(|_| drop(flood.hear().unwrap()));
        flood.say(&frame(0, b"")); // waits for five minutes
        for round in 0_u32..400 {
            honest.echoes(&round.to_be_bytes());
        }
        assert!(!has_ended(&mut flood));
    })
    .await;
    assert_eq!(echo.until(|counters| counters.throttled >= 1).await.throttled, 1);
}

#[tokio::test]
async fn unfinished_messages_are_bounded_in_all() {
    let options = RouterOptions { unfinished_limit: 1 << 20, ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        honest.echoes(b"before");
        let mut announces = |bytes: u64| {
            let mut stranger = Stranger::dealer(address, b"");
            stranger.say(&[&[2], &bytes.to_be_bytes()[..], b"a little"].concat());
            honest.echoes(b"beside it"); // so the announcement was read
            stranger
        };
        let mut hostile: Vec<_> = (0..3).map(|_| announces(300_000)).collect();
        // It is the longest, but not the one that has hung about for longest.
        honest.say(&frame(0, &[7; 400_000])[..300_000]);
        hostile[0].hears_the_end();
        honest.say(&frame(0, &[7; 400_000])[300_000..]);
        assert_eq!(honest.hear().unwrap().1.len(), 400_000);
        assert!(!hostile[1..].iter_mut().any(has_ended), "one was enough");
        honest.echoes(b"after");
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Unfinished);
    assert_eq!(echo.until(|counters| counters.closed == 4).await.unfinished, 1);
}

#[tokio::test]
async fn unfinished_messages_of_one_address_are_at_nobody_elses_expense() {
    let echo = Echo::start(RouterOptions { unfinished_limit: 1 << 20, ..RouterOptions::router() }).await;
    let address = echo.address;
    let upload = frame(0, &[7; 400_000]);
    // The longest, and the one that has been under way for longest.
    let half = upload[..300_000].to_vec();
    let mut honest = blocking(move || {
        let mut honest = stranger_from(2, address);
        honest.shake("DEALER", b"");
        honest.echoes(b"before");
        honest.say(&half);
        honest
    })
    .await;
    let hostile = blocking(move || {
        let announces = |_| {
            let mut stranger = Stranger::dealer(address, b"");
            stranger.say(&[&[2], &300_000_u64.to_be_bytes()[..], b"a little"].concat());
            stranger
        };
        (0..3).map(announces).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(echo.until(|counters| counters.unfinished > 0).await.unfinished, 1);
    blocking(move || {
        honest.say(&upload[300_000..]);
        assert_eq!(honest.hear().unwrap().1.len(), 400_000);
    })
    .await;
    drop(hostile);
}

#[tokio::test]
async fn buffers_that_long_messages_leave_behind_are_bounded_in_all() {
    let options = RouterOptions { buffers_limit: 3 << 20, ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    blocking(move || {
        let long = vec![7; 1 << 20]; // takes as much both ways
        let mut small = Stranger::dealer(address, b"");
        small.echoes(&[1; 100_000]);
        let mut first = Stranger::dealer(address, b"");
        first.echoes(&vec![7; 2 << 20]);
        first.echoes(&vec![7; 2 << 20]); // more than there may be, but nobody else has any
        let mut second = Stranger::dealer(address, b"");
        second.echoes(&long);
        first.hears_the_end();
        second.echoes(&long);
        let mut third = Stranger::dealer(address, b"");
        third.echoes(&long); // the reply comes, whoever goes
        let gone = has_ended(&mut second);
        let left = if gone { &mut third } else { &mut second };
        left.echoes(&long);
        small.echoes(b"it never had a long one");
    })
    .await;
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(echo.next_closed().await);
    }
    assert_eq!(ends.iter().filter(|reason| **reason == CloseReason::Buffers).count(), 2, "{ends:?}");
    assert_eq!(echo.counters().await.buffers, 2);
}

#[tokio::test]
async fn an_endless_row_of_pings_ends_the_connection() {
    let rate = Rate { per_second: 1, burst: 100 };
    let mut echo = Echo::start(RouterOptions { commands_rate: rate, ..RouterOptions::router() }).await;
    let address = echo.address;
    blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        let mut hostile = Stranger::dealer(address, b"");
        honest.say(&frame(4, b"\x04PING\0\0").repeat(100));
        honest.say(&frame(0, b"still there"));
        while honest.hear().unwrap().0 == 4 {}
        let _ = hostile.0.write_all(&frame(4, b"\x04PING\0\0").repeat(10_000));
        hostile.hears_the_end();
        honest.echoes(b"after");
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Commands);
    let counters = echo.counters().await;
    assert_eq!((counters.too_many_commands, counters.violations()), (1, 1));
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded_in_all() {
    let options = RouterOptions { all_outstanding_limit: 16 << 20, ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    blocking(move || {
        let mut honest = Stranger::dealer(address, b"");
        let mut deaf: Vec<_> = (0..3).map(|_| Stranger::dealer(address, b"")).collect();
        let message = frame(0, &[0; 60_000]);
        for round in 0_u64.. {
            if deaf.iter_mut().any(|deaf| deaf.0.write_all(&message).is_err()) {
                break;
            }
            assert!(round < 10_000, "none was ever closed");
            honest.echoes(&round.to_be_bytes());
        }
        honest.echoes(b"after");
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::TooSlow);
    assert!(echo.until(|counters| counters.closed == 4).await.too_slow >= 1);
}

/// All warnings of this process, as text. The other tests' are among them.
static TOLD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn told() -> String {
    static LISTENING: OnceLock<()> = OnceLock::new();
    struct Tell;
    impl Write for Tell {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            TOLD.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    LISTENING.get_or_init(|| {
        let warnings =
            tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
        warnings.with_ansi(false).with_writer(|| Tell).init();
    });
    String::from_utf8(TOLD.lock().unwrap().clone()).unwrap()
}

#[tokio::test]
async fn a_violation_is_told_with_peer_and_reason_and_a_flood_of_them_is_not() {
    told();
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    let from: Vec<String> = blocking(move || {
        let mut from = Vec::new();
        for _ in 0..200 {
            let mut hostile = Stranger::dealer(address, b"");
            from.push(format!("peer=tcp://{} ", hostile.0.tcp().local_addr().unwrap()));
            hostile.say(&[0x80]);
            hostile.hears_the_end();
        }
        from
    })
    .await;
    assert_eq!(echo.until(|counters| counters.closed == 200).await.bad_flags, 200);
    let ours = |line: &&str| from.iter().any(|from| line.contains(from));
    let all = told();
    let lines: Vec<_> = all.lines().filter(ours).collect();
    assert!(lines[0].contains("the peer sent a frame with reserved flags"), "{}", lines[0]);
    assert!((1..200).contains(&lines.len()), "{} lines", lines.len());
    // The rest is told as a number, by the next line or by itself.
    let untold = |line: &str| line.split("untold=").nth(1)?.split_whitespace().next()?.parse::<usize>().ok();
    let waiting = async {
        loop {
            let all = told();
            let by_lines: usize = all.lines().filter(ours).map(|line| 1 + untold(line).unwrap_or(0)).sum();
            if by_lines == 200 || all.contains("more connections were closed untold=") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the rest is never told");
}
