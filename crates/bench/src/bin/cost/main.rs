//! The guard against a slower hot path: counts the instructions and allocations of its steps, under valgrind, and fails if one exceeds its bound.
//!
//! Times vary from run to run by more than a careless change costs; counts hardly do. They are those of the profile that this is built with, and the bounds
//! are for the profile `ci`. This is no benchmark: what a step takes in nanoseconds the benches say.

mod counts;
mod steps;

use std::process::{Command, ExitCode};

use counts::Counts;
use steps::{STEPS, Step};

/// Times that a step is made in the shorter and in the longer of two runs: their difference has nothing of what comes before and after.
const TIMES: (u64, u64) = (64, 1_088);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => guard(),
        [name, times] => match (STEPS.iter().find(|step| step.name == name), times.parse()) {
            (Some(step), Ok(times)) => {
                (step.make)(times);
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    eprintln!(
        "cost: counts all steps, under valgrind. cost STEP TIMES: makes one of them; {}",
        names.join(", ")
    );
    ExitCode::from(2)
}

fn guard() -> ExitCode {
    println!("{:<10}{:>14}{:>8}{:>14}{:>8}", "step", "instructions", "bound", "allocations", "bound");
    let mut exceeded = false;
    for step in STEPS {
        let counts = match count(step) {
            Ok(counts) => counts,
            Err(why) => {
                eprintln!("cost: {}: {why}", step.name);
                return ExitCode::from(2);
            }
        };
        let over = counts.instructions > step.instructions || counts.allocations > step.allocations;
        let Counts { instructions, allocations } = counts;
        println!(
            "{:<10}{instructions:>14.0}{:>8}{allocations:>14.2}{:>8.1}  {}",
            step.name,
            step.instructions,
            step.allocations,
            if over { "EXCEEDED" } else { "" }
        );
        exceeded |= over;
    }
    if exceeded {
        eprintln!(
            "cost: a step has become more expensive than its bound. If that is worth it, raise the bound in crates/bench/src/bin/cost/steps.rs and say why"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What one time costs.
fn count(step: &Step) -> Result<Counts, String> {
    let (few, many) = (run(step.name, TIMES.0)?, run(step.name, TIMES.1)?);
    let each = |many: f64, few: f64| (many - few) / (TIMES.1 - TIMES.0) as f64;
    Ok(Counts {
        instructions: each(many.instructions, few.instructions),
        allocations: each(many.allocations, few.allocations),
    })
}

fn run(name: &str, times: u64) -> Result<Counts, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let counted = folder.path().join("counted");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(program)
        .args([name, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run, install it: {error}"))?;
    if !ran.status.success() {
        return Err(format!("{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr)));
    }
    let counted = std::fs::read_to_string(&counted).map_err(|error| format!("no counts: {error}"))?;
    Counts::read(&counted)
}
