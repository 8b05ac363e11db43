//! What becomes of a call at its handler, and what keeps it from one: statements 11 to 14, 18 and 21.

use std::time::Duration;

use selfsame::Channel;
use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Call, Cancel};
use selfsame::{Kind, Outcome};

use super::api::account::AccountClient;
use super::fixture::Fixture;
use super::hand::{self, Hand, refusal_of};
use super::nonces::{keyed, wall};
use super::transport::{Over, anywhere};

/// A handler that failed after its effect: in an atomic store the effect is undone, elsewhere nobody can.
fn effects_of_a_failure(fixture: &Fixture) -> u64 {
    u64::from(!fixture.is_atomic())
}

/// The client's own: which replies it gets, the test decides by hand. What a store says makes no difference to it.
pub async fn s10_a_later_definite_refusal_leaves_an_ambiguous_call_ambiguous() {
    // The first attempt is lost, or runs for ever; the second is refused as not executed.
    let endpoint = hand::serve(|call| (call.attempt > 1).then_some(Refusal::Overloaded)).await;
    let short = Duration::from_millis(20);
    let channel =
        Channel::builder().attempts(2).attempt_timeout(short).over().connect(&endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let call = account.change_password(|mut p| p.set_user("ann")).deadline(Duration::from_millis(500));
    let error = call.await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::Unknown, 2), "{error}");

    // Refused from the first attempt on, it is certain.
    let endpoint = hand::serve(|_| Some(Refusal::Overloaded)).await;
    let channel = Channel::builder().attempts(2).over().connect(&endpoint).await.unwrap();
    let error = AccountClient::new(channel).change_password(|mut p| p.set_user("ann")).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::No, 2), "{error}");
}

pub async fn s11_what_the_handler_answers_decides_what_is_kept(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    for (number, user) in [(1, "fails"), (2, "declined"), (3, "ann")] {
        let call = hand.call(number, user);
        let first = hand.ask(&call).await;
        match (user, &first.answer) {
            ("fails", Answer::Failed(_)) | ("declined", Answer::Declined { .. }) | ("ann", Answer::Ok(_)) => {
            }
            (_, other) => panic!("{user} is answered with {other:?}"),
        }
        let again = hand.ask(&Call { attempt: 2, ..call }).await;
        assert!(again.replayed && again.answer == first.answer, "{user} is not run again");
        vault.entered().await;
    }
    assert_eq!(vault.effects().await, effects_of_a_failure(&fixture) + 1);

    let unavailable = hand.call(4, "unavailable");
    let refused = hand.ask(&unavailable).await;
    assert_eq!(refusal_of(&refused), Some(Refusal::Unavailable));
    let copy = hand.ask(&unavailable).await;
    assert_eq!(refusal_of(&copy), Some(Refusal::Unavailable), "the mark refuses a copy of a refused attempt");
    vault.entered().await;
    assert!(!vault.has_entered());
    let runs = hand.ask(&Call { attempt: 2, ..unavailable }).await;
    assert_eq!(refusal_of(&runs), Some(Refusal::Unavailable));
    vault.entered().await; // the second attempt ran the handler again
}

pub async fn s12_a_panic_is_recorded_as_failed_and_the_server_lives_on(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let panics = hand.call(1, "panics");
    let Answer::Failed(why) = hand.ask(&panics).await.answer else { panic!("not failed") };
    assert!(why.contains("on purpose"), "{why}");
    assert!(hand.ask(&Call { attempt: 2, ..panics }).await.replayed);
    assert_eq!(vault.effects().await, effects_of_a_failure(&fixture));
    assert!(matches!(hand.ask(&hand.call(2, "ann")).await.answer, Answer::Ok(_)));
}

pub async fn s13_a_cancellation_frees_no_number_and_stops_no_handler(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    hand.send(&call);
    vault.entered().await;
    hand.say(Cancel { registration: call.registration, id: call.id });
    hand.settle().await;
    vault.admit(1);
    hand.reply().await;
    let again = hand.ask(&Call { attempt: 2, ..call }).await;
    assert!(again.replayed);
    assert_eq!(vault.effects().await, 1);
}

pub async fn s14_a_call_whose_handler_was_dropped_is_answered(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let timeout = Duration::from_millis(50);
    let server = fixture.serve_as(&vault, &anywhere(), |b| b.handler_timeout(timeout)).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    assert!(matches!(hand.ask(&call).await.answer, Answer::Failed(_)));
    assert!(hand.ask(&Call { attempt: 2, ..call }).await.replayed);
    assert_eq!(vault.effects().await, 0);
}

pub async fn s18_at_a_cap_calls_are_refused_and_nothing_is_forgotten(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve_as(&vault, &anywhere(), |b| b.window(4)).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    for number in 1..=4 {
        assert!(matches!(hand.ask(&hand.call(number, "ann")).await.answer, Answer::Ok(_)));
    }
    let refused = hand.ask(&hand.call(5, "ann")).await;
    assert_eq!(refusal_of(&refused), Some(Refusal::Overloaded));
    for number in 1..=4 {
        assert!(hand.ask(&Call { attempt: 2, ..hand.call(number, "ann") }).await.replayed, "{number}");
    }
    let acked = Call { acked_below: 3, attempt: 2, ..hand.call(5, "ann") };
    assert!(matches!(hand.ask(&acked).await.answer, Answer::Ok(_)), "acknowledging makes room");
    assert_eq!(vault.effects().await, 5);
}

/// Where records lie in the server's memory. In a database nothing but its disk bounds them.
pub async fn s18_keyed_records_have_the_bound_that_the_server_was_given(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve_as(&vault, &anywhere(), |b| b.keyed_records(2)).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let issued = wall() + 1_000; // no store is younger
    let calls =
        [1, 2, 3].map(|key| Call { id: keyed(key, issued, issued + 3_600_000), ..hand.call(0, "ann") });
    for call in &calls[..2] {
        assert!(matches!(hand.ask(call).await.answer, Answer::Ok(_)));
    }
    let third = hand.ask(&calls[2]).await;
    if fixture.is_shared() {
        assert!(matches!(third.answer, Answer::Ok(_)), "{third:?}");
    } else {
        assert_eq!(refusal_of(&third), Some(Refusal::Overloaded));
    }
    for call in &calls[..2] {
        assert!(hand.ask(&Call { attempt: 2, ..call.clone() }).await.replayed, "nothing was forgotten");
    }
}

pub async fn s18_a_reply_above_the_limit_is_sent_once_and_not_kept(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve_as(&vault, &anywhere(), |b| b.kept_reply_limit(8)).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let issued = wall() + 1_000;
    let keyed = Call { id: keyed(1, issued, issued + 3_600_000), ..hand.call(0, "ann") };
    for call in [hand.call(1, "ann"), keyed] {
        assert!(matches!(hand.ask(&call).await.answer, Answer::Ok(_)));
        let again = hand.ask(&Call { attempt: 2, ..call }).await;
        assert_eq!(refusal_of(&again), Some(Refusal::ReplyEvicted));
    }
    assert_eq!(vault.effects().await, 2, "none has run again");
}

pub async fn s21_a_call_whose_time_is_up_is_not_started(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let late = Call { time_left: Duration::ZERO, ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&late).await), Some(Refusal::Deadline));
    assert_eq!(vault.effects().await, 0);
}

/// One deadline over all attempts, and one budget that pays for all but the first.
pub async fn s21_all_attempts_share_one_deadline_and_one_budget(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let unavailable = |account: &AccountClient| account.change_password(|mut p| p.set_user("unavailable"));
    let poor = Channel::builder().retry_budget(0, 0).over().connect(&server.endpoint).await.unwrap();
    let error = unavailable(&AccountClient::new(poor)).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::No, 1), "{error}");
    vault.entered().await;
    assert!(!vault.has_entered());

    let rich = Channel::builder().attempts(u32::MAX).retry_budget(100, u32::MAX);
    let account = AccountClient::new(rich.over().connect(&server.endpoint).await.unwrap());
    let call = unavailable(&account).deadline(Duration::from_millis(500));
    let error = hand::in_time(call).await.unwrap_err();
    assert!(error.attempts() > 1, "{error}");
    assert!(matches!(error.kind(), Kind::Deadline | Kind::Refused(Refusal::Unavailable)), "{error}");
    assert_eq!(vault.effects().await, 0);
}
