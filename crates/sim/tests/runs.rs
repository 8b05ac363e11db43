//! A run is decided by its seed; the seeds that are played here keep every promise; and a bug that is planted is found.
//!
//! One test, since a planted bug is planted in the whole process.

use selfsame::protocol::Level;
use selfsame::sabotage::Bug;
use selfsame_sim::{Tracing, bugs, campaign, run};

const LEVELS: [Level; 4] = [Level::Memory, Level::Durable, Level::Shared, Level::Atomic];

#[test]
fn a_seed_decides_its_run_and_promises_are_kept_unless_a_bug_is_planted() {
    for level in LEVELS {
        for seed in [1, 2] {
            let (once, again) =
                (run(seed, Some(level), Tracing::Keep), run(seed, Some(level), Tracing::Keep));
            assert!(once.trace.lines().count() > 1_000, "a run in which little happens");
            let differs = once.trace.lines().zip(again.trace.lines()).find(|(one, other)| one != other);
            assert_eq!(differs, None, "seed {seed} at {level:?}");
            assert_eq!((once.trace.len(), once.report), (again.trace.len(), again.report));
        }
        let sum = campaign::play(0, 10, 2, Some(level), false);
        assert_eq!(sum.failed, [], "{level:?}");
        assert_eq!(sum.runs, 10);
    }
    for bug in [Bug::ReplayRunsAgain, Bug::NoAlthoughUnsettled] {
        let named = bugs::named(Some(&format!("{bug:?}"))).expect("its name");
        let finding = bugs::hunt(named[0], 0, 20, 2, Some(Level::Memory));
        assert!(finding.caught.is_some(), "{finding}");
    }
}

#[test]
fn a_bug_that_there_is_not_is_named() {
    let error = bugs::named(Some("Tuesday")).expect_err("no such bug");
    assert!(error.contains("Tuesday") && error.contains("ReplayRunsAgain"), "{error}");
}
