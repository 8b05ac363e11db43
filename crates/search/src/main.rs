//! The command: searches, prints what was found, and fails if a promise is broken, or if a rule that is switched off is not missed.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use selfsame_search::explore::explore;
use selfsame_search::scenario::{self, STORES, Scenario};
use selfsame_search::world::World;
use selfsame_search::{ablate, trace};

const USAGE: &str = "selfsame-search [--store memory|durable|shared|atomic|keyed|copied] [--states N] [--deep]\n\
                     selfsame-search --ablate [RULE]";

struct Options {
    stores: Vec<String>,
    states: usize,
    deep: bool,
    ablate: bool,
    rule: Option<String>,
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let stores = STORES.iter().map(ToString::to_string).collect();
    let mut options = Options { stores, states: 40_000_000, deep: false, ablate: false, rule: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--store" => {
                let store = words.next().filter(|store| STORES.contains(&store.as_str()));
                options.stores = vec![store.ok_or("--store needs a store that there is")?];
            }
            "--states" => {
                let states = words.next().and_then(|states| states.parse().ok());
                options.states = states.ok_or("--states needs a number")?;
            }
            "--deep" => options.deep = true,
            "--ablate" => options.ablate = true,
            rule if options.ablate && !rule.starts_with('-') => options.rule = Some(rule.into()),
            other => return Err(format!("{other} is no option")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let good = if options.ablate { ablate::run(options.rule.as_deref()) } else { search(&options) };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two scenarios at a time, the longest first.
fn search(options: &Options) -> bool {
    let scenarios = options.stores.iter().flat_map(|store| {
        let scenarios = if options.deep { scenario::deep(store) } else { scenario::standard(store) };
        scenarios.into_iter().map(|scenario| (store.as_str(), scenario))
    });
    let waiting: Mutex<Vec<_>> = Mutex::new(scenarios.collect::<Vec<_>>().into_iter().rev().collect());
    let good = Mutex::new(true);
    println!(
        "{:<8} {:<46} {:>10} {:>11} {:>6} {:>8}",
        "store", "scenario", "states", "steps", "depth", "time"
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("nothing panics under this lock").pop();
                    let Some((store, scenario)) = next else { return };
                    let kept = one(store, scenario, options.states);
                    *good.lock().expect("nothing panics under this lock") &= kept;
                }
            });
        }
    });
    good.into_inner().expect("nothing panics under this lock")
}

fn one(store: &str, scenario: Scenario, states: usize) -> bool {
    let began = Instant::now();
    let mut world = World::new(scenario, true);
    let report = explore(&mut world, states);
    let cut = if report.complete || report.broken.is_some() { "" } else { " (cut off)" };
    let mut text = format!(
        "{store:<8} {:<46} {:>10} {:>11} {:>6} {:>7.1}s{cut}",
        scenario.name,
        report.states,
        report.steps,
        report.depth,
        began.elapsed().as_secs_f64(),
    );
    if let Some((promise, events)) = &report.broken {
        text += &format!("\nBROKEN: {promise}");
        for (at, line) in trace::told(&mut world, events).iter().enumerate() {
            text += &format!("\n  {:>2}. {line}", at + 1);
        }
        text += &format!("\nto play it again: {events:?}");
    }
    println!("{text}");
    report.broken.is_none()
}
