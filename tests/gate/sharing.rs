//! Dealers on one thread, which share a socket of the crate: none hears what is another's, and none waits for another.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use selfsame::io::{CloseReason, Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, RouterOptions};

use super::stranger::{Echo, PATIENCE, Stranger, blocking, frame};
use super::transport::{Line, Over};

/// Does this on one IO thread.
async fn on_one_thread<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let io = IoThread::start("test-dealers").unwrap();
    tokio::time::timeout(PATIENCE, io.run(move || async move { work().await }))
        .await
        .expect("it hangs")
        .unwrap()
}

async fn dial(address: &str) -> Dealer {
    Dealer::dial(&address.parse().unwrap(), DealerOptions::dealer().over()).await.unwrap()
}

/// Says a number, and hears it.
async fn echoes(dealer: &mut Dealer, number: u64) {
    dealer.send(vec![Bytes::copy_from_slice(&number.to_be_bytes())]).unwrap();
    match dealer.next().await {
        DealerEvent::Message(frames) => assert_eq!(frames, [&number.to_be_bytes()[..]]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_hears_what_is_its_own_whoever_comes_and_goes() {
    let servers = [Echo::start(RouterOptions::router()).await, Echo::start(RouterOptions::router()).await];
    let addresses = servers.each_ref().map(|echo| echo.address);
    on_one_thread(async move || {
        // It is alone, then it has company, then it is alone again; and it is the one of all that is never polled while the others talk.
        let mut first = dial(addresses[0]).await;
        for round in 0..5 {
            echoes(&mut first, round).await;
            first.send(vec![Bytes::from_static(b"for later")]).unwrap();
            let mut others = Vec::new();
            for number in 0..4 {
                others.push(dial(addresses[number % 2]).await);
            }
            for number in 0..20 {
                for (place, dealer) in others.iter_mut().enumerate() {
                    echoes(dealer, number * 100 + place as u64).await;
                }
            }
            let mut last = others.pop().unwrap();
            for dealer in others {
                dealer.close().await;
            }
            echoes(&mut last, round).await;
            drop(last);
            match first.next().await {
                DealerEvent::Message(frames) => assert_eq!(frames, ["for later"]),
                other => panic!("{other:?}"),
            }
        }
        first.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_not_looked_at_holds_up_its_server_and_nobody_else() {
    const MESSAGES: usize = 640;
    const SIZE: usize = 100_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let talks = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
    let said = Arc::new(AtomicUsize::new(0));
    let saying = said.clone();
    let (ended, end) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut guest = Stranger(Line::Tcp(listener.accept().unwrap().0));
        guest.shake("ROUTER", b"");
        for _ in 0..MESSAGES {
            guest.say(&frame(0, &[7; SIZE]));
            saying.fetch_add(1, Ordering::Relaxed);
        }
        drop(ended);
        guest.hears_the_end();
    });
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    on_one_thread(async move || {
        let mut held = Dealer::dial(&talks, DealerOptions::dealer()).await.unwrap();
        let mut other = dial(address).await;
        // Until its server has been stuck for as long as hundreds of echoes take.
        let (mut before, mut still, mut number) = (0, 0, 0);
        while still < 300 {
            echoes(&mut other, number).await;
            number += 1;
            let now = said.load(Ordering::Relaxed);
            still = if now == before && now > 0 { still + 1 } else { 0 };
            before = now;
        }
        // What fits into the buffers of the system between the two, and into the mailbox.
        assert!(before * SIZE < 32 << 20, "{before} messages were taken in and not looked at");
        for heard in 0..MESSAGES {
            match held.next().await {
                DealerEvent::Message(frames) => assert_eq!(frames[0].len(), SIZE),
                other => panic!("{other:?} after {heard}"),
            }
        }
        held.close().await;
        echoes(&mut other, number).await;
    })
    .await;
    blocking(move || end.recv_timeout(Duration::from_secs(5)).unwrap_err()).await;
}

#[tokio::test]
async fn one_whose_server_goes_takes_nobody_with_it() {
    let (gone, stays) =
        (Echo::start(RouterOptions::router()).await, Echo::start(RouterOptions::router()).await);
    let (first, second) = (gone.address, stays.address);
    let (tell, told) = tokio::sync::oneshot::channel();
    let ended = on_one_thread(async move || {
        let (mut one, mut other) = (dial(first).await, dial(second).await);
        echoes(&mut one, 1).await;
        echoes(&mut other, 2).await;
        tell.send(()).unwrap();
        let reason = loop {
            if let DealerEvent::Closed(reason) = one.next().await {
                break reason;
            }
        };
        // It is not dropped, and polled no more.
        echoes(&mut other, 3).await;
        echoes(&mut other, 4).await;
        reason
    });
    let goes = async {
        told.await.unwrap();
        gone.drain(PATIENCE).await;
    };
    let (reason, ()) = tokio::join!(ended, goes);
    assert_eq!(reason, CloseReason::Peer);
}
