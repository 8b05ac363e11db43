//! A dealer, and servers that are not what they should be.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use selfsame::io::{
    CloseReason, Dealer, DealerEvent, DealerOptions, DialError, Endpoint, IoThread, RouterOptions, SendError,
};
use selfsame::protocol::zmtp::{Refused, SocketType, Violation};

use super::stranger::{Echo, PATIENCE, Stranger, frame, greeting, ready};
use super::transport::{Line, Over};

/// Dials, and makes something of it on the IO thread.
async fn dial<T, F>(endpoint: Endpoint, options: DealerOptions, then: F) -> T
where
    T: Send + 'static,
    F: AsyncFnOnce(Result<Dealer, DialError>) -> T + Send + 'static,
{
    let io = IoThread::start("test-dealer").unwrap();
    let dialled = io.run(move || async move { then(Dealer::dial(&endpoint, options).await).await });
    tokio::time::timeout(PATIENCE, dialled).await.expect("it hangs").unwrap()
}

async fn fails(endpoint: Endpoint, options: DealerOptions) -> DialError {
    dial(endpoint, options, async |dialled| dialled.err()).await.expect("it succeeded")
}

/// A server that treats its only guest like this.
fn serve(treat: impl FnOnce(Stranger) + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || treat(Stranger(Line::Tcp(listener.accept().unwrap().0))));
    at(address)
}

fn at(address: SocketAddr) -> Endpoint {
    Endpoint::Tcp(address.to_string())
}

/// Waits for the end, and counts the messages before it.
async fn to_the_end(dealer: &mut Dealer) -> (usize, CloseReason) {
    let mut messages = 0;
    loop {
        match dealer.next().await {
            DealerEvent::Message(_) => messages += 1,
            DealerEvent::Closed(reason) => return (messages, reason),
            DealerEvent::Writable => {}
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_it_fails_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let started = Instant::now();
    let error = fails(at(address), DealerOptions::dealer()).await;
    assert!(
        matches!(&error, DialError::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for its time-out");

    let folder = tempfile::tempdir().unwrap();
    let error = fails(Endpoint::Ipc(folder.path().join("nobody")), DealerOptions::dealer()).await;
    assert!(
        matches!(&error, DialError::Connect(error) if error.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
}

#[tokio::test]
async fn one_that_accepts_and_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // the system accepts
    let options = DealerOptions { handshake_timeout: Duration::from_millis(200), ..DealerOptions::dealer() };
    let error = fails(at(listener.local_addr().unwrap()), options).await;
    assert!(matches!(error, DialError::HandshakeTimeout), "{error}");
}

#[tokio::test]
async fn one_that_closes_at_once_is_an_error() {
    let error = fails(serve(drop), DealerOptions::dealer()).await;
    assert!(matches!(error, DialError::Handshake(_)), "{error}");
    let halfway = serve(|mut guest| guest.say(&greeting()));
    let error = fails(halfway, DealerOptions::dealer()).await;
    assert!(matches!(error, DialError::Handshake(_)), "{error}");
}

#[tokio::test]
async fn one_that_speaks_something_else_is_refused() {
    let http = serve(|mut guest| {
        guest.say(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        guest.hears_the_end(); // had it left our greeting unread, its own words might be lost
    });
    let error = fails(http, DealerOptions::dealer()).await;
    assert!(matches!(error, DialError::Refused(Refused::NoGreeting)), "{error}");

    let publisher = Echo::start(RouterOptions::publisher()).await;
    let error = fails(publisher.address.parse().unwrap(), DealerOptions::dealer().over()).await;
    assert!(matches!(error, DialError::Refused(Refused::SocketType(Some(SocketType::Pub)))), "{error}");
}

#[tokio::test]
async fn a_subscriber_subscribes_and_hears() {
    let publisher = Echo::start(RouterOptions::publisher()).await;
    let heard =
        dial(publisher.address.parse().unwrap(), DealerOptions::subscriber().over(), async |dialled| {
            let mut subscriber = dialled.unwrap();
            subscriber.send(vec![Bytes::from_static(b"\x01topic")]).unwrap();
            match subscriber.next().await {
                DealerEvent::Message(frames) => frames,
                other => panic!("{other:?}"),
            }
        });
    assert_eq!(heard.await, [Bytes::from_static(b"\x01topic")]);
}

#[tokio::test]
async fn a_hostile_server_ends_the_connection_and_not_the_process() {
    let hostile = serve(|mut guest| {
        guest.shake("ROUTER", b"");
        guest.say(&frame(0, b"hello"));
        guest.say(&[2, 0, 0, 1, 0, 0, 0, 0, 0]); // 2^40 bytes
        guest.hears_the_end();
    });
    let end =
        dial(hostile, DealerOptions::dealer(), async |dialled| to_the_end(&mut dialled.unwrap()).await).await;
    assert_eq!(end.1, CloseReason::Violation(Violation::Frame));
}

#[tokio::test]
async fn the_end_of_the_connection_is_told_once_after_all_messages() {
    for half in [&b""[..], b"\x00\x05ab"] {
        let server = serve(move |mut guest| {
            guest.shake("ROUTER", b"");
            for _ in 0..1000 {
                guest.say(&frame(0, &[0; 1000]));
            }
            guest.say(half);
        });
        dial(server, DealerOptions::dealer(), async |dialled| {
            let mut dealer = dialled.unwrap();
            assert_eq!(to_the_end(&mut dealer).await, (1000, CloseReason::Peer));
            assert_eq!(dealer.send(vec![Bytes::new()]), Err(SendError::Gone));
            assert!(dealer.try_next().is_none());
            dealer.close().await;
        })
        .await;
    }
}

#[tokio::test]
async fn messages_right_behind_the_ready_are_not_lost() {
    let server = serve(|mut guest| {
        guest.say(
            &[&greeting()[..], &ready("ROUTER", b""), &frame(1, b"first"), &frame(0, b"message")].concat(),
        );
        guest.hears_the_end();
    });
    let heard = dial(server, DealerOptions::dealer(), async |dialled| match dialled.unwrap().next().await {
        DealerEvent::Message(frames) => frames,
        other => panic!("{other:?}"),
    });
    assert_eq!(heard.await, [Bytes::from_static(b"first"), Bytes::from_static(b"message")]);
}

#[tokio::test]
async fn a_server_that_does_not_read_fills_the_dealer_and_is_given_up() {
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let deaf = serve(move |mut guest| {
        guest.shake("ROUTER", b"");
        let _ = hold.recv();
    });
    let options = DealerOptions {
        outstanding_limit: 8 << 20,
        stall_timeout: Duration::from_millis(500),
        ..DealerOptions::dealer()
    };
    let end = dial(deaf, options, async |dialled| {
        let mut dealer = dialled.unwrap();
        let message = vec![Bytes::from(vec![0; 100_000])];
        // The gate moves bytes on only while this task waits.
        while dealer.send(message.clone()) == Ok(()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(dealer.send(message.clone()), Err(SendError::Full));
        assert!(dealer.outstanding() <= 8 << 20);
        to_the_end(&mut dealer).await
    });
    assert_eq!(end.await, (0, CloseReason::TooSlow));
    drop(release);
}
