//! Goal: a connection that is encrypted costs little memory, idle and after it has been busy.
//!
//! Method: an echoing router in this process, since it is the process's memory that is looked at; its clients, by rustls alone, are a process of their
//! own, this binary once more. They connect, tell, send a burst, tell, and wait for their end.
#![cfg(target_os = "linux")]

#[path = "gate/stranger.rs"]
#[allow(dead_code)]
mod stranger;
#[path = "transport/mod.rs"]
mod transport;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use selfsame::io::{Acceptor, RouterOptions};
use stranger::{Echo, PATIENCE, Stranger, blocking};
use transport::certificates::{self, Folder};

const CONNECTIONS: usize = 200;

/// Bytes of a message, and how many are in a burst. The socket crate's two buffers of a connection stay as large as its largest message made them, up to
/// 64 KiB each, encrypted or not; so this is about a burst of messages that are not that large.
const BURST: (usize, usize) = (16_000, 4);

/// What a connection may cost, in KiB: the debug build's tasks are larger than those of a release.
const IDLE: u64 = 24;
const AFTER_A_BURST: u64 = 96;

const ADDRESS: &str = "SELFSAME_TEST_ADDRESS";
const FOLDER: &str = "SELFSAME_TEST_CERTIFICATES";

/// The process's memory, in KiB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// The other process; nothing if this is not it.
#[test]
fn clients() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let mut all: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let over = TcpStream::connect(&address).unwrap();
            over.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut client = Stranger(certificates::stream(&folder, over));
            client.shake("DEALER", b"");
            client.echoes(b"hello");
            client
        })
        .collect();
    wait_for_a_line("connected");
    for client in &mut all {
        (0..BURST.1).for_each(|_| client.echoes(&vec![1; BURST.0]));
        client.echoes(b"quiet again");
    }
    wait_for_a_line("quiet");
}

fn wait_for_a_line(told: &str) {
    println!("\ntold: {told}");
    std::io::stdout().flush().unwrap();
    std::io::stdin().lines().next();
}

#[tokio::test]
async fn a_connection_costs_little() {
    let folder = Folder::new();
    folder.client("ann");
    let tls = Some(Acceptor::open(folder.mutual()).unwrap());
    let options = RouterOptions { tls, ..RouterOptions::router() };
    let echo = Echo::start_at("tls://127.0.0.1:0".parse().unwrap(), options).await;
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args(["clients", "--exact", "--nocapture"])
        .env(ADDRESS, echo.address.strip_prefix("tls://").unwrap())
        .env(FOLDER, folder.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut say, heard) = (clients.stdin.take().unwrap(), clients.stdout.take().unwrap());
    let before = resident();
    let (idle, after_a_burst) = blocking(move || {
        let mut heard = BufReader::new(heard).lines().map(Result::unwrap);
        heard.find(|line| line == "told: connected").unwrap();
        let idle = resident() - before;
        say.write_all(b"\n").unwrap();
        heard.find(|line| line == "told: quiet").unwrap();
        let after_a_burst = resident() - before;
        say.write_all(b"\n").unwrap();
        heard.for_each(drop); // it says how its test went
        assert!(clients.wait().unwrap().success());
        (idle, after_a_burst)
    })
    .await;
    let each = (idle / CONNECTIONS as u64, after_a_burst / CONNECTIONS as u64);
    println!("KiB a connection: {} idle, {} after a burst", each.0, each.1);
    assert_eq!(echo.counters().await.opened, CONNECTIONS as u64);
    assert!(each.0 <= IDLE && each.1 <= AFTER_A_BURST, "{each:?} KiB");
}
