//! What a nonce identifies, at one server: statements 1 to 4, 17 and 19.

use std::time::{SystemTime, UNIX_EPOCH};

use selfsame::protocol::wire::{Answer, Call};
use selfsame::protocol::{CallId, Key, Refusal, Stamp, WallTime};

use super::fixture::Fixture;
use super::hand::{Hand, answer_of, refusal_of, until};

pub async fn s01_identity_is_the_registration_and_not_the_connection(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut first = Hand::connect(&server.endpoint).await;
    let call = first.call(1, "ann");
    let reply = first.ask(&call).await;
    // Another connection that resumes the session is the same client; one that does not is another, with numbers of its own.
    let mut again = Hand::resume(&server.endpoint, first.welcome.registration).await;
    assert_eq!(answer_of(&again.ask(&again.stamped_as(&call, 2)).await), answer_of(&reply));
    let mut other = Hand::connect(&server.endpoint).await;
    assert_ne!(answer_of(&other.ask(&other.call(1, "ann")).await), answer_of(&reply));
    assert_eq!(vault.effects().await, 2);
}

pub async fn s02_a_retry_that_arrives_while_the_first_attempt_runs_joins_it(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    hand.send(&call);
    vault.entered().await;
    assert_eq!(hand.ask_now(&Call { attempt: 2, ..call.clone() }).await, None, "it waits");
    vault.admit(1);
    assert_eq!(hand.reply().await.attempt, 2, "to where the last attempt came from");
    assert_eq!(vault.effects().await, 1);
    assert!(!vault.has_entered());
}

pub async fn s03_a_retry_after_completion_gets_the_stored_reply(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    let first = hand.ask(&call).await;
    let second = hand.ask(&Call { attempt: 2, ..call }).await;
    assert_eq!(answer_of(&first), answer_of(&second));
    assert!(!first.replayed && second.replayed);
    assert_eq!(vault.effects().await, 1);
}

pub async fn s04_the_same_nonce_with_another_body_or_method_is_a_mismatch(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let call = hand.call(1, "ann");
    let reply = hand.ask(&call).await;
    let body = Call { id: call.id, attempt: 2, ..hand.call(9, "bob") };
    let method = Call { method: call.method + 1, attempt: 3, ..call.clone() };
    for other in [body, method] {
        assert_eq!(refusal_of(&hand.ask(&other).await), Some(Refusal::Mismatch));
    }
    let again = hand.ask(&Call { attempt: 4, ..call }).await;
    assert_eq!(answer_of(&again), answer_of(&reply), "the record is untouched");
    assert_eq!(vault.effects().await, 1);
}

pub async fn s17_a_keyed_nonce_that_has_expired_or_is_older_than_the_store_is_refused(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    let now = wall();
    let old = Call { id: keyed(1, now - 3_600_000, now + 3_600_000), ..hand.call(0, "ann") };
    assert_eq!(refusal_of(&hand.ask(&old).await), Some(Refusal::Expired), "older than the store");
    until(|| wall() >= now + 3).await;
    let expired = Call { id: keyed(2, now + 1, now + 2), ..hand.call(0, "ann") };
    assert_eq!(refusal_of(&hand.ask(&expired).await), Some(Refusal::Expired));
    let fresh = Call { id: keyed(3, now + 1000, now + 3_600_000), ..hand.call(0, "ann") };
    assert!(matches!(hand.ask(&fresh).await.answer, Answer::Ok(_)));
    // A keyed call is found from another session.
    let mut other = Hand::connect(&server.endpoint).await;
    let again = Call { id: fresh.id, ..other.call(0, "ann") };
    assert!(other.ask(&again).await.replayed);
    assert_eq!(vault.effects().await, 1);
}

pub async fn s19_two_clients_that_share_a_session_are_told_apart(fixture: Fixture) {
    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let mut one = Hand::connect(&server.endpoint).await;
    one.ask(&one.call(1, "ann")).await;
    // A copied process: the same registration and number for another intention, first sent under another welcome.
    let mut two = Hand::resume(&server.endpoint, one.welcome.registration).await;
    let shared = two.ask(&two.call(1, "ann")).await;
    assert_eq!(refusal_of(&shared), Some(Refusal::SessionShared));
    assert_ne!(one.welcome.stamp, two.welcome.stamp);
    assert_ne!(one.welcome.stamp, Stamp(0));
    assert_eq!(vault.effects().await, 1);
}

pub fn keyed(key: u128, issued: u64, expiry: u64) -> CallId {
    CallId::Keyed(Key { key, issued: WallTime(issued), expiry: WallTime(expiry) })
}

/// The wall clock, in milliseconds.
pub fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
