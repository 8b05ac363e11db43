//! What a million retained keyed records cost: bytes a record, and what they do to the time in which a further call is admitted. They stay until
//! they expire, whatever is acknowledged, so a table full of them has to be as good as an empty one.
//!
//! Beside it the time of a whole call whose record then stays: there the growing table also pays for memory that it touches for the first time. And what calls
//! notice when all these keys expire at once and are cleaned up.
//!
//! Not a criterion bench: the table is too large to be built for each sample, and what counts is a ratio within one run, of medians over
//! interleaved rounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selfsame::protocol::dedup::{
    Admission, Attempt, Dedup, Delivery, Execution, Identity, Limits, Minted, Now, Terminal,
};
use selfsame::protocol::wire::{Call, Hello};
use selfsame::protocol::{
    CallId, ConnectionId, Key, Moment, PrincipalId, Registration, RetryClass, Stamp, WallTime,
};
use selfsame_bench::{call, trial};

const NOW: Now = Now { moment: Moment::from_secs(1), wall: WallTime(1_000_000) };
const CALLS: u64 = 2_000;
/// Calls in flight: the session's window.
const WINDOW: u32 = 1_000;

struct Table {
    dedup: Dedup,
    registration: Registration,
    now: Now,
    keys: u64,
    deliveries: Vec<Delivery>,
}

impl Table {
    fn new(records: u64) -> Table {
        let limits = Limits { keyed: 2_000_000, ..Limits::default() };
        let mut dedup = Dedup::new(Identity::default(), limits);
        let minted = Minted { registration: Registration(7), stamp: Stamp(1) };
        let hello = Hello { version: 1, ..Hello::default() };
        let registration =
            dedup.hello(&hello, PrincipalId::ANYONE, minted, NOW).expect("room for a session").registration;
        let mut table = Table { dedup, registration, now: NOW, keys: 0, deliveries: Vec::new() };
        (0..records).for_each(|_| table.call());
        table
    }

    /// A new key is admitted.
    fn admit(&mut self) -> Execution {
        self.keys += 1;
        // An odd multiplier spreads the keys as a hash would; expiries come in no order, as users' validities do.
        let key = u128::from(self.keys).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let expiry = WallTime(self.now.wall.0 + 60_000_000 + (key as u64 >> 40));
        let id = CallId::Keyed(Key { key, issued: self.now.wall, expiry });
        let call = Call { issued: self.now.wall, ..call(self.registration, id, 0, Bytes::new()) };
        let attempt = Attempt {
            call: &call,
            digest: key,
            principal: PrincipalId::ANYONE,
            from: ConnectionId(1),
            class: RetryClass::Once,
        };
        match self.dedup.admit(&attempt, None, self.now) {
            Admission::Execute(execution) => execution,
            other => panic!("a new key runs: {other:?}"),
        }
    }

    fn complete(&mut self, execution: Execution, terminal: Terminal) {
        self.dedup.complete(execution, terminal, self.now, &mut self.deliveries);
        black_box(&self.deliveries);
        self.deliveries.clear();
    }

    /// One keyed call from its admission to its record.
    fn call(&mut self) {
        let execution = self.admit();
        self.complete(execution, Terminal::Ok(BODY));
    }

    /// The time that a call takes, its record staying.
    fn calls(&mut self) -> Duration {
        let began = Instant::now();
        (0..CALLS).for_each(|_| self.call());
        began.elapsed() / CALLS as u32
    }

    /// The time that an admission takes, the table staying as it is.
    fn admissions(&mut self) -> Duration {
        let began = Instant::now();
        let running: Vec<_> = (0..WINDOW).map(|_| self.admit()).collect();
        let took = began.elapsed() / WINDOW;
        running.into_iter().for_each(|execution| self.complete(execution, Terminal::Silent));
        took
    }
}

/// How often a call comes while keys are cleaned up: 20,000 a second.
const GAP: Duration = Duration::from_micros(50);
/// How soon a round of sweeping follows the one before: as in a server.
const SWEEP_PACE: Duration = Duration::from_millis(1);

/// Calls come at their times, whatever else there is to do. How long each took from the time at which it came, sorted, and how long the last sweep took to come.
fn calls_beside_sweeps(table: &mut Table, least: usize) -> (Vec<Duration>, Duration) {
    let began = Instant::now();
    let (mut times, mut sweep, mut cleaned) = (Vec::new(), began, None);
    while times.len() < least || cleaned.is_none() {
        let came = began + GAP * times.len() as u32;
        while Instant::now() < came {
            std::hint::spin_loop();
        }
        if cleaned.is_none() && Instant::now() >= sweep {
            let again = table.dedup.sweep(table.now);
            sweep = Instant::now() + SWEEP_PACE;
            cleaned = again.is_none_or(|at| at > table.now.moment).then(|| began.elapsed());
        }
        table.call();
        times.push(came.elapsed());
    }
    times.sort();
    (times, cleaned.unwrap_or_default())
}

/// What calls notice of it when all keys of a table expire at once.
fn clean_up(table: &mut Table, quick: bool) {
    let least = if quick { 100 } else { 100_000 };
    let expired = table.dedup.counters().keyed;
    let (quiet, _) = calls_beside_sweeps(table, least);
    // All that is there has expired then; what comes from then on has not.
    table.now.wall.0 += 100_000_000;
    let (during, took) = calls_beside_sweeps(table, least);
    println!("\n{expired} keys expire at once: gone after {took:.1?}, while a call comes every {GAP:?}");
    println!("{:<24}{:>12}{:>12}{:>12}", "a call, from its coming", "p50", "p99", "max");
    for (what, times) in [("nothing expires", quiet), ("clean-up", during)] {
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        println!("{what:<24}{:>12.1?}{:>12.1?}{:>12.1?}", at(50), at(99), at(100));
    }
}

/// A reply of 64 bytes.
const BODY: Bytes = Bytes::from_static(&[7; 64]);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux process knows its memory");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line of resident memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") * 1024
}

fn main() {
    let quick = trial();
    let (rounds, records) = if quick { (1, 10_000) } else { (31, 1_000_000) };
    let before = resident();
    let mut full = Table::new(records);
    let bytes = (resident() - before) as u64 / records;
    let [mut empty_admits, mut full_admits, mut empty_calls, mut full_calls] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        // It has had a few calls, or it would pay for its first memory.
        let mut empty = Table::new(CALLS);
        empty.admissions();
        empty_admits.push(empty.admissions());
        full.admissions();
        full_admits.push(full.admissions());
    }
    for _ in 0..rounds {
        empty_calls.push(Table::new(CALLS).calls());
        full_calls.push(full.calls());
    }
    println!("{records} retained keyed records, replies of {} bytes: {bytes} bytes a record", BODY.len());
    println!("{:<24}{:>12}{:>12}{:>8}", "", "empty table", "full table", "ratio");
    for (what, empty, full) in
        [("admit", empty_admits, full_admits), ("a call, its record kept", empty_calls, full_calls)]
    {
        let (empty, full) = (median(empty), median(full));
        let ratio = full.as_secs_f64() / empty.as_secs_f64();
        println!("{what:<24}{empty:>12.0?}{full:>12.0?}{ratio:>8.2}");
    }
    clean_up(&mut full, quick);
}
