//! Sessions, their numbers, and the store that they belong to: statements 5 to 9 and 16.

use std::time::Duration;

use selfsame::protocol::wire::{Ack, Answer, Call};
use selfsame::protocol::{Incarnation, Refusal, Registration};
use selfsame::{Channel, Kind, Outcome, ServerCounters};

use super::api::account::AccountClient;
use super::fixture::Fixture;
use super::hand::{Hand, PATIENCE, in_time, refusal_of, until};
use super::transport::{Over, anywhere};

/// Says `Stale`, or at a replica of a shared store perhaps nothing: it knows the number to be closed before the store does, and a client that has closed a
/// call does not wait.
async fn assert_stale(fixture: &Fixture, hand: &mut Hand, call: &Call) {
    let told = hand.ask_now(call).await;
    match &told {
        None => assert!(fixture.is_shared(), "no answer to {call:?}"),
        Some(reply) => assert_eq!(refusal_of(reply), Some(Refusal::Stale), "{reply:?}"),
    }
}

pub async fn s05_a_number_below_the_acknowledged_ones_is_stale_even_as_a_first_copy(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    hand.ask(&Call { acked_below: 5, ..hand.call(5, "ann") }).await;
    let late = hand.call(4, "late");
    assert_stale(&fixture, &mut hand, &late).await;
    assert_eq!(vault.effects().await, 1);
}

pub async fn s06_acknowledgements_only_rise_and_never_collect_what_runs(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    hand.send(&hand.call(1, "ann"));
    vault.entered().await;
    let registration = hand.welcome.registration;
    hand.say(Ack { registration, below: 10, closed: vec![] });
    hand.say(Ack { registration, below: 3, closed: vec![(20, 30)] });
    for closed in [2, 9, 25] {
        let late = hand.call(closed, "late");
        assert_stale(&fixture, &mut hand, &late).await;
    }
    vault.admit(2);
    hand.latest(&hand.call(10, "ann")).await;
    in_time(async {
        while vault.effects().await < 2 {
            hand.settle().await;
        }
    })
    .await;
}

pub async fn s07_unknown_session_is_refused(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let foreign = Call { registration: Registration(77), ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&foreign).await), Some(Refusal::SessionUnknown));
    let mut resumed = Hand::resume(&server.endpoint, Registration(77)).await;
    assert_ne!(
        resumed.welcome.registration,
        Registration(77),
        "a registration that was named is not made again"
    );
    resumed.ask(&resumed.call(1, "ann")).await;
    assert_eq!(vault.effects().await, 1);
}

pub async fn s08_a_call_to_another_incarnation_does_not_run(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let held = Call { incarnation: Incarnation(1), ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&held).await), Some(Refusal::HelloFirst));
    assert_eq!(vault.effects().await, 0);
}

/// The store that a server comes back with is another one: its file was lost, say. Of a memory store that is every restart.
pub async fn s08_a_call_first_sent_under_another_store_is_not_run(fixture: Fixture) {
    let (lost, vault) = (fixture.another().await, fixture.closed_vault());
    let server = lost.serve(&vault).await;
    let endpoint = server.endpoint.clone();
    let account = AccountClient::new(Channel::builder().over().connect(&endpoint).await.unwrap());
    let hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    hand.send(&call);
    let sent = tokio::spawn(account.change_password(|mut p| p.set_user("bob")).deadline(PATIENCE));
    vault.entered().await;
    vault.entered().await;
    server.crash().await;

    vault.admit(10);
    let _server = fixture.serve_as(&vault, &endpoint, |builder| builder).await;
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    let mut again = Hand::resume(&endpoint, call.registration).await;
    assert_ne!(again.welcome.registration, call.registration);
    let (was, is) = (&hand.welcome, &again.welcome);
    assert_ne!((was.store, was.generation), (is.store, is.generation));
    let copy = again.stamped_as(&call, 2);
    assert_eq!(refusal_of(&again.ask(&copy).await), Some(Refusal::SessionUnknown));
    assert_eq!(vault.effects().await, 0, "what had been sent is not run");
    assert!(matches!(again.ask(&again.call(1, "ann")).await.answer, Answer::Ok(_)));
}

pub async fn s09_a_call_that_may_have_run_does_not_fail_over_to_another_store(fixture: Fixture) {
    let other = fixture.another().await;
    let (here, elsewhere) = (fixture.closed_vault(), other.vault());
    let server = fixture.serve(&here).await;
    let replica = other.serve(&elsewhere).await;
    Hand::connect(&server.endpoint).await; // it is open: a client would go to the other before that
    let channel =
        Channel::builder().replica(&replica.endpoint).over().connect(&server.endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let call = account.change_password(|mut p| p.set_user("ann")).deadline(PATIENCE);
    let sent = tokio::spawn(call);
    here.entered().await;
    server.crash().await;
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Refused(Refusal::StoreChanged), Outcome::Unknown),
        "{error}"
    );
    assert_eq!(elsewhere.effects().await, 0);
    // What was never sent to the first goes to the second.
    account.change_password(|mut p| p.set_user("bob")).deadline(PATIENCE).await.unwrap();
    assert_eq!(elsewhere.effects().await, 1);
}

pub async fn s16_a_session_that_was_silent_for_the_retention_is_gone(fixture: Fixture) {
    let vault = fixture.vault();
    let retention = Duration::from_millis(300);
    let server = fixture.serve_as(&vault, &anywhere(), |b| b.retention(retention)).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    assert_eq!(hand.welcome.retention, retention, "it is told, and clients ask within it");
    let call = hand.call(1, "ann");
    hand.ask(&call).await;
    let is_silent = |counted: ServerCounters| counted.executed == 1 && counted.sessions == 0;
    until(|| is_silent(server.handle.counters())).await;
    // A store that replicas share forgets it when it keeps house; whoever asks before that finds it alive.
    fixture.forgotten().await;
    // Until the store says so too, nothing is said, and a client asks again.
    let late = in_time(async {
        loop {
            if let Some(reply) = hand.ask_now(&Call { attempt: 2, ..call.clone() }).await {
                return reply;
            }
        }
    });
    assert_eq!(refusal_of(&late.await), Some(Refusal::SessionUnknown));
    let resumed = Hand::resume(&server.endpoint, hand.welcome.registration).await;
    assert_ne!(resumed.welcome.registration, hand.welcome.registration);
    assert_eq!(vault.effects().await, 1);
}
