//! What a store knows after its server has crashed: the next incarnation answers for the last one.

use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Call};

use super::fixture::Fixture;
use super::hand::{Hand, answer_of, refusal_of, until};
use super::nonces::{keyed, wall};
use super::transport::anywhere;

pub async fn s03_the_stored_reply_survives_the_server(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let calls = [hand.call(1, "ann"), hand.call(2, "fails"), hand.call(3, "declined")];
    let mut first = Vec::new();
    for call in &calls {
        first.push(hand.ask(call).await);
    }
    let effects = vault.effects().await;
    server.crash().await;
    let server = fixture.serve(&vault).await;
    let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    for (call, first) in calls.iter().zip(first) {
        let second = again.ask(&again.stamped_as(call, 2)).await;
        assert!(second.replayed && second.answer == first.answer, "{second:?} after {first:?}");
    }
    assert_eq!(vault.effects().await, effects);
}

pub async fn s04_s19_a_record_is_compared_after_a_restart_too(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    let first = hand.ask(&call).await;
    server.crash().await;
    let server = fixture.serve(&vault).await;
    let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    let body = Call { body: again.call(1, "bob").body, ..again.stamped_as(&call, 2) };
    assert_eq!(refusal_of(&again.ask(&body).await), Some(Refusal::Mismatch));
    let stamp = Call { attempt: 3, ..again.call(1, "ann") };
    assert_eq!(refusal_of(&again.ask(&stamp).await), Some(Refusal::SessionShared));
    let same = again.ask(&again.stamped_as(&call, 4)).await;
    assert_eq!(answer_of(&same), answer_of(&first), "the record is untouched");
    assert_eq!(vault.effects().await, 1);
}

pub async fn s07_a_restarted_server_resumes_the_session(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let hand = Hand::connect(&server.endpoint).await;
    let before = hand.welcome.clone();
    server.crash().await;
    let server = fixture.serve(&vault).await;
    let mut again = Hand::resume(&server.endpoint, before.registration).await;
    let after = again.welcome.clone();
    assert_eq!(after.registration, before.registration);
    assert_eq!(
        (after.store, after.generation, after.level),
        (before.store, before.generation, fixture.level)
    );
    assert_ne!(after.incarnation, before.incarnation);
    assert!(after.ordinal > before.ordinal, "{} after {}", after.ordinal, before.ordinal);
    let held = hand.call(1, "ann");
    assert_eq!(refusal_of(&again.ask(&held).await), Some(Refusal::HelloFirst), "s08: of the life before");
    assert!(matches!(again.ask(&again.stamped_as(&held, 2)).await.answer, Answer::Ok(_)));
    assert_eq!(vault.effects().await, 1);
}

/// An effect outside the store, and a crash before the end was written: nobody knows, and so it stays.
pub async fn s15_an_intent_without_completion_is_unknown_and_never_run_again(fixture: Fixture) {
    for user in ["ann", "lingers"] {
        let vault = fixture.closed_vault();
        let server = fixture.serve(&vault).await;
        let hand = Hand::connect(&server.endpoint).await;
        let call = hand.call(1, user);
        hand.send(&call);
        vault.entered().await;
        let happened = u64::from(user == "lingers");
        if happened == 1 {
            vault.admit(1);
            vault.entered().await;
        }
        server.crash().await;
        vault.admit(10);
        let server = fixture.serve(&vault).await;
        let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
        for attempt in 2..4 {
            let told = again.ask(&again.stamped_as(&call, attempt)).await;
            assert_eq!(refusal_of(&told), Some(Refusal::RecordedUnknown), "{told:?}");
        }
        assert_eq!(vault.effects().await, happened, "{user}");
        assert!(matches!(again.ask(&again.call(2, "bob")).await.answer, Answer::Ok(_)), "others run");
    }
}

/// The other choice, for handlers that can bear it: the call that was cut off runs again, and a whole one still does not.
pub async fn s15_an_unfinished_call_runs_again_where_the_store_is_told_so(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let endpoint = anywhere();
    let rerun = || fixture.serve_as(&vault, &endpoint, |b| b.store(fixture.store().rerun_unfinished(true)));
    let server = rerun().await;
    let mut hand = Hand::connect(&server.endpoint).await;
    vault.admit(1);
    let whole = hand.call(1, "ann");
    let first = hand.ask(&whole).await;
    vault.entered().await;
    let cut_off = hand.call(2, "lingers");
    hand.send(&cut_off);
    vault.entered().await;
    vault.admit(1);
    vault.entered().await; // its effect has happened
    server.crash().await;

    vault.admit(10);
    let server = rerun().await;
    let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    assert_eq!(again.ask(&again.stamped_as(&whole, 2)).await.answer, first.answer);
    assert_eq!(vault.effects().await, 2);
    assert!(matches!(again.ask(&again.stamped_as(&cut_off, 2)).await.answer, Answer::Ok(_)));
    assert_eq!(vault.effects().await, 3, "two of one call: that is what was asked for");
    assert!(again.ask(&again.stamped_as(&cut_off, 3)).await.replayed);
}

/// The effect and its record are committed together or not at all: after a crash between them there is neither, and a retry has both.
#[cfg(feature = "postgres")]
pub async fn s15_a_crash_before_the_commit_leaves_nothing_and_a_retry_runs_once(fixture: Fixture) {
    for (number, user) in [(1, "ann"), (2, "lingers")] {
        let vault = fixture.closed_vault();
        let server = fixture.serve(&vault).await;
        let hand = Hand::connect(&server.endpoint).await;
        let call = hand.call(1, user);
        hand.send(&call);
        vault.entered().await;
        if user == "lingers" {
            vault.admit(1);
            vault.entered().await; // the row is written, and not committed
        }
        server.crash().await;
        assert_eq!(vault.effects().await, number - 1, "{user}");
        vault.admit(10);
        let server = fixture.serve(&vault).await;
        let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
        let first = again.ask(&again.stamped_as(&call, 2)).await;
        let second = again.ask(&again.stamped_as(&call, 3)).await;
        assert_eq!(answer_of(&first), answer_of(&second));
        assert_eq!(vault.effects().await, number, "{user}");
    }
}

pub async fn s17_keyed_records_and_expired_keys_are_known_after_a_restart(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let now = wall();
    let long = Call { id: keyed(1, now + 1000, now + 3_600_000), ..hand.call(0, "ann") };
    let short = Call { id: keyed(2, now, now + 1500), ..hand.call(0, "bob") };
    let first = hand.ask(&long).await;
    let brief = hand.ask(&short).await;
    server.crash().await;
    until(|| wall() > now + 1500).await;
    let server = fixture.serve(&vault).await;
    let mut other = Hand::connect(&server.endpoint).await;
    let again = other.ask(&Call { id: long.id, ..other.call(0, "ann") }).await;
    assert!(again.replayed && again.answer == first.answer, "{again:?}");
    let late = other.ask(&Call { id: short.id, attempt: 2, ..other.call(0, "bob") }).await;
    // A clock's margin may keep the record for a while; what never happens is that it runs again.
    assert!(refusal_of(&late) == Some(Refusal::Expired) || late.answer == brief.answer, "{late:?}");
    assert_eq!(vault.effects().await, 2);
}

pub async fn s18_the_window_is_as_full_after_a_restart_as_before(fixture: Fixture) {
    let vault = fixture.vault();
    let endpoint = anywhere();
    let serve = || fixture.serve_as(&vault, &endpoint, |b| b.window(4));
    let server = serve().await;
    let mut hand = Hand::connect(&server.endpoint).await;
    for number in 1..=4 {
        assert!(matches!(hand.ask(&hand.call(number, "ann")).await.answer, Answer::Ok(_)));
    }
    server.crash().await;
    let server = serve().await;
    let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    let refused = again.ask(&again.call(5, "ann")).await;
    assert_eq!(refusal_of(&refused), Some(Refusal::Overloaded));
    let acked = Call { acked_below: 5, attempt: 2, ..again.call(5, "ann") };
    assert!(matches!(again.ask(&acked).await.answer, Answer::Ok(_)), "acknowledging makes room");
    assert_eq!(vault.effects().await, 5);
}

pub async fn s05_a_closed_number_stays_closed_over_a_restart(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    // What is asked of the store later is done later: with this reply the acknowledgement is in the file.
    hand.ask(&Call { acked_below: 5, ..hand.call(5, "ann") }).await;
    server.crash().await;
    let server = fixture.serve(&vault).await;
    let mut again = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    let late = Call { acked_below: 0, ..again.stamped_as(&hand.call(4, "late"), 1) };
    assert_eq!(refusal_of(&again.ask(&late).await), Some(Refusal::Stale));
    assert_eq!(vault.effects().await, 1);
}
