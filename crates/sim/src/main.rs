//! `selfsame-sim`: plays seeds, and says which broke a promise.

use std::process::ExitCode;
use std::time::Instant;

use selfsame_sim::options::{Options, read};
use selfsame_sim::{Tracing, campaign, run};

fn main() -> ExitCode {
    let options = match read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let clean = if options.trace { trace(&options) } else { play(&options) };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
    sum.failed.is_empty()
}
