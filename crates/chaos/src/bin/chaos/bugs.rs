//! The gate that keeps the run honest: each bug that only a real store can have is planted in the servers, and has to be caught.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use selfsame::sabotage::Bug;
use selfsame_chaos::Result;
use selfsame_relay::Faults;

use crate::options::Options;
use crate::run;
use crate::store::Level;

/// Each with the store that has it. Bugs of the machines, and those that show in one instant of a thousand (`FinishWithoutSwap`, `SettleBySelect`), are the
/// simulator's to find.
const BUGS: &[(Bug, Level)] = &[
    (Bug::UnfinishedForgottenAtOpen, Level::Durable),
    (Bug::ExpiredLeaseRunsAgain, Level::Shared),
    (Bug::ClaimCommitsAlone, Level::Atomic),
];

/// How long the faults of one try last.
const TRY: Duration = Duration::from_secs(8);
/// How often a bug is tried, each time with another seed.
const TRIES: u64 = 3;

/// Plants them all, one after another, and prints a table. Fails if one is missed.
pub async fn plant_all(seed: u64) -> Result<ExitCode> {
    let mut missed = 0;
    for (bug, level) in BUGS {
        let started = Instant::now();
        let caught = tokio::select! {
            caught = catch(*bug, *level, seed) => caught?,
            _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
        };
        let took = started.elapsed().as_secs();
        match caught {
            Some(what) => println!("{:<28} {level:<8} caught after {took:>3} s: {what}", format!("{bug:?}")),
            None => {
                missed += 1;
                println!("{:<28} {level:<8} MISSED after {took:>3} s", format!("{bug:?}"));
            }
        }
    }
    println!("{} bugs planted, {missed} missed", BUGS.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What caught it.
async fn catch(bug: Bug, level: Level, seed: u64) -> Result<Option<String>> {
    for try_number in 0..TRIES {
        let options = Options {
            level,
            time: TRY,
            seed: seed.wrapping_add(try_number),
            faults: Faults { percent: 2 },
            bug: Some(format!("{bug:?}")),
            keep: false,
            trace: false,
        };
        let folder = tempfile::Builder::new().prefix("selfsame-chaos-").tempdir()?;
        match run::run(&options, folder.path()).await {
            Ok(report) if report.passed() => {}
            Ok(report) => return Ok(Some(report.first_violation())),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    Ok(None)
}
