//! Many runs: seeds shared out to threads, verdicts added up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use selfsame::protocol::Level;
use selfsame_check::{Report, Violation};

use crate::coverage::Seen;
use crate::{Tracing, run};

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that were played.
    pub runs: u64,
    /// Calls made in them.
    pub calls: u64,
    /// Things that happened in them.
    pub events: u64,
    /// All verdicts.
    pub report: Report,
    /// Seeds that broke a promise, lowest first, with the first that each broke.
    pub failed: Vec<(u64, Violation)>,
    /// What was reached.
    pub seen: Seen,
}

/// Plays seeds until all are played, or, if asked to, until one breaks a promise.
pub fn play(from: u64, seeds: u64, threads: usize, level: Option<Level>, stop_early: bool) -> Sum {
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(seed, level, Tracing::Off);
                    let Ok(mut sum) = sum.lock() else { return };
                    sum.runs += 1;
                    sum.calls += outcome.calls;
                    sum.events += outcome.events;
                    if let Some(violation) = outcome.report.violations.first() {
                        sum.failed.push((seed, violation.clone()));
                        stop.store(stop_early, Ordering::Relaxed);
                    }
                    sum.report.add(outcome.report);
                    sum.seen.add(outcome.seen);
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_default();
    sum.failed.sort();
    sum
}
