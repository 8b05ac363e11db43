//! The search with each rule of the protocol switched off: it has to find what then goes wrong. A search that finds nothing anywhere would be worth nothing.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use selfsame::protocol::Level;
use selfsame::sabotage::{Bug, plant};

use crate::explore::{Report, explore};
use crate::scenario::{PEACE, Scenario};
use crate::world::{Event, World};

/// A rule, and where it is missed.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What is planted.
    pub bug: Bug,
    /// Where that shows.
    pub scenario: Scenario,
}

/// More than any of them needs.
const LIMIT: usize = 3_000_000;

/// A bug is planted in the whole process, so one search at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A planted bug. It is dug out again when this is dropped.
pub struct Planted(#[allow(dead_code)] MutexGuard<'static, ()>);

/// Plants a bug, or none: while this lives, no other is planted.
pub fn planted(bug: Option<Bug>) -> Planted {
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    plant(bug);
    Planted(guard)
}

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

fn single(level: Level) -> Scenario {
    Scenario { level, ..PEACE }
}

fn replicated(level: Level) -> Scenario {
    Scenario { level, replicas: 2, attempts: 1, hellos: 2, welcomes: 2, ..PEACE }
}

/// Every rule that the search can switch off.
pub fn rules() -> Vec<Rule> {
    let memory = single(Level::Memory);
    let durable = single(Level::Durable);
    let shared = replicated(Level::Shared);
    let atomic = replicated(Level::Atomic);
    let two = Scenario { calls: 2, ..memory };
    let refusal = Scenario { refusals: 1, ..memory };
    let eviction = Scenario { evictions: 1, ..memory };
    let keyed = Scenario { keyed: true, clients: 2, dials: 1, clocks: 2, ..memory };
    let copied = Scenario { copied: true, clients: 2, attempts: 1, ..memory };
    let rule = |bug, scenario| Rule { bug, scenario };
    vec![
        rule(Bug::RetryRunsAgain, memory),
        rule(Bug::ReplayRunsAgain, memory),
        rule(Bug::OldHelloRevives, eviction),
        rule(Bug::IncarnationIgnored, Scenario { crashes: 1, refusals: 1, ..durable }),
        rule(Bug::NoMarkAfterRefusal, refusal),
        rule(Bug::AttemptReused, Scenario { crashes: 1, refusals: 1, ..durable }),
        rule(Bug::RefusalBeforeLookUp, refusal),
        rule(Bug::SettlesEarlierToo, Scenario { refusals: 1, ..shared }),
        rule(Bug::NoAlthoughUnsettled, memory),
        rule(Bug::LostIsNotExecuted, Scenario { refusals: 1, ..shared }),
        rule(Bug::WatermarkFalls, two),
        rule(Bug::RunningCollected, two),
        rule(Bug::NumberReused, Scenario { alike: true, ..two }),
        rule(Bug::AckOfAnotherSession, Scenario { clients: 2, dials: 1, ..memory }),
        rule(Bug::CancelFreesNumber, Scenario { cancels: 1, ..memory }),
        rule(Bug::StampNotCompared, copied),
        rule(Bug::ReplyBeforeCommit, Scenario { crashes: 1, ..durable }),
        rule(Bug::UnfinishedForgottenAtOpen, Scenario { crashes: 1, ..durable }),
        rule(Bug::DeletionWithoutWatermark, shared),
        rule(Bug::CheckBeforeInsert, shared),
        rule(Bug::FinishWithoutSwap, Scenario { leases: 1, ..shared }),
        rule(Bug::ExpiredLeaseRunsAgain, Scenario { leases: 1, ..shared }),
        rule(Bug::SettleBySelect, Scenario { doubts: 1, ..atomic }),
        rule(Bug::InDoubtIsNotDone, Scenario { doubts: 1, ..atomic }),
        rule(Bug::InDoubtIsDone, Scenario { doubts: 1, ..atomic }),
        rule(Bug::ExpiredMeansNew, keyed),
        rule(Bug::ExpireWithoutFloor, keyed),
        rule(Bug::KeyedBeginsSettled, Scenario { refusals: 1, ..keyed }),
    ]
}

impl Rule {
    /// Searches with the rule switched off.
    pub fn search(&self) -> (World, Report<Event>) {
        let _planted = planted(Some(self.bug));
        let mut world = World::new(self.scenario, false);
        let report = explore(&mut world, LIMIT);
        (world, report)
    }
}

/// Searches with each rule switched off, or with one, and prints what was found. False if one was not missed.
pub fn run(only: Option<&str>) -> bool {
    println!("{:<28} {:>10} {:>6} {:>8}  broken promise", "rule", "states", "trace", "time");
    let mut all = true;
    for rule in rules() {
        let bug = format!("{:?}", rule.bug);
        if only.is_some_and(|only| only != bug) {
            continue;
        }
        let began = Instant::now();
        let (_, report) = rule.search();
        let (length, promise) = match &report.broken {
            Some((promise, events)) => (events.len().to_string(), *promise),
            None => ("-".into(), if report.complete { "NOT FOUND" } else { "NOT FOUND (cut off)" }),
        };
        all &= report.broken.is_some();
        let time = began.elapsed().as_secs_f64();
        println!("{bug:<28} {:>10} {length:>6} {time:>7.1}s  {promise}", report.states);
    }
    all
}
