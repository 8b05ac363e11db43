//! The order of measuring: some rounds, in each all cells, in each cell all peers, one after another.
//!
//! So whatever else the machine does meets all peers alike, and ratios are taken within a round. Each round begins with another peer, for what comes after
//! a busy one finds a warm core. If time runs out there are fewer rounds of everything.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::options::{Options, Times};
use crate::peer::Peer;
use crate::process::{Child, Order, Placement, Said};
use crate::report::name_of;
use crate::role::{Arguments, Sample};
use crate::{Error, Result};

/// Rounds of each cell. A median of fewer says little.
pub const ROUNDS: usize = 5;
/// How much may be under way at once. More than this meets limits of bytes that libraries have, and measures those.
const UNDER_WAY: usize = 32 << 20;
/// What is paced: as many calls a second as an ordinary service has, seldom enough for threads to fall asleep in between.
pub const PACE: u32 = 450;

/// What is measured: one load, in one kind of runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// Of the runtime of client and server. 1: a current-thread runtime.
    pub workers: usize,
    /// Bytes.
    pub size: usize,
    pub in_flight: usize,
    /// Calls a second, if not as many as possible.
    pub pace: Option<u32>,
}

impl Cell {
    /// One worker, as fast as possible.
    pub const fn new(size: usize, in_flight: usize) -> Cell {
        Cell { workers: 1, size, in_flight, pace: None }
    }

    /// Small calls at [`PACE`].
    pub const fn paced() -> Cell {
        Cell { workers: 1, size: 64, in_flight: 1, pace: Some(PACE) }
    }

    /// With two workers.
    pub const fn two_workers(self) -> Cell {
        Cell { workers: 2, ..self }
    }
}

/// The cells of a run.
pub fn cells(options: &Options) -> Vec<Cell> {
    const KIB: usize = 1024;
    let few = [Cell::new(64, 1), Cell::new(64, 64), Cell::new(64, 512), Cell::new(16 * KIB, 64)];
    if options.gate {
        return few.to_vec();
    }
    let mut cells = few.to_vec();
    if options.quick {
        cells.extend([Cell::paced(), Cell::new(64, 64).two_workers()]);
        return cells;
    }
    for workers in [1, 2] {
        for size in [64, KIB, 16 * KIB, KIB * KIB] {
            for in_flight in [1, 8, 64, 512] {
                let cell = Cell { workers, size, in_flight, pace: None };
                if size * in_flight <= UNDER_WAY && !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
    }
    cells.push(Cell::paced());
    cells
}

/// All that was measured of calls.
#[derive(Debug, Default)]
pub struct Measured {
    /// One sample a round, by cell and peer.
    pub samples: BTreeMap<Cell, BTreeMap<String, Vec<Sample>>>,
    /// What did not go, and why.
    pub failures: Vec<Failure>,
}

/// A peer that did not go.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub peer: String,
    pub at: String,
    pub why: String,
}

impl Failure {
    /// Of a peer, at a cell or the like.
    pub fn new(peer: &str, at: impl Into<String>, why: &Error) -> Failure {
        Failure { peer: peer.into(), at: at.into(), why: why.to_string() }
    }
}

impl Measured {
    /// The median over the rounds.
    pub fn median(&self, cell: Cell, peer: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.samples.get(&cell)?.get(peer)?.iter().map(of).collect())
    }

    /// The median over the rounds of the ratio of two peers within each.
    pub fn ratio(&self, cell: Cell, peer: &str, to: &str, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let cell = self.samples.get(&cell)?;
        let (ours, theirs) = (cell.get(peer)?, cell.get(to)?);
        median(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect())
    }
}

/// The middle one, or of an even number the lower of the two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// A peer's server and client.
pub struct Pair {
    /// Ends first.
    pub client: Child,
    _server: Child,
    /// All processes of the server's side.
    pub serving: Vec<u32>,
}

impl Pair {
    /// Starts both, each on its core.
    pub fn start(peer: &dyn Peer, workers: usize, placement: &Placement) -> Result<Pair> {
        let patience = Duration::from_secs(10);
        let arguments =
            Arguments { peer: peer.name().into(), workers, core: placement.server, endpoint: String::new() };
        let server = Child::start("serve", &arguments.words())?;
        let Said::Ready { endpoint, helpers } = server.hear(patience)? else {
            return Err("the server did not say where it is".into());
        };
        let client =
            Child::start("drive", &Arguments { core: placement.client, endpoint, ..arguments }.words())?;
        // There are peers that prepare something first.
        client.hear(Duration::from_secs(120))?;
        let serving = std::iter::once(server.id()).chain(helpers).collect();
        Ok(Pair { client, _server: server, serving })
    }

    fn sample(&mut self, cell: Cell, length: Duration) -> Result<Sample> {
        let order = Order::Drive {
            in_flight: cell.in_flight,
            size: cell.size,
            millis: length.as_millis() as u64,
            pace: cell.pace,
            lanes: cell.workers,
            server: self.serving.clone(),
        };
        match self.client.ask(&order, 2 * length + Duration::from_secs(15))? {
            Said::Drove(sample) => Ok(sample),
            other => Err(format!("the client answers {other:?}").into()),
        }
    }
}

/// Measures all cells.
pub fn measure(options: &Options, peers: &[Box<dyn Peer>], placement: &Placement, times: &Times) -> Measured {
    let cells = cells(options);
    let paced = Duration::from_secs(1);
    let length = length(&cells, peers, times.for_calls(), paced);
    let mut measured = Measured::default();
    // By peer, and in it by workers.
    let mut pairs: Vec<[Option<Pair>; 2]> = peers.iter().map(|_| [None, None]).collect();
    for round in 0..ROUNDS {
        for cell in &cells {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, name_of(*cell));
            let length = if cell.pace.is_some() { paced } else { length };
            for turn in 0..peers.len() {
                let at = (turn + round) % peers.len();
                let peer = peers[at].as_ref();
                if !peer.takes_part(cell) {
                    continue;
                }
                if let Err(error) = times.calls() {
                    let at = format!("round {} of {ROUNDS}, {}", round + 1, name_of(*cell));
                    measured.failures.push(Failure::new("all", at, &error));
                    return measured;
                }
                measured.turn(*cell, peer, &mut pairs[at][cell.workers - 1], length, placement);
            }
        }
    }
    measured
}

/// How long a round of a peer is, so that all fits into the time.
fn length(cells: &[Cell], peers: &[Box<dyn Peer>], time: Duration, paced: Duration) -> Duration {
    let turns = |is_paced: bool| {
        let cells = cells.iter().filter(|cell| cell.pace.is_some() == is_paced);
        let rounds = cells.map(|cell| peers.iter().filter(|peer| peer.takes_part(cell)).count() * ROUNDS);
        rounds.sum::<usize>() as u32
    };
    let time = time.saturating_sub(paced * turns(true));
    // A tenth is spent on warming up, another on the way.
    (time * 10 / 12 / turns(false).max(1)).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

impl Measured {
    /// One peer's turn. What goes wrong ends its processes; the next cell has new ones.
    fn turn(
        &mut self,
        cell: Cell,
        peer: &dyn Peer,
        pair: &mut Option<Pair>,
        length: Duration,
        placement: &Placement,
    ) {
        let name = name_of(cell);
        if self.failures.iter().any(|failure| failure.peer == peer.name() && failure.at == name) {
            return;
        }
        let sampled = match pair {
            Some(pair) => pair.sample(cell, length),
            None => Pair::start(peer, cell.workers, placement)
                .and_then(|started| pair.insert(started).sample(cell, length)),
        };
        match sampled {
            Ok(sample) => {
                self.samples.entry(cell).or_default().entry(peer.name().into()).or_default().push(sample);
            }
            Err(error) => {
                *pair = None;
                eprintln!("  {}: {error}", peer.name());
                self.failures.push(Failure::new(peer.name(), name, &error));
                if let Some(cell) = self.samples.get_mut(&cell) {
                    // Some rounds of it cannot be compared with all rounds of others.
                    cell.remove(peer.name());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn every_cell_is_there_once_and_fits() {
        for options in [Options::default(), Options { quick: true, ..Options::default() }] {
            let cells = cells(&options);
            assert!(cells.iter().all(|cell| cell.size * cell.in_flight <= UNDER_WAY));
            let mut once = cells.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), cells.len());
        }
    }
}
