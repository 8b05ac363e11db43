//! `selfsame-sim`: plays seeds, and says which broke a promise.

use std::process::ExitCode;
use std::time::Instant;

use selfsame::sabotage::{Bug, plant};
use selfsame_sim::options::{Options, read};
use selfsame_sim::{Tracing, bugs, campaign, coverage, run};

fn main() -> ExitCode {
    let options = match read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let named = match bugs::named(options.bug.as_deref()) {
        Ok(named) => named,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let clean = if options.planted_bugs {
        hunt(&options, &named)
    } else {
        plant(options.bug.as_ref().and(named.first()).map(|(bug, _)| *bug));
        if options.trace { trace(&options) } else { play(&options) }
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Without a bug nothing is found, and with each it is.
fn hunt(options: &Options, named: &[(Bug, &'static str)]) -> bool {
    let Options { from, seeds, threads, level, .. } = *options;
    let clean = campaign::play(from, seeds, threads, level, false);
    println!("without a bug: {} of {} seeds broke a promise\n", clean.failed.len(), clean.runs);
    println!("{:<26} {:<22} {:>6} what it does", "bug", "found by", "seeds");
    let mut missed = 0;
    for bug in named {
        let finding = bugs::hunt(*bug, from, seeds, threads, level);
        println!("{finding}");
        missed += u64::from(finding.caught.is_none());
    }
    println!("\n{} of {} found", named.len() as u64 - missed, named.len());
    missed == 0 && clean.failed.is_empty()
}

fn trace(options: &Options) -> bool {
    let outcome = run(options.from, options.level, Tracing::Print);
    print!("{}", outcome.report);
    for violation in &outcome.report.violations {
        println!("{violation}");
    }
    outcome.report.is_clean()
}

fn play(options: &Options) -> bool {
    let began = Instant::now();
    let sum = campaign::play(options.from, options.seeds, options.threads, options.level, false);
    let seconds = began.elapsed().as_secs_f64();
    let (runs, calls, events) = (sum.runs, sum.calls, sum.events);
    println!("{runs} seeds, {calls} calls, {events} events in {seconds:.1} s\n\n{}", sum.report);
    for (seed, violation) in sum.failed.iter().take(20) {
        println!("seed {seed}: {violation}\n  again: selfsame-sim --seed {seed} --trace");
    }
    if !sum.failed.is_empty() {
        println!("{} of {} seeds broke a promise", sum.failed.len(), sum.runs);
    }
    let covered = !options.coverage || covered(&sum);
    sum.failed.is_empty() && covered
}

fn covered(sum: &campaign::Sum) -> bool {
    let (table, missing) = coverage::table(&sum.seen, sum.runs);
    println!("{table}");
    for what in &missing {
        println!("hardly ever reached: {what}");
    }
    missing.is_empty()
}
