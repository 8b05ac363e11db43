//! Goal: the gates of a process do not let it run out of descriptors; and one that does, for whatever reason, neither spins nor fails: it rests, and goes on
//! when there are some again.
//!
//! Method: a child process that has few from its beginning. And strangers that take their descriptors first, then the limit is lowered to what is in use, then
//! they connect. In a file of their own, and one after the other, since the limit is the whole process's.

#[path = "gate/stranger.rs"]
#[allow(dead_code)]
mod stranger;
#[path = "transport/mod.rs"]
mod transport;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use selfsame::io::{Dealer, DealerOptions, DialError, Endpoint, IoThread, RouterOptions};
use socket2::{Domain, Socket, Type};
use stranger::{Echo, PATIENCE, Stranger, blocking, greeting, ready};
use tokio::sync::Mutex;

const STRANGERS: usize = 20;

static ALONE: Mutex<()> = Mutex::const_new(());

/// Set in the child.
const FEW: &str = "SELFSAME_TEST_FEW_DESCRIPTORS";

#[tokio::test]
async fn all_gates_of_a_process_share_what_descriptors_it_has() {
    if std::env::var_os(FEW).is_some() {
        return with_200_descriptors().await;
    }
    let _alone = ALONE.lock().await;
    let mut child = Command::new("sh");
    child.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "all_gates_of_a_process_share_what_descriptors_it_has"]).env(FEW, "1");
    let ended = child.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{ended:?}");
}

/// Three descriptors a connection, and 128 aside: 24 connections.
async fn with_200_descriptors() {
    let options = RouterOptions { address_limit: Some(1000), ..RouterOptions::router() };
    let (one, other) = (Echo::start(options.clone()).await, Echo::start(options).await);
    let addresses = [one.address, other.address];
    let strangers = blocking(move || {
        let connect = |at: usize| {
            let mut stranger = Stranger::connect(addresses[at % 2]);
            // Who is turned away may be cut off before it has said all.
            let _ = stranger.0.write_all(&[&greeting()[..], &ready("DEALER", b"")].concat());
            stranger
        };
        (0..40).map(connect).collect::<Vec<_>>()
    })
    .await;
    let first = one.until(|counters| counters.opened + counters.turned_away == 20).await;
    let second = other.until(|counters| counters.opened + counters.turned_away == 20).await;
    assert_eq!((first.opened + second.opened, first.turned_away + second.turned_away), (24, 16));
    assert_eq!((first.accept_errors, second.accept_errors), (0, 0));
    drop(strangers);
    one.until(|counters| counters.closed == first.opened).await;
    other.until(|counters| counters.closed == second.opened).await;
    blocking(move || addresses.map(|address| Stranger::dealer(address, b"").echoes(b"room again"))).await;
}

#[tokio::test]
async fn dialling_fails_at_once_while_there_are_no_descriptors() {
    let _alone = ALONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::yield_now(); // it has no descriptor either
                continue;
            };
            std::thread::spawn(move || {
                let mut guest = Stranger(stream);
                let greeted = guest.0.write_all(&[&greeting()[..], &ready("ROUTER", b"")].concat());
                let _ = greeted.and_then(|()| std::io::copy(&mut guest.0, &mut std::io::sink()));
            });
        }
    });
    let io = IoThread::start("test-dealer").unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let dial = || {
        let endpoint = endpoint.clone();
        let options =
            DealerOptions { handshake_timeout: Duration::from_millis(300), ..DealerOptions::dealer() };
        let dialled = io.run(move || async move { Dealer::dial(&endpoint, options).await.map(drop) });
        async { tokio::time::timeout(Duration::from_secs(5), dialled).await.expect("it spins").unwrap() }
    };
    let first = endpoint.clone();
    // It stays: all lazy things are set up, and it gives no descriptors back.
    drop(io.run(move || async move {
        let _first = Dealer::dial(&first, DealerOptions::dealer()).await.unwrap();
        tell.send(()).unwrap();
        std::future::pending::<()>().await;
    }));
    told.await.unwrap();
    let usual = getrlimit(Resource::Nofile);
    // None is left below the last of these.
    let fillers: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let lowest_free = fillers.iter().map(|filler| filler.as_raw_fd()).max().unwrap() + 1;
    // Which of those that it takes is the first not to be there depends on what others give back meanwhile.
    for more in (0..8).cycle().take(80) {
        let current = Some((lowest_free + more) as u64);
        setrlimit(Resource::Nofile, Rlimit { current, maximum: usual.maximum }).unwrap();
        let dialled = dial().await;
        setrlimit(Resource::Nofile, usual).unwrap();
        if let Err(DialError::Connect(error) | DialError::Local(error)) = dialled {
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{error}");
        }
    }
    drop(fillers);
    dial().await.unwrap();
}

#[tokio::test]
async fn accepting_rests_while_there_are_no_descriptors() {
    let _alone = ALONE.lock().await;
    let echo = Echo::start(RouterOptions::router()).await;
    let address = echo.address;
    let accepts: SocketAddr = address.strip_prefix("tcp://").unwrap().parse().unwrap();
    blocking(move || Stranger::dealer(address, b"").echoes(b"all lazy things are set up")).await;
    echo.until(|counters| counters.closed == 1).await;

    let sockets: Vec<_> =
        (0..STRANGERS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let usual = getrlimit(Resource::Nofile);
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest_free as u64), maximum: usual.maximum })
        .unwrap();
    let started = Instant::now();
    for socket in &sockets {
        socket.connect(&accepts.into()).unwrap(); // the system's backlog takes them
    }
    let counters = echo.until(|counters| counters.accept_errors >= 3).await;
    let rests = started.elapsed().as_millis() as u64 / 100;
    assert!(counters.accept_errors <= rests + 2, "it spins: {counters:?} after {rests} rests");
    setrlimit(Resource::Nofile, usual).unwrap();

    blocking(move || {
        for socket in sockets {
            let mut stranger = Stranger(std::net::TcpStream::from(socket));
            stranger.0.set_read_timeout(Some(PATIENCE)).unwrap();
            stranger.shake("DEALER", b"");
            stranger.echoes(b"accepted in the end");
        }
    })
    .await;
    assert_eq!(echo.counters().await.opened, 1 + STRANGERS as u64);
}
