//! Plays models under schedulers, and says which failed, under which schedule. Not what a model asserts.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use selfsame::sabotage::{Bug, plant};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::models::{MODELS, Model};

/// A model whose schedules are more than this is not exhaustive.
const ALL: usize = 300_000;
/// How many changes of priority the probabilistic scheduler makes in a run: most races need two or three.
const DEPTHS: [usize; 3] = [1, 2, 3];

/// What became of a model.
#[derive(Clone, Debug)]
pub struct Report {
    /// Schedules that were played.
    pub schedules: usize,
    /// There are no others.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
    /// What did not hold.
    pub failed: Option<String>,
}

/// Plays a model, and prints the schedule that fails: all its schedules, or so many by dice, half of them uniformly, half with few changes of priority.
pub fn play(model: &Model, schedules: usize, seed: u64) -> Report {
    play_and(FailurePersistence::Print, model, schedules, seed)
}

fn play_and(persistence: FailurePersistence, model: &Model, schedules: usize, seed: u64) -> Report {
    let began = Instant::now();
    let mut report = Report { schedules: 0, complete: false, took: Duration::ZERO, failed: None };
    if model.exhaustive {
        run(&persistence, model, DfsScheduler::new(Some(ALL), false), &mut report);
        report.complete = report.schedules < ALL;
    } else {
        run(&persistence, model, RandomScheduler::new_from_seed(seed, schedules / 2), &mut report);
        for depth in DEPTHS {
            let share = schedules.div_ceil(2 * DEPTHS.len());
            run(&persistence, model, PctScheduler::new_from_seed(seed, depth, share), &mut report);
        }
    }
    report.took = began.elapsed();
    report
}

fn run(
    persistence: &FailurePersistence,
    model: &Model,
    scheduler: impl Scheduler + 'static,
    report: &mut Report,
) {
    if report.failed.is_some() {
        return;
    }
    let mut config = Config::new();
    config.failure_persistence = persistence.clone();
    config.silence_warnings = true;
    let played = AssertUnwindSafe(|| Runner::new(scheduler, config).run(model.play));
    match catch_unwind(played) {
        Ok(schedules) => report.schedules += schedules,
        Err(panic) => report.failed = Some(text(&*panic)),
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    text.lines().next().unwrap_or_default().chars().take(90).collect()
}

/// Plays all models and prints a table. False if one failed.
pub fn play_all(schedules: usize, seed: u64) -> bool {
    println!("{:<46} {:>10} {:>7}", "model", "schedules", "time");
    let mut all_hold = true;
    for model in MODELS {
        let report = play(model, schedules, seed);
        let complete = if report.complete { "all of them" } else { "" };
        let verdict = report.failed.as_ref().map_or(complete.into(), |why| format!("FAILED: {why}"));
        let took = report.took.as_secs_f64();
        println!("{:<46} {:>10} {took:>6.1}s {verdict}", model.name, report.schedules);
        all_hold &= report.failed.is_none() && (report.complete || !model.exhaustive);
    }
    all_hold
}

/// Plants each bug, plays its model, and prints what found it. False if one was missed.
pub fn plant_all(schedules: usize, seed: u64) -> bool {
    println!("{:<24} {:<46} {:>7}  found by", "bug", "model", "time");
    let mut all_found = true;
    let bugs = MODELS.iter().flat_map(|model| model.bugs.iter().map(move |bug| (model, bug)));
    for (model, bug) in bugs {
        let report = with(*bug, || play_and(FailurePersistence::None, model, schedules, seed));
        let found = report.failed.as_deref().unwrap_or("MISSED");
        println!(
            "{:<24} {:<46} {:>6.1}s  {found}",
            format!("{bug:?}"),
            model.name,
            report.took.as_secs_f64()
        );
        all_found &= report.failed.is_some();
    }
    all_found
}

/// Plants a bug in the whole process meanwhile. What the failing threads say is expected, and not printed.
fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    plant(Some(bug));
    let result = run();
    plant(None);
    std::panic::set_hook(told);
    result
}
