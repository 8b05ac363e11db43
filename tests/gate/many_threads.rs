//! A bound socket whose connections are on several IO threads: one to its owner, and to its peers.

use std::io::Write;
use std::time::Duration;

use selfsame::Gate;
use selfsame::io::{CloseReason, RouterOptions};

use super::stranger::{Echo, PATIENCE, Stranger, blocking, frame};

fn three() -> RouterOptions {
    RouterOptions { threads: 3, ..RouterOptions::router() }
}

/// How many threads of this process have a name that begins so.
fn threads(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name =
        |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.unwrap().path().join("comm"));
    tasks.filter_map(|task| name(task).ok()).filter(|name| name.starts_with(prefix)).count()
}

#[tokio::test]
async fn connections_of_all_threads_are_answered_counted_and_limited_together() {
    let echo = Echo::start(RouterOptions { connections_limit: 6, ..three() }).await;
    assert!(threads("selfsame-io-") >= 2);
    let address = echo.address;
    blocking(move || {
        let mut strangers: Vec<_> = (0..6).map(|_| Stranger::dealer(address, b"")).collect();
        for round in 0..20_u8 {
            strangers.iter_mut().for_each(|stranger| stranger.echoes(&[round; 1000]));
        }
        Stranger::connect(address).hears_the_end(); // one more than may be
    })
    .await;
    let counters = echo.until(|counters| counters.closed == 6).await;
    assert_eq!((counters.opened, counters.turned_away, counters.ended_by_peer), (6, 1, 6));
    // The owner hears of each a moment after it is counted.
    while echo.look().await.1 > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_unfinished_on_one_thread_is_closed_for_what_comes_on_another() {
    let mut echo = Echo::start(RouterOptions { unfinished_limit: 1 << 20, ..three() }).await;
    let address = echo.address;
    let _all = blocking(move || {
        // One of them is on each thread, and none is too much by itself.
        let mut hostile: Vec<_> = (0..3).map(|_| Stranger::dealer(address, b"")).collect();
        for stranger in &mut hostile {
            stranger.echoes(b"before");
            stranger.say(&[&[2], &400_000_u64.to_be_bytes()[..], b"a little"].concat());
        }
        let mut honest = Stranger::dealer(address, b"");
        honest.echoes(b"beside them");
        (honest, hostile)
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Unfinished);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_wherever_it_is() {
    let limit = 4 << 20;
    let options = RouterOptions { outstanding_limit: limit, stall_timeout: PATIENCE * 2, ..three() };
    let mut echo = Echo::start(options).await;
    let address = echo.address;
    let (ended, _others) = blocking(move || {
        let mut all: Vec<_> = (0..3).map(|_| Stranger::dealer(address, b"")).collect();
        all.iter_mut().for_each(|stranger| stranger.echoes(b"before"));
        let mut deaf = all.remove(0);
        // Far more than the limit and the sockets' own buffers.
        let message = frame(0, &vec![7; 1 << 20]);
        let ended = (0..1000).any(|_| deaf.0.write_all(&message).is_err());
        all.iter_mut().for_each(|stranger| stranger.echoes(b"after"));
        (ended, all)
    })
    .await;
    assert!(ended);
    assert_eq!(echo.next_closed().await, CloseReason::TooSlow);
}

#[tokio::test]
async fn threads_end_with_their_socket() {
    let echo = Echo::start(three()).await;
    let address = echo.address;
    let stranger = blocking(move || {
        let mut all: Vec<_> = (0..5).map(|_| Stranger::dealer(address, b"")).collect();
        all.iter_mut().for_each(|stranger| stranger.echoes(b"before"));
        all
    })
    .await;
    let ended = blocking(move || {
        let mut all = stranger;
        all.iter_mut().for_each(Stranger::hears_the_end);
    });
    echo.drain(Duration::from_secs(10)).await;
    ended.await;
}

#[tokio::test]
async fn a_server_takes_the_number_from_its_gate() {
    let before = threads("selfsame-io-3");
    let gate = Gate::new().io_threads(4);
    let server = selfsame::Server::builder().gate(gate).bind("tcp://127.0.0.1:0").await.unwrap();
    assert!(threads("selfsame-io-3") > before);
    drop(server);
}
