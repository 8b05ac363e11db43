//! The gate that tests the simulator: each planted bug has to be found, and without one nothing.

use std::fmt;

use selfsame::protocol::Level;
use selfsame::sabotage::{Bug, plant};
use selfsame_check::Rule;

use crate::campaign;

/// Bugs that live where the simulator does not reach: in the SQL of the real stores, where the chaos run finds them; in an order of
/// events so exact that only the exhaustive search does; or between threads, which are `selfsame-threads`'.
const ELSEWHERE: &[Bug] = &[
    Bug::ClaimCommitsAlone,
    Bug::DeletionWithoutWatermark,
    Bug::DerivedTwice,
    Bug::PlaceCountedFirst,
    Bug::PlaceGivenBackTwice,
    Bug::OneWokenEarly,
    Bug::QueueTakenForAll,
    Bug::ReaderRegistersLate,
    Bug::ProgressMarkedLate,
    Bug::EndedInboxFills,
    Bug::OverAskedBeforeWaiting,
    Bug::DroppedHandlerSilent,
    Bug::LateAnswerCounts,
];

/// What became of one bug.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub bug: Bug,
    /// What it does.
    pub does: &'static str,
    /// The rule that it broke, and after how many seeds; none: it was missed.
    pub caught: Option<(&'static str, u64)>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.bug);
        match self.caught {
            Some((rule, seeds)) => write!(f, "{name:<26} {rule:<22} {seeds:>6} {}", self.does),
            None => write!(f, "{name:<26} {:<22} {:>6} {}", "MISSED", "-", self.does),
        }
    }
}

/// The bugs that the simulator has to find: all, or the one of this name.
///
/// # Errors
/// There is none of this name.
pub fn named(name: Option<&str>) -> Result<Vec<(Bug, &'static str)>, String> {
    let here = Bug::ALL.iter().filter(|(bug, _)| !ELSEWHERE.contains(bug)).copied();
    let Some(name) = name else { return Ok(here.collect()) };
    let found: Vec<_> = here.clone().filter(|(bug, _)| format!("{bug:?}") == name).collect();
    if found.is_empty() {
        let all: Vec<_> = here.map(|(bug, _)| format!("{bug:?}")).collect();
        return Err(format!("no bug is called {name:?}; there are {}", all.join(", ")));
    }
    Ok(found)
}

/// Where a bug is found by what it leaves behind, a later seed may show what it promised.
const TELLING: u64 = 150;

/// Plants a bug, and plays seeds until it is found or none is left.
pub fn hunt(
    (bug, does): (Bug, &'static str),
    from: u64,
    seeds: u64,
    threads: usize,
    level: Option<Level>,
) -> Finding {
    plant(Some(bug));
    let first = campaign::play(from, seeds, threads, level, true).failed.into_iter().next();
    let telling = first.as_ref().filter(|(_, violation)| violation.rule == Rule::Bounds).and_then(|_| {
        let more = campaign::play(from, seeds.min(TELLING), threads, level, false).failed;
        more.into_iter().find(|(_, violation)| violation.rule != Rule::Bounds)
    });
    plant(None);
    let caught = telling.or(first).map(|(seed, violation)| (violation.rule.name(), seed - from + 1));
    Finding { bug, does: does.trim_ascii(), caught }
}
