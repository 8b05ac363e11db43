//! What honest peers see.

use std::time::Duration;

use bytes::Bytes;
use selfsame::io::{
    CloseReason, Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, Router, RouterEvent, RouterOptions,
};
use selfsame::protocol::zmtp::SocketType;
use tokio::sync::oneshot;

use super::stranger::{Echo, Stranger, blocking, frame};
use super::transport::{Over, anywhere};

/// Sends messages of many shapes through a dealer to an echoing router at `endpoint`, a hundred of each at once.
async fn echo(endpoint: Endpoint) {
    let router = IoThread::start("test-router").unwrap();
    let (tell, bound) = oneshot::channel();
    drop(router.run(move || async move {
        let mut router = Router::bind(&endpoint, RouterOptions::router().over()).await.unwrap();
        tell.send(router.endpoint().clone()).unwrap();
        loop {
            if let RouterEvent::Message(from, frames) = router.next().await {
                router.send(from, frames).unwrap();
            }
        }
    }));
    let endpoint = bound.await.unwrap();
    let dealer = IoThread::shared().unwrap().run(move || async move {
        let mut dealer = Dealer::dial(&endpoint, DealerOptions::dealer().over()).await.unwrap();
        assert_eq!(dealer.peer().socket, SocketType::Router);
        for sizes in [&[0][..], &[64], &[255, 256], &[64, 0, 70_000], &[1 << 20]] {
            let frames: Vec<_> = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
            let times = if sizes[0] < 1 << 20 { 100 } else { 8 };
            for _ in 0..times {
                dealer.send(frames.clone()).unwrap();
            }
            for _ in 0..times {
                loop {
                    match dealer.next().await {
                        DealerEvent::Message(echoed) => break assert!(echoed == frames),
                        DealerEvent::Writable => {}
                        DealerEvent::Closed(reason) => panic!("{reason}"),
                    }
                }
            }
            assert_eq!(dealer.outstanding(), 0);
        }
        dealer.close().await;
    });
    tokio::time::timeout(super::stranger::PATIENCE, dealer).await.expect("it hangs").unwrap();
}

#[tokio::test]
async fn messages_of_all_shapes_come_back() {
    echo(anywhere().parse().unwrap()).await;
}

#[tokio::test]
async fn an_abandoned_unix_socket_is_bound_again_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // std leaves the file behind
    let io = IoThread::start("test-router").unwrap();
    let (live, gone) = io
        .run(move || async move {
            let endpoint = Endpoint::Ipc(path.clone());
            let first = Router::bind(&endpoint, RouterOptions::router()).await.unwrap();
            let second = Router::bind(&endpoint, RouterOptions::router()).await;
            first.drain(super::stranger::PATIENCE).await;
            (second.err().map(|error| error.kind()), !path.exists())
        })
        .await
        .unwrap();
    assert_eq!(live, Some(std::io::ErrorKind::AddrInUse));
    assert!(gone, "the socket file stays behind");
}

#[tokio::test]
async fn strangers_of_one_identity_do_not_disturb_each_other() {
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    blocking(move || {
        let mut first = Stranger::dealer(address, b"same");
        let mut second = Stranger::dealer(address, b"same");
        let mut third = Stranger::dealer(address, &[0, 0, 0, 0, 0, 0, 0, 1]); // as the gate would call the first
        for round in 0..10 {
            first.echoes(&[1, round]);
            second.echoes(&[2, round]);
            third.echoes(&[3, round]);
        }
        drop(second);
        first.echoes(b"still there");
    })
    .await;
    assert_eq!(echo.until(|counters| counters.closed == 3).await.opened, 3);
}

#[tokio::test]
async fn the_inner_socket_is_renewed_and_connections_of_the_old_one_go_on() {
    // The gate looks after its sockets at a quarter of the shortest time-out.
    let options =
        RouterOptions { renew_after: 1, linger: Duration::from_millis(20), ..RouterOptions::router() };
    let echo = Echo::start(options).await;
    let address = echo.address;
    let mut strangers = Vec::new();
    for round in 0..5 {
        let mut all = std::mem::take(&mut strangers);
        strangers = blocking(move || {
            all.push(Stranger::dealer(address, b""));
            all.iter_mut().for_each(|stranger| stranger.echoes(b"still there"));
            all
        })
        .await;
        echo.until(|counters| counters.renewals == round + 1).await;
    }
    drop(strangers);
    assert_eq!(echo.until(|counters| counters.closed == 5).await.renewals, 5);
}

#[tokio::test]
async fn who_has_much_to_say_is_heard_no_sooner_than_those_of_a_later_inner_socket() {
    let io = IoThread::start("test-router").unwrap();
    let (tell, bound) = oneshot::channel();
    let (renewed, is_renewed) = oneshot::channel();
    let (all_said, is_all_said) = oneshot::channel();
    let listening = io.run(move || async move {
        let options =
            RouterOptions { renew_after: 1, linger: Duration::from_millis(20), ..RouterOptions::router() };
        let mut router = Router::bind(&anywhere().parse().unwrap(), options.over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        assert!(matches!(router.next().await, RouterEvent::Opened(..)));
        while router.counters().renewals == 0 {
            tokio::task::yield_now().await;
        }
        renewed.send(()).unwrap();
        is_all_said.await.unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await; // the sockets' tasks have their turns, and nobody listens
        }
        let mut before = 0;
        loop {
            match router.next().await {
                RouterEvent::Message(_, frames) if frames == [&b"later"[..]] => return before,
                RouterEvent::Message(..) => before += 1,
                _ => {}
            }
        }
    });
    let address = bound.await.unwrap();
    let mut early = blocking({
        let address = address.clone();
        move || Stranger::dealer(&address, b"")
    })
    .await;
    is_renewed.await.unwrap();
    let strangers = blocking(move || {
        early.say(&frame(0, &[7]).repeat(10_000));
        let mut later = Stranger::dealer(&address, b"");
        later.say(&frame(0, b"later"));
        all_said.send(()).unwrap();
        (early, later)
    })
    .await;
    let before =
        tokio::time::timeout(super::stranger::PATIENCE, listening).await.expect("never heard").unwrap();
    assert!(before < 100, "{before} messages of the one were heard before one of the other");
    drop(strangers);
}

#[tokio::test]
async fn of_many_inner_sockets_the_oldest_goes_with_its_connections() {
    let options =
        RouterOptions { renew_after: 1, linger: Duration::from_millis(20), ..RouterOptions::router() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    let mut strangers = Vec::new();
    // Each IO thread has sockets of its own.
    let reason = loop {
        strangers.push(blocking(move || Stranger::dealer(address, b"")).await);
        echo.until(|counters| counters.renewals == strangers.len() as u64).await;
        if let Ok(reason) = echo.closed.try_recv() {
            break reason;
        }
        assert!(strangers.len() < 100, "all are kept");
    };
    assert_eq!(reason, CloseReason::Renewed);
    assert!(strangers.len() >= 8, "{}", strangers.len());
    let mut last = strangers.split_off(strangers.len() - 4);
    blocking(move || last.iter_mut().for_each(|stranger| stranger.echoes(b"still there"))).await;
}

#[tokio::test]
async fn a_ping_is_answered_between_messages() {
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    blocking(move || {
        let mut stranger = Stranger::dealer(address, b"");
        stranger.say(&frame(4, b"\x04PING\x00\x64context"));
        assert_eq!(stranger.hear().unwrap(), (4, Bytes::from_static(b"\x04PONGcontext")));
        // Among large messages, and even within one, as libzmq may send it.
        let part = vec![1; 200_000];
        for _ in 0..20 {
            stranger.say(&frame(1, &part));
            stranger.say(&frame(4, b"\x04PING\x00\x64"));
            stranger.say(&frame(0, &part));
        }
        let (mut parts, mut pongs) = (0, 0);
        while parts < 40 {
            match stranger.hear().unwrap() {
                (4, body) => {
                    assert_eq!((body.as_ref(), parts % 2), (&b"\x04PONG"[..], 0), "within a message");
                    pongs += 1;
                }
                (flags, body) => {
                    assert_eq!((usize::from(flags), body.len()), (1 - parts % 2, part.len()));
                    parts += 1;
                }
            }
        }
        assert!(pongs > 0);
    })
    .await;
}

#[tokio::test]
async fn a_publisher_takes_subscribers_and_no_one_else() {
    let echo = Echo::start(RouterOptions::publisher()).await;
    let address = echo.address;
    blocking(move || {
        let mut subscriber = Stranger::connect(address);
        subscriber.shake("SUB", b"");
        subscriber.echoes(b"\x01topic");
        let mut dealer = Stranger::connect(address);
        dealer.say(&super::stranger::greeting());
        dealer.say(&super::stranger::ready("DEALER", b""));
        dealer.hears_the_end();
        subscriber.echoes(b"\x01another");
    })
    .await;
    assert_eq!(echo.until(|counters| counters.refused >= 1).await.refused, 1);
}

#[tokio::test]
async fn the_owner_may_close_a_connection_and_what_it_said_before_arrives() {
    let io = IoThread::start("test-router").unwrap();
    let (tell, bound) = oneshot::channel();
    let closed = io.run(move || async move {
        let endpoint = anywhere().parse().unwrap();
        let mut router = Router::bind(&endpoint, RouterOptions::router().over()).await.unwrap();
        tell.send(router.endpoint().to_string()).unwrap();
        loop {
            match router.next().await {
                RouterEvent::Message(from, _) => {
                    router.send(from, vec![Bytes::from(vec![9; 1 << 20])]).unwrap();
                    router.close(from);
                    assert!(router.send(from, vec![Bytes::new()]).is_err());
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
        assert_eq!(stranger.hear().unwrap().1.len(), 1 << 20);
        stranger.hears_the_end();
    })
    .await;
    assert_eq!(closed.await.unwrap(), CloseReason::Requested);
}
