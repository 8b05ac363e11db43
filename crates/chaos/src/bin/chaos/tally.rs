//! What is counted in a run besides calls: kills, stops, restarts, memory; and what went wrong outside of any call. Shared by all keepers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counters by name, as a child says them.
pub type Counts = BTreeMap<String, u64>;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Totals>>);

#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Of server processes, by what killed them: a kill point, or `at random`.
    pub server_kills: BTreeMap<String, u64>,
    pub client_kills: u64,
    /// SIGSTOPs, each followed by its SIGCONT or a kill.
    pub stops: u64,
    /// Lives after the first.
    pub restarts: u64,
    /// Connections of a relay cut, all at once.
    pub cuts: u64,
    /// Full disks at which a server's store stopped.
    pub full_disks: u64,
    /// Stores that stopped for other reasons, which they said.
    pub stopped_stores: u64,
    /// Servers that could not start, and said why.
    pub not_started: u64,
    /// Rivals that were refused the file of a server.
    pub rivals_refused: u64,
    /// Databases stopped, by how.
    pub database: BTreeMap<String, u64>,
    /// What the servers counted, over all lives.
    pub servers: Counts,
    /// What the clients counted, over all lives.
    pub clients: Counts,
    /// The most memory that one life occupied, in bytes, by role.
    pub resident: BTreeMap<&'static str, u64>,
    /// What must not be, whatever happens.
    pub violations: Vec<String>,
}

/// More are counted in the last of them: a run that goes wrong everywhere must not fill the memory.
const VIOLATIONS: usize = 100;

impl Tally {
    pub fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn violation(&self, what: String) {
        let mut totals = self.lock();
        if totals.violations.len() < VIOLATIONS {
            totals.violations.push(what);
        }
    }
}

impl Totals {
    pub fn resident(&mut self, role: &'static str, bytes: u64) {
        let most = self.resident.entry(role).or_default();
        *most = bytes.max(*most);
    }
}

/// Adds the counters of one life to a sum.
pub fn add(sum: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sum.entry(name.clone()).or_default() += count;
    }
}

/// Reads `name=value` words.
pub fn parse_counts(line: &str) -> Counts {
    let pairs = line.split(' ').filter_map(|word| word.split_once('='));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_added_up_over_lives() {
        let mut sum = Counts::new();
        add(&mut sum, &parse_counts("counts calls=3 attempts=4"));
        add(&mut sum, &parse_counts("counts calls=2 attempts=2 broken=x"));
        assert_eq!(sum, Counts::from([("calls".into(), 5), ("attempts".into(), 6)]));
    }
}
