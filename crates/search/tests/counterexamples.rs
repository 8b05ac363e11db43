//! What broke the obvious protocol. Each story is found again by a search with its rule switched off; then the very same schedule is played with the rule on:
//! either it does no harm, or it comes to a point at which the rule does not let it go on.

use selfsame::protocol::Level;
use selfsame::sabotage::Bug;
use selfsame_search::ablate::{Rule, planted, rules};
use selfsame_search::scenario::Scenario;
use selfsame_search::trace;
use selfsame_search::world::World;

fn rule(bug: Bug) -> Rule {
    rules().into_iter().find(|rule| rule.bug == bug).expect("a rule that the search can switch off")
}

/// Finds what goes wrong without the rule, in so many steps at most; with it the same schedule breaks nothing.
fn missed(bug: Bug, steps: usize) {
    let rule = rule(bug);
    let (mut world, report) = rule.search();
    let (promise, events) = report.broken.expect("without the rule a promise is broken");
    {
        let _planted = planted(Some(bug));
        assert_eq!(trace::play(&mut world, &events), Ok(Some(promise)), "a trace can be played again");
        assert!(
            events.len() <= steps,
            "{} steps:\n{}",
            events.len(),
            trace::told(&mut world, &events).join("\n")
        );
    }
    let _planted = planted(None);
    world.forget_steps();
    let end = trace::play(&mut world, &events);
    assert!(!matches!(end, Ok(Some(_))), "{end:?}\n{}", trace::told(&mut world, &events).join("\n"));
}

#[test]
fn an_old_hello_does_not_revive_a_session() {
    missed(Bug::OldHelloRevives, 10);
}

#[test]
fn a_refusal_leaves_a_mark() {
    missed(Bug::NoMarkAfterRefusal, 9);
}

#[test]
fn a_stale_refusal_is_not_taken_for_a_later_attempts() {
    missed(Bug::AttemptReused, 18);
}

#[test]
fn a_record_is_looked_up_before_anything_is_refused() {
    missed(Bug::RefusalBeforeLookUp, 9);
}

#[test]
fn s08_a_call_of_another_incarnation_is_fenced() {
    missed(Bug::IncarnationIgnored, 12);
}

#[test]
fn s06_the_watermark_does_not_fall() {
    missed(Bug::WatermarkFalls, 10);
}

#[test]
fn s19_a_copy_of_a_client_does_not_get_the_others_reply() {
    missed(Bug::StampNotCompared, 13);
}

#[test]
fn a_claim_looks_at_the_session_after_it_holds_the_key() {
    missed(Bug::CheckBeforeInsert, 16);
}

#[test]
fn a_commit_in_doubt_is_not_settled_by_looking() {
    missed(Bug::SettleBySelect, 24);
}

#[test]
fn s17_an_expired_key_is_not_new() {
    missed(Bug::ExpiredMeansNew, 14);
}

#[test]
fn s17_a_clock_that_steps_back_revives_no_key() {
    missed(Bug::ExpireWithoutFloor, 14);
}

#[test]
fn a_resumed_key_begins_unsettled() {
    missed(Bug::KeyedBeginsSettled, 14);
}

/// In the small, so that every run of the tests does it; CI explores more.
#[test]
fn with_all_rules_on_nothing_is_broken() {
    let _planted = planted(None);
    let peace = selfsame_search::scenario::PEACE;
    for level in [Level::Memory, Level::Durable] {
        let scenario = Scenario { level, attempts: 1, crashes: 1, welcomes: 2, ..peace };
        let report = selfsame_search::explore::explore(&mut World::new(scenario, true), 1_000_000);
        assert!(report.complete && report.broken.is_none(), "{report:?}");
    }
}
