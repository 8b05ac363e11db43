//! Goal: a process that runs out of descriptors neither spins nor fails; it rests, and goes on when there are some again.
//!
//! Method: strangers take their descriptors first, then the limit is lowered to what is in use, then they connect. Alone in its file, since the limit is
//! the whole process's.

#[path = "gate/stranger.rs"]
#[allow(dead_code)]
mod stranger;
#[path = "transport/mod.rs"]
mod transport;

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use selfsame::io::RouterOptions;
use socket2::{Domain, Socket, Type};
use stranger::{Echo, PATIENCE, Stranger, blocking};

const STRANGERS: usize = 20;

#[tokio::test]
async fn accepting_rests_while_there_are_no_descriptors() {
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
