//! Goal: connections that come and go, in every way that they can, neither hang the process nor fill it.
//!
//! The story: off a single thread the socket crate's ROUTER hung after 3,000 to 7,000 connections, and a connection that was reset with replies queued could
//! block a thread for ever. Each connection ever accepted also cost some 110 bytes for good.
//!
//! Method: strangers on plain threads connect to an echoing router over TCP and a Unix socket, and leave before the handshake, in it, after
//! an echo, or by a reset with replies queued, while a dealer talks to the router all the time from a two-worker runtime. At the end every connection
//! is accounted for and resident memory is about what it was after the first tenth. And dealers come and go in the same way, all on one thread.
//! `SELFSAME_CHURN=100000` makes it a hundred thousand.

#[path = "gate/stranger.rs"]
#[allow(dead_code)]
mod stranger;
#[path = "transport/mod.rs"]
mod transport;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use bytes::Bytes;
use selfsame::GateCounters;
use selfsame::io::{
    Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, Router, RouterEvent, RouterOptions,
};
use stranger::{PATIENCE, Stranger, frame, greeting};
use tokio::sync::{mpsc, oneshot, watch};

/// What memory may grow by, in MiB, over nine tenths of the connections. Allocators keep some; a leak of a buffer a connection would be more.
const GROWTH: usize = 24;

const STRANGERS: usize = 4;

fn connections() -> usize {
    std::env::var("SELFSAME_CHURN").map_or(3_000, |count| count.parse().expect("SELFSAME_CHURN is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_come_and_go() {
    let total = connections();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("churn");
    // Renewed often enough that this is churned too.
    let options = RouterOptions { renew_after: 200, ..RouterOptions::router() };
    let tcp = Echo::start("tcp://127.0.0.1:0".parse().unwrap(), options.clone()).await;
    let ipc = Echo::start(Endpoint::Ipc(path.clone()), options).await;
    let Endpoint::Tcp(address) = &tcp.endpoint else { panic!("{}", tcp.endpoint) };
    let address: SocketAddr = address.parse().unwrap();

    let (finish, finished) = watch::channel(false);
    let talker = talk(tcp.endpoint.clone(), finished);
    churn(address, path.clone(), total / 10).await;
    let before = resident();
    churn(address, path, total - total / 10).await;
    let growth = resident().saturating_sub(before);
    finish.send(true).unwrap();
    let rounds = talker.await.expect("the dealer lost its connection");
    assert!(rounds > 0);

    let over_tcp = (total / 10).div_ceil(2) + (total - total / 10).div_ceil(2);
    let (tcp, ipc) = (tcp.settled(over_tcp + 1).await, ipc.settled(total - over_tcp).await);
    println!("{total} connections, {rounds} echoes meanwhile, {growth} MiB more memory; {tcp:?}, {ipc:?}");
    assert_eq!((tcp.turned_away, tcp.accept_errors, ipc.turned_away, ipc.accept_errors), (0, 0, 0, 0));
    assert!(tcp.renewals > 0 && ipc.renewals > 0);
    assert!(growth <= GROWTH, "{growth} MiB");
}

/// All dealers of a thread share what is behind their gates, so one that has gone must leave nothing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dealers_come_and_go() {
    let total = connections();
    let echo = Echo::start("tcp://127.0.0.1:0".parse().unwrap(), RouterOptions::router()).await;
    let endpoint = echo.endpoint.clone();
    let io = IoThread::start("churn-dealers").unwrap();
    let churned = io.run(move || async move {
        let mut old = VecDeque::new();
        let mut before = (0, 0);
        for number in 0..total {
            let mut dealer = Dealer::dial(&endpoint, DealerOptions::dealer()).await.unwrap();
            match number % 4 {
                0 => drop(dealer), // it has said nothing
                1 => {
                    dealer.send(vec![Bytes::from(vec![1; 100_000])]).unwrap(); // and goes before it is answered, or all is written
                }
                2 => {
                    echoes(&mut dealer).await;
                    dealer.close().await;
                }
                _ => {
                    echoes(&mut dealer).await;
                    old.push_back(dealer);
                }
            }
            if old.len() > 20 {
                let mut oldest = old.pop_front().unwrap();
                echoes(&mut oldest).await;
            }
            if number == total / 10 {
                before = (resident(), descriptors());
            }
        }
        echoes(old.back_mut().unwrap()).await;
        drop(old);
        (before, resident())
    });
    let ((before, open), after) =
        tokio::time::timeout(10 * PATIENCE, churned).await.expect("it hangs").unwrap();
    echo.settled(total).await;
    assert!(after.saturating_sub(before) <= GROWTH, "{before} MiB, then {after} MiB");
    drop(io);
    // The other test opens some meanwhile; but one for each dealer would be far more.
    assert!(descriptors() < open + total / 10, "{open} descriptors, then {}", descriptors());
}

async fn echoes(dealer: &mut Dealer) {
    dealer.send(vec![Bytes::from_static(b"still there?")]).unwrap();
    match tokio::time::timeout(PATIENCE, dealer.next()).await.expect("the router hangs") {
        DealerEvent::Message(frames) => assert_eq!(frames, ["still there?"]),
        other => panic!("{other:?}"),
    }
}

/// Open descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// One router that sends back what it hears.
struct Echo {
    _io: IoThread,
    endpoint: Endpoint,
    ask: mpsc::UnboundedSender<oneshot::Sender<(GateCounters, usize)>>,
}

impl Echo {
    async fn start(endpoint: Endpoint, options: RouterOptions) -> Echo {
        let io = IoThread::start("churn-router").unwrap();
        let (tell, bound) = oneshot::channel();
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<(GateCounters, usize)>>();
        drop(io.run(move || async move {
            let mut router = Router::bind(&endpoint, options).await.unwrap();
            tell.send(router.endpoint().clone()).unwrap();
            loop {
                tokio::select! {
                    event = router.next() => if let RouterEvent::Message(from, frames) = event {
                        let _ = router.send(from, frames); // it may have gone
                    },
                    Some(answer) = asked.recv() => answer.send((router.counters(), router.connections())).unwrap(),
                    else => return,
                }
            }
        }));
        Echo { _io: io, endpoint: bound.await.unwrap(), ask }
    }

    /// The counters once so many connections have come, and each has ended, one way or another.
    async fn settled(&self, connections: usize) -> GateCounters {
        let settling = async {
            loop {
                let (answer, answered) = oneshot::channel();
                self.ask.send(answer).unwrap();
                let (counters, open) = answered.await.unwrap();
                let ended = counters.refused + counters.handshake_timeouts + counters.closed;
                if counters.accepted == connections as u64 && ended == counters.accepted && open == 0 {
                    return counters;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, settling).await.expect("connections stay behind")
    }
}

/// Sends a message back and forth until told to finish; returns how often.
fn talk(endpoint: Endpoint, finished: watch::Receiver<bool>) -> oneshot::Receiver<usize> {
    IoThread::shared().unwrap().run(move || async move {
        let mut dealer = Dealer::dial(&endpoint, DealerOptions::dealer()).await.unwrap();
        let mut rounds = 0;
        while !*finished.borrow() {
            dealer.send(vec![Bytes::from_static(b"still there?")]).unwrap();
            match tokio::time::timeout(PATIENCE, dealer.next()).await.expect("the router hangs") {
                DealerEvent::Closed(reason) => panic!("{reason}"),
                _ => rounds += 1,
            }
        }
        dealer.close().await;
        rounds
    })
}

/// So many connections, from several threads at once.
async fn churn(address: SocketAddr, path: PathBuf, count: usize) {
    let threads = (0..STRANGERS).map(|thread| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            for number in (thread..count).step_by(STRANGERS) {
                match number % 2 {
                    0 => over_tcp(address, number / 2),
                    _ => over_ipc(&path, number / 2),
                }
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.await.unwrap();
    }
}

/// Comes, does one thing or another, and goes.
fn visit<S: std::io::Read + std::io::Write>(stranger: &mut Stranger<S>, number: usize) {
    match number % 8 {
        0 => {}
        1 => stranger.say(&greeting()[..30]),
        2 => stranger.say(&greeting()),
        3 => {
            stranger.shake("DEALER", b"same"); // and nothing else
        }
        4 => {
            stranger.shake("DEALER", b"same");
            stranger.say(&frame(1, b"half a message"));
        }
        5 => {
            // It leaves with replies queued: it never reads them.
            stranger.shake("DEALER", &number.to_be_bytes());
            stranger.say(&frame(0, &[0; 10_000]).repeat(5));
        }
        _ => {
            stranger.shake("DEALER", &number.to_be_bytes());
            stranger.echoes(&number.to_be_bytes());
            stranger.echoes(&[1; 3_000]);
        }
    }
}

fn over_tcp(address: SocketAddr, number: usize) {
    let mut stranger = Stranger::connect(&format!("tcp://{address}"));
    stranger.0.reset_at_drop(); // no farewell; it also spares the port its time of waiting
    visit(&mut stranger, number);
}

fn over_ipc(path: &PathBuf, number: usize) {
    let stream = loop {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(), // the backlog is full
            other => break other.unwrap(),
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    visit(&mut Stranger(stream), number);
}

/// Resident memory in MiB; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).map_or(0, |kib| kib / 1024)
}
