//! What deduplication costs a whole call: the same work over the same sockets, `once` (a record a call) against `idempotent` (none), 64 in flight, in one
//! run. The store is the memory one. Throughput, and the CPU time that client and server together take for a call.
//!
//! Not a criterion bench: what counts is a ratio, of medians over interleaved rounds, with CPU time beside it.

use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use rustix::time::{ClockId, clock_gettime};
use selfsame::Server;
use selfsame_bench::api::storm::{StormClient, StormServer};
use selfsame_bench::{Echo, trial};

const IN_FLIGHT: usize = 64;

/// CPU time of all threads of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Wall and CPU time of one call among many.
async fn round<F: Future>(calls: usize, call: impl Fn() -> F) -> (Duration, Duration) {
    let (began, worked) = (Instant::now(), cpu());
    let mut in_flight: FuturesUnordered<_> = (0..IN_FLIGHT).map(|_| call()).collect();
    for _ in IN_FLIGHT..calls {
        in_flight.next().await;
        in_flight.push(call());
    }
    while in_flight.next().await.is_some() {}
    (began.elapsed() / calls as u32, (cpu() - worked) / calls as u32)
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let (rounds, calls) = if trial() { (1, 500) } else { (31, 20_000) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::bind("tcp://127.0.0.1:0").await.expect("a port").service(StormServer::new(Echo));
        let endpoint = server.endpoint().to_string();
        tokio::spawn(server.serve());
        let client = StormClient::connect(&endpoint).await.expect("an endpoint");
        let once = || async { client.change_password(|mut p| p.set_user("ann")).await.expect("a reply") };
        let freely =
            || async { client.change_password_again(|mut p| p.set_user("ann")).await.expect("a reply") };
        round(calls, once).await;
        round(calls, freely).await;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            with.push(round(calls, once).await);
            without.push(round(calls, freely).await);
        }
        println!(
            "{IN_FLIGHT} in flight, {rounds} rounds of {calls} calls each, client and server in one process"
        );
        println!("{:<14}{:>16}{:>16}", "", "time a call", "CPU a call");
        let wall = |rounds: &[(Duration, Duration)]| median(rounds.iter().map(|round| round.0));
        let work = |rounds: &[(Duration, Duration)]| median(rounds.iter().map(|round| round.1));
        println!("{:<14}{:>16.2?}{:>16.2?}", "once", wall(&with), work(&with));
        println!("{:<14}{:>16.2?}{:>16.2?}", "idempotent", wall(&without), work(&without));
        // Of each pair of rounds, since the machine is not as fast in one minute as in the next.
        let ratio = |of: fn(&(Duration, Duration)) -> Duration| {
            let mut ratios: Vec<_> = with
                .iter()
                .zip(&without)
                .map(|(with, without)| of(with).as_secs_f64() / of(without).as_secs_f64())
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        };
        println!("{:<14}{:>16.3}{:>16.3}", "ratio", ratio(|round| round.0), ratio(|round| round.1));
    });
}
