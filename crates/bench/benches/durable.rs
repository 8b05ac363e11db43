//! What the durable store costs: with 1, 64 and 512 in flight, claims and completions at the store alone, and whole `once` calls over TCP to a server that
//! has it; beside them the bare fsync rate of the same disk, and calls to a server with a memory store, in the same run. The rounds of all are
//! interleaved, so that a disk that gets slower does so for all; medians are told. And how long a file of a million records takes to open.
//!
//! `cargo bench -p selfsame-bench --bench durable [-- <folder>]`; the folder (default: one below `target`) says which disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use selfsame::protocol::dedup::Imprint;
use selfsame::protocol::store::{Done, Intent, Op, StoreEvent, Ticket};
use selfsame::protocol::wire::Answer;
use selfsame::protocol::{CallId, Incarnation, Key, PrincipalId, Registration, WallTime};
use selfsame::store::{Link, Opener, flushes};
use selfsame::{Channel, Server, Spin, Store};
use selfsame_bench::api::storm::{StormClient, StormServer};
use selfsame_bench::{Echo, trial};

const IN_FLIGHT: [usize; 3] = [1, 64, 512];

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    rounds: usize,
    round: Duration,
    records: u128,
}

const WHOLE: Extent = Extent { rounds: 9, round: Duration::from_millis(400), records: 1_000_000 };
const TRIAL: Extent = Extent { rounds: 1, round: Duration::from_millis(10), records: 1_000 };
const SESSION: Registration = Registration(1);

async fn open(path: &Path) -> Link {
    let opener =
        Opener { incarnation: Incarnation(1), retention: Duration::from_secs(60), spin: Spin::default() };
    let link = Store::durable(path).open(opener).await.expect("it opens");
    let mut link = link.expect("a durable store has a link");
    assert!(matches!(link.events.recv().await, Some(StoreEvent::Opened(_))));
    link
}

/// The way of calls through a store: each claimed, then finished, and closed from time to time, as a client acknowledges.
struct Calls {
    link: Link,
    next: u64,
}

/// What a round came to.
#[derive(Clone, Copy)]
struct Round {
    calls: f64,
    flushes: f64,
    seconds: f64,
}

impl Calls {
    async fn new(path: &Path) -> Self {
        let link = open(path).await;
        let mut calls = Calls { link, next: 1 };
        calls.ask(0, Op::Register { registration: SESSION, principal: PrincipalId::ANYONE });
        assert_eq!(calls.told().await.1, Done::Stored);
        calls
    }

    fn ask(&self, ticket: u64, op: Op) {
        self.link.ops.send((Ticket(ticket), op)).expect("the store listens");
    }

    async fn told(&mut self) -> (u64, Done) {
        match self.link.events.recv().await {
            Some(StoreEvent::Done(Ticket(ticket), done)) => (ticket, done),
            other => panic!("the store has ended: {other:?}"),
        }
    }

    fn claim(&mut self) {
        let number = self.next;
        self.next += 1;
        self.ask(number, Op::Claim(intent(number)));
    }

    /// Keeps so many calls in flight for the length of a round, and waits for the last.
    async fn round(&mut self, in_flight: usize, length: Duration) -> Round {
        let (start, flushed) = (Instant::now(), flushes());
        let mut calls = 0u32;
        (0..in_flight).for_each(|_| self.claim());
        let mut under_way = in_flight;
        while under_way > 0 {
            let (ticket, done) = self.told().await;
            match done {
                Done::Claimed => {
                    let keep = Some(Answer::Ok(Bytes::from_static(&[1; 64])));
                    let op = Op::Finish { claim: Ticket(ticket), intent: intent(ticket), keep };
                    self.ask(ticket, op);
                }
                // A closing.
                Done::Stored if ticket == 0 => {}
                Done::Stored => {
                    calls += 1;
                    under_way -= 1;
                    if calls.is_multiple_of(64) {
                        let below = self.next.saturating_sub(in_flight as u64 + 64).max(1);
                        self.ask(0, Op::Close { registration: SESSION, below, ranges: Vec::new() });
                    }
                    if start.elapsed() < length {
                        self.claim();
                        under_way += 1;
                    }
                }
                other => panic!("neither claimed nor stored: {other:?}"),
            }
        }
        let (seconds, flushes) = (start.elapsed().as_secs_f64(), (flushes() - flushed) as f64);
        Round { calls: f64::from(calls), flushes, seconds }
    }
}

fn intent(number: u64) -> Intent {
    Intent {
        registration: SESSION,
        principal: PrincipalId::ANYONE,
        id: CallId::Sequenced(number),
        imprint: Imprint { interface: 1, method: 2, digest: 3, ..Imprint::default() },
    }
}

/// A client of a server with this store, connected.
async fn serve(store: Store, spin: Spin) -> StormClient {
    let server = Server::builder()
        .store(store)
        .spin(spin)
        .bind("tcp://127.0.0.1:0")
        .await
        .expect("a port and a store");
    let endpoint = server.endpoint().to_string();
    tokio::spawn(server.service(StormServer::new(Echo)).serve());
    let channel = Channel::builder().spin(spin).connect(&endpoint).await.expect("an endpoint");
    let client = StormClient::new(channel);
    client.change_password(|mut p| p.set_user("ann")).await.expect("a reply");
    client
}

/// Keeps so many whole calls in flight for the length of a round, and waits for the last.
async fn whole(client: &StormClient, in_flight: usize, length: Duration) -> Round {
    let call = || async { client.change_password(|mut p| p.set_user("ann")).await.expect("a reply") };
    let (start, flushed, mut calls) = (Instant::now(), flushes(), 0u32);
    let mut under_way: FuturesUnordered<_> = (0..in_flight).map(|_| call()).collect();
    while under_way.next().await.is_some() {
        calls += 1;
        if start.elapsed() < length {
            under_way.push(call());
        }
    }
    let (seconds, flushes) = (start.elapsed().as_secs_f64(), (flushes() - flushed) as f64);
    Round { calls: f64::from(calls), flushes, seconds }
}

/// Writes of 4 KiB, each made durable, to a file that is as long already.
fn bare(file: &File, length: Duration) -> io::Result<Round> {
    let (start, mut flushes) = (Instant::now(), 0u32);
    while start.elapsed() < length {
        file.write_all_at(&[flushes as u8; 4096], u64::from(flushes % 256) * 4096)?;
        file.sync_data()?;
        flushes += 1;
    }
    let flushes = f64::from(flushes);
    Ok(Round { calls: flushes, flushes, seconds: start.elapsed().as_secs_f64() })
}

fn median(rounds: &[Round], what: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, rounds: &[Round], bare: f64) {
    let a_flush = median(rounds, |round| round.seconds / round.flushes * 1e6);
    println!(
        "{name:<27} {:>9.0} calls/s {:>7.0} flushes/s {:>7.1} calls/flush {:>8.0} us/flush ({:.2} x bare)",
        median(rounds, |round| round.calls / round.seconds),
        median(rounds, |round| round.flushes / round.seconds),
        median(rounds, |round| round.calls / round.flushes),
        a_flush,
        a_flush / bare,
    );
}

/// A file of so many ended keyed records, opened.
async fn reopen(path: &Path, records: u128) {
    let mut link = open(path).await;
    for first in (0..records).step_by(4096) {
        let keys = first..(first + 4096).min(records);
        for key in keys.clone() {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let key = Key { key: hash, issued: WallTime(1), expiry: WallTime(u64::MAX) };
            let intent = Intent { id: CallId::Keyed(key), ..intent(0) };
            let keep = Some(Answer::Ok(Bytes::from_static(&[1; 64])));
            let _ = link.ops.send((Ticket(0), Op::Claim(intent)));
            let _ = link.ops.send((Ticket(1), Op::Finish { claim: Ticket(0), intent, keep }));
        }
        for _ in keys.clone().chain(keys) {
            assert!(matches!(link.events.recv().await, Some(StoreEvent::Done(..))));
        }
    }
    link.close().await;
    let start = Instant::now();
    let link = open(path).await;
    let length = std::fs::metadata(path).expect("it is there").len();
    println!(
        "opening {records} records: {:.2} s, {:.0} bytes of file a record",
        start.elapsed().as_secs_f64(),
        length as f64 / records as f64
    );
    link.close().await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let trial = trial();
    let extent = if trial { TRIAL } else { WHOLE };
    // The words after `cargo test` choose tests; no folder is meant.
    let below = std::env::args().skip(1).find(|argument| !trial && !argument.starts_with('-'));
    let below = below.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(below).expect("a folder");
    let file = File::create(folder.path().join("bare")).expect("a file");
    file.write_all_at(&vec![0; 256 * 4096], 0).and_then(|()| file.sync_all()).expect("as long as it gets");
    let mut calls = Calls::new(&folder.path().join("records")).await;
    let durable = serve(Store::durable(folder.path().join("calls")), Spin::Adaptive).await;
    // One call at a time, with spin and without.
    let mut alone = Vec::new();
    for spin in [Spin::Adaptive, Spin::Off] {
        let path = folder.path().join(format!("{spin:?}"));
        let clients = [serve(Store::durable(path), spin).await, serve(Store::memory(), spin).await];
        alone.push((spin, clients, [Vec::new(), Vec::new()]));
    }

    let mut bares = Vec::new();
    let mut store = vec![Vec::new(); IN_FLIGHT.len()];
    let mut wholes = vec![Vec::new(); IN_FLIGHT.len()];
    for _ in 0..extent.rounds {
        bares.push(bare(&file, extent.round).expect("the disk works"));
        for (_, clients, rounds) in &mut alone {
            for (client, rounds) in clients.iter().zip(rounds) {
                rounds.push(whole(client, 1, extent.round).await);
            }
        }
        for (at, in_flight) in IN_FLIGHT.into_iter().enumerate() {
            store[at].push(calls.round(in_flight, extent.round).await);
            wholes[at].push(whole(&durable, in_flight, extent.round).await);
        }
    }
    let bare = median(&bares, |round| round.seconds / round.flushes * 1e6);
    println!("bare fsync                  {bare:>9.0} us");
    for (what, all) in [("store alone", &store), ("whole calls", &wholes)] {
        for (rounds, in_flight) in all.iter().zip(IN_FLIGHT) {
            report(&format!("{what}, {in_flight} in flight"), rounds, bare);
        }
    }
    for (spin, _, rounds) in &alone {
        let [durable, memory] =
            rounds.each_ref().map(|rounds| median(rounds, |round| round.seconds / round.calls * 1e6));
        println!(
            "a whole call alone, spin {spin:?}: {durable:.0} us, {:.2} x (two bare fsyncs and a call to a memory store, {memory:.0} us)",
            durable / (2.0 * bare + memory)
        );
    }
    calls.link.close().await;
    reopen(&folder.path().join("million"), extent.records).await;
}
