//! Events: one process publishes as fast as it can, another has so many subscribers, each with a connection of its own.
//!
//! What is measured is how many events a second each subscriber gets, until the last one has what is coming to it; so a publisher that runs ahead and fills
//! queues gains nothing. Whoever can be told to lose nothing is told so, and what is lost all the same is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::peer::{Bursts, Peer};
use crate::process::{self, Order, Said};
use crate::role::ready;

/// What a publisher is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Burst {
    /// For so long.
    pub millis: u64,
    /// But no more events than this, since some peers keep without bound what subscribers do not take. None: just a word to see who listens.
    pub limit: u64,
    /// Bytes in each.
    pub size: usize,
}

/// What it came to at the publisher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The number of the last event; the first has 1.
    pub events: u64,
    /// By the machine's clock, in nanoseconds.
    pub began: u64,
    /// CPU time of the publisher's process, in nanoseconds.
    pub cpu: u64,
}

/// What it came to at the subscribers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// Events that all subscribers together got.
    pub received: u64,
    /// When the last of them came.
    pub ended: u64,
    /// CPU time of the subscribers' process, in nanoseconds.
    pub cpu: u64,
}

/// What one subscriber has got.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    probes: AtomicU64,
    received: AtomicU64,
    last: AtomicU64,
    at: AtomicU64,
}

impl Tally {
    /// An event came.
    pub fn heard(&self, number: u64) {
        let counts = &self.0;
        if number == 0 {
            counts.probes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // One subscriber alone writes here, so these need be no read-modify-writes.
        counts.received.store(counts.received.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        counts.last.store(number, Ordering::Release);
        if number.is_multiple_of(64) {
            counts.at.store(clock(), Ordering::Relaxed);
        }
    }

    /// How many came, and when the last one did; and begins anew.
    fn settle(&self) -> (u64, u64) {
        self.0.last.store(0, Ordering::Relaxed);
        (self.0.received.swap(0, Ordering::Relaxed), self.0.at.load(Ordering::Relaxed))
    }
}

/// The machine's monotonic clock, which all its processes share, in nanoseconds.
pub fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// In a publisher: does as it is asked.
pub async fn bursts(
    mut orders: Bursts,
    mut publish: impl AsyncFnMut(u64, &Bytes) -> Result<()>,
) -> Result<()> {
    while let Some(burst) = orders.recv().await {
        let payload = Bytes::from(vec![7; burst.size]);
        let own = [std::process::id()];
        let (began, cpu) = (clock(), process::cpu_time(&own));
        let mut events = 0;
        if burst.limit == 0 {
            publish(0, &payload).await?;
        }
        // A multiple of 64, so that the last one's time is taken; the clock is looked at as seldom.
        while events < burst.limit && clock() - began < burst.millis * 1_000_000 {
            for _ in 0..64 {
                events += 1;
                publish(events, &payload).await?;
            }
            // There are libraries that hand over to a task of their own and never wait for it: it has to run.
            yield_now().await;
        }
        let cpu = process::cpu_time(&own) - cpu;
        process::say(&Said::Published(Published { events, began, cpu }))?;
    }
    Ok(())
}

/// The role of a publisher.
pub async fn publish(peer: &dyn Peer) -> Result<()> {
    let broadcast = peer.events().ok_or("it publishes nothing")?;
    let mut orders = process::orders();
    let (pass, passed) = mpsc::unbounded_channel();
    let mut publishing = broadcast.publish(ready(), passed);
    loop {
        tokio::select! {
            published = &mut publishing => return published,
            order = orders.recv() => match order {
                Some(Order::Publish(burst)) => pass.send(burst)?,
                Some(_) => return Err("that is no order for a publisher".into()),
                None => return Ok(()),
            },
        }
    }
}

/// The role of subscribers. `endpoint` is their number, a space, and the publisher's endpoint.
pub async fn subscribe(peer: &dyn Peer, endpoint: &str) -> Result<()> {
    let broadcast = peer.events().ok_or("it publishes nothing")?;
    let (number, endpoint) = endpoint.split_once(' ').ok_or("how many, and where")?;
    let tallies: Vec<Tally> = (0..number.parse()?).map(|_| Tally::default()).collect();
    let mut listening: FuturesUnordered<_> =
        tallies.iter().map(|tally| broadcast.subscribe(endpoint.to_owned(), tally.clone())).collect();
    let mut orders = process::orders();
    ready()(String::new(), Vec::new());
    let mut cpu = process::cpu_time(&[std::process::id()]);
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Heard) => {
                    let all = tallies.iter().all(|tally| tally.0.probes.load(Ordering::Relaxed) > 0);
                    process::say(&Said::Heard(all))?;
                    cpu = process::cpu_time(&[std::process::id()]);
                }
                Some(Order::Settle { last }) => {
                    tokio::select! {
                        () = silence(&tallies, last) => {}
                        ended = until_one_ends(&mut listening) => return ended,
                    }
                    let now = process::cpu_time(&[std::process::id()]);
                    process::say(&Said::Settled(settle(&tallies, now - cpu)))?;
                    cpu = now;
                }
                Some(_) => return Err("that is no order for subscribers".into()),
                None => return Ok(()),
            },
            ended = until_one_ends(&mut listening) => return ended,
        }
    }
}

async fn until_one_ends(listening: &mut FuturesUnordered<crate::peer::Doing<'_, ()>>) -> Result<()> {
    listening.next().await.unwrap_or(Ok(()))?;
    Err("a subscriber has ended".into())
}

fn settle(tallies: &[Tally], cpu: u64) -> Settled {
    let all: Vec<_> = tallies.iter().map(Tally::settle).collect();
    let received = all.iter().map(|tally| tally.0).sum();
    Settled { received, ended: all.iter().map(|tally| tally.1).max().unwrap_or_default(), cpu }
}

/// Until all have the last event, or none has got anything for half a second.
async fn silence(tallies: &[Tally], last: u64) {
    let mut before = 0;
    let mut since = Instant::now();
    loop {
        if tallies.iter().all(|tally| tally.0.last.load(Ordering::Acquire) == last) {
            return;
        }
        let received = tallies.iter().map(|tally| tally.0.received.load(Ordering::Relaxed)).sum();
        if received != before {
            (before, since) = (received, Instant::now());
        } else if since.elapsed() > Duration::from_millis(500) {
            return;
        }
        sleep(Duration::from_millis(2)).await;
    }
}
