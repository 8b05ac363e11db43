//! The order of measuring events: for each number of subscribers some rounds, in each all peers, with processes of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;
use crate::events::Burst;
use crate::options::{Options, Times};
use crate::peer::Peer;
use crate::process::{Child, Order, Placement, Said};
use crate::role::Arguments;
use crate::rounds::{Failure, median};

/// As for calls.
const ROUNDS: usize = 5;
/// Bytes in an event.
pub const SIZE: usize = 64;
/// Numbers of subscribers.
pub const SUBSCRIBERS: [usize; 3] = [1, 4, 16];
/// Some peers keep without bound what subscribers do not take: no more of it than this.
const LIMIT: u64 = 400_000;

/// What one round of one peer came to.
#[derive(Clone, Debug, Serialize)]
pub struct Heard {
    /// Events a second that each subscriber got.
    pub rate: f64,
    /// Events published.
    pub published: u64,
    /// Events that did not come, of all subscribers together.
    pub lost: u64,
    /// CPU time of the publisher's processes for an event, and of the subscribers' for an event that one of them got, in microseconds.
    pub publisher_cpu: f64,
    pub subscriber_cpu: f64,
}

/// All that was measured of events.
#[derive(Debug, Default)]
pub struct Measured {
    /// One a round, by number of subscribers and peer.
    pub heard: BTreeMap<usize, BTreeMap<String, Vec<Heard>>>,
    /// What did not go, and why.
    pub failures: Vec<Failure>,
}

impl Measured {
    /// The median over the rounds.
    pub fn median(&self, subscribers: usize, peer: &str, of: impl Fn(&Heard) -> f64) -> Option<f64> {
        median(self.heard.get(&subscribers)?.get(peer)?.iter().map(of).collect())
    }

    /// The median over the rounds of the ratio of two peers' rates within each.
    pub fn ratio(&self, subscribers: usize, peer: &str, to: &str) -> Option<f64> {
        let heard = self.heard.get(&subscribers)?;
        let (ours, theirs) = (heard.get(peer)?, heard.get(to)?);
        median(ours.iter().zip(theirs).map(|(ours, theirs)| ours.rate / theirs.rate).collect())
    }
}

/// A publisher, and its subscribers in one process.
struct Pair {
    /// Ends first.
    subscribers: Child,
    publisher: Child,
    publishing: Vec<u32>,
}

impl Pair {
    fn start(peer: &dyn Peer, subscribers: usize, placement: &Placement) -> Result<Pair> {
        let patience = Duration::from_secs(10);
        let arguments = Arguments {
            peer: peer.name().into(),
            workers: 1,
            core: placement.server,
            endpoint: String::new(),
        };
        let publisher = Child::start("publish", &arguments.words())?;
        let Said::Ready { endpoint, helpers } = publisher.hear(patience)? else {
            return Err("the publisher did not say where it is".into());
        };
        let endpoint = format!("{subscribers} {endpoint}");
        let arguments = Arguments { core: placement.client, endpoint, ..arguments };
        let listening = Child::start("subscribe", &arguments.words())?;
        listening.hear(patience)?;
        let mut pair = Pair { subscribers: listening, publisher, publishing: helpers };
        // Not every library tells when a subscription has arrived: so words are published until all have heard one.
        let deadline = Instant::now() + patience;
        let word = Order::Publish(Burst { millis: 0, limit: 0, size: SIZE });
        loop {
            pair.publisher.ask(&word, patience)?;
            std::thread::sleep(Duration::from_millis(10));
            match pair.subscribers.ask(&Order::Heard, patience)? {
                Said::Heard(true) => return Ok(pair),
                _ if Instant::now() > deadline => return Err("not all subscribers hear anything".into()),
                _ => {}
            }
        }
    }

    fn round(&mut self, subscribers: usize, length: Duration) -> Result<Heard> {
        let patience = Duration::from_secs(30);
        let limit = LIMIT / subscribers as u64;
        let burst = Burst { millis: length.as_millis() as u64, limit, size: SIZE };
        let helpers = crate::process::cpu_time(&self.publishing);
        let Said::Published(published) = self.publisher.ask(&Order::Publish(burst), patience)? else {
            return Err("the publisher does not say what it published".into());
        };
        let Said::Settled(settled) =
            self.subscribers.ask(&Order::Settle { last: published.events }, patience)?
        else {
            return Err("the subscribers do not say what came".into());
        };
        let helpers = crate::process::cpu_time(&self.publishing) - helpers;
        if settled.received == 0 || settled.ended <= published.began {
            return Err("nothing came".into());
        }
        let seconds = (settled.ended - published.began) as f64 / 1e9;
        let micros = |nanos: u64, events: u64| nanos as f64 / 1000.0 / events as f64;
        Ok(Heard {
            rate: settled.received as f64 / subscribers as f64 / seconds,
            published: published.events,
            lost: (published.events * subscribers as u64).saturating_sub(settled.received),
            publisher_cpu: micros(published.cpu + helpers, published.events),
            subscriber_cpu: micros(settled.cpu, settled.received),
        })
    }
}

/// Measures all numbers of subscribers.
pub fn measure(options: &Options, peers: &[Box<dyn Peer>], placement: &Placement, times: &Times) -> Measured {
    let length = Duration::from_millis(if options.quick { 150 } else { 500 });
    let peers: Vec<_> = peers.iter().map(AsRef::as_ref).filter(|peer| peer.events().is_some()).collect();
    let mut measured = Measured::default();
    for subscribers in SUBSCRIBERS {
        eprintln!("events, {subscribers} subscribers");
        let mut pairs: Vec<_> = peers
            .iter()
            .map(|peer| times.events().and_then(|()| Pair::start(*peer, subscribers, placement)))
            .collect();
        for round in 0..ROUNDS {
            for turn in 0..peers.len() {
                let at = (turn + round) % peers.len();
                let Ok(pair) = &mut pairs[at] else { continue };
                match times.events().and_then(|()| pair.round(subscribers, length)) {
                    Ok(heard) => {
                        let of_all = measured.heard.entry(subscribers).or_default();
                        of_all.entry(peers[at].name().into()).or_default().push(heard);
                    }
                    Err(error) => pairs[at] = Err(error),
                }
            }
        }
        for (peer, pair) in peers.iter().zip(pairs) {
            let Err(error) = pair else { continue };
            eprintln!("  {}: {error}", peer.name());
            let at = format!("events, {subscribers} subscribers");
            measured.failures.push(Failure::new(peer.name(), at, &error));
            if let Some(of_all) = measured.heard.get_mut(&subscribers) {
                of_all.remove(peer.name());
            }
        }
    }
    measured
}
