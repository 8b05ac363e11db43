//! Two servers over one store: each answers for what ran at the other.

use std::time::Duration;

use selfsame::Channel;
use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Call, Reply};

use super::api::account::AccountClient;
use super::fixture::{Fixture, Served};
use super::hand::{Hand, PATIENCE, answer_of, in_time, refusal_of, until};
use super::nonces::{keyed, wall};
use super::relay::Relay;
use super::transport::Over;
use super::vault::Vault;

/// Two replicas with one vault, and a client that has a session at both.
struct Pair {
    here: Served,
    _there: Served,
    at_here: Hand,
    at_there: Hand,
}

impl Pair {
    async fn start(fixture: &Fixture, vault: &std::sync::Arc<Vault>) -> Pair {
        let (here, there) = (fixture.serve(vault).await, fixture.serve(vault).await);
        let at_here = Hand::connect(&here.endpoint).await;
        let at_there = Hand::resume(&there.endpoint, at_here.welcome.registration).await;
        assert_eq!(
            at_there.welcome.registration, at_here.welcome.registration,
            "s07: a session of the store"
        );
        Pair { here, _there: there, at_here, at_there }
    }
}

/// Asks until the answer is not that the call still runs elsewhere: for as long as an ordinary client would, and longer.
async fn ask_until_ended(hand: &mut Hand, call: &Call, first_attempt: u32) -> Reply {
    let mut attempt = first_attempt;
    let asked = async {
        loop {
            let reply = hand.ask(&hand.stamped_as(call, attempt)).await;
            if refusal_of(&reply) != Some(Refusal::InProgress) {
                return reply;
            }
            attempt += 1;
        }
    };
    in_time(asked).await
}

pub async fn s02_a_retry_at_another_replica_joins(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    let call = pair.at_here.call(1, "ann");
    pair.at_here.send(&call);
    vault.entered().await;
    pair.at_there.send(&pair.at_there.stamped_as(&call, 2));
    pair.at_there.settle().await;
    vault.admit(1);
    let first = pair.at_here.reply().await;
    let mut second = pair.at_there.reply().await;
    if refusal_of(&second) == Some(Refusal::InProgress) {
        second = ask_until_ended(&mut pair.at_there, &call, 3).await;
    }
    assert_eq!(answer_of(&second), answer_of(&first));
    assert_eq!(vault.effects().await, 1);
    assert!(!vault.has_entered());
}

pub async fn s03_another_replica_replays_to_the_byte(fixture: Fixture) {
    let vault = fixture.vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    for (number, user) in [(1, "ann"), (2, "fails"), (3, "declined"), (4, "panics")] {
        let call = pair.at_here.call(number, user);
        let first = pair.at_here.ask(&call).await;
        let second = pair.at_there.ask(&pair.at_there.stamped_as(&call, 2)).await;
        assert!(second.replayed && second.answer == first.answer, "{second:?} after {first:?}");
    }
    let effects = if fixture.is_atomic() { 1 } else { 3 };
    assert_eq!(vault.effects().await, effects);
}

pub async fn s04_s19_another_replica_compares_too(fixture: Fixture) {
    let vault = fixture.vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    let call = pair.at_here.call(1, "ann");
    let first = pair.at_here.ask(&call).await;
    let hand = &mut pair.at_there;
    let body = Call { body: hand.call(1, "bob").body, ..hand.stamped_as(&call, 2) };
    assert_eq!(refusal_of(&hand.ask(&body).await), Some(Refusal::Mismatch));
    let stamp = Call { attempt: 3, ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&stamp).await), Some(Refusal::SessionShared));
    let same = hand.ask(&hand.stamped_as(&call, 4)).await;
    assert_eq!(answer_of(&same), answer_of(&first), "the record is untouched");
    assert_eq!(vault.effects().await, 1);
}

/// Once an acknowledgement is committed, no replica runs what it closed. Until then, a number that has never been seen may run.
pub async fn s05_what_one_replica_heard_closed_is_stale_at_the_other(fixture: Fixture) {
    let vault = fixture.vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    const CLOSED: u64 = 900;
    pair.at_here.ask(&Call { acked_below: CLOSED, ..pair.at_here.call(CLOSED, "ann") }).await;
    let mut ran = 1;
    for number in 1..CLOSED {
        let reply = pair.at_there.ask(&pair.at_there.call(number, "late")).await;
        match refusal_of(&reply) {
            Some(Refusal::Stale) => break,
            None => ran += 1,
            Some(other) => panic!("{other:?} is no answer to a late copy"),
        }
    }
    assert!(ran < CLOSED, "the acknowledgement was never committed");
    // From here on none.
    let later = pair.at_there.call(CLOSED - 1, "late");
    let told = pair.at_there.ask_now(&later).await;
    assert!(told.is_none() || refusal_of(&told.unwrap()) == Some(Refusal::Stale));
    assert_eq!(vault.effects().await, ran);
}

/// The connection to the first replica breaks while the call runs there; the client goes to the second, which answers with the first's reply.
pub async fn s09_a_once_call_fails_over_to_a_replica_of_the_same_store(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let (here, there) = (fixture.serve(&vault).await, fixture.serve(&vault).await);
    Hand::connect(&here.endpoint).await; // it is open: a client would go to the other before that
    let relay = Relay::to(&here.endpoint).await;
    let builder = Channel::builder().over().attempts(1000).retry_budget(100, 1000).replica(&there.endpoint);
    let account = AccountClient::new(builder.connect(relay.endpoint()).await.unwrap());
    let sent = tokio::spawn(account.change_password(|mut p| p.set_user("ann")).deadline(PATIENCE));
    vault.entered().await;
    relay.cut();
    until(|| there.handle.counters().sessions > 0).await; // it has come over
    vault.admit(1);
    sent.await.unwrap().unwrap();
    assert_eq!(vault.effects().await, 1);
    assert!(!vault.has_entered());
}

/// An owner that died leaves a running record: after its lease anyone may find that nobody will ever know.
pub async fn s14_s16_the_record_of_an_owner_that_died_becomes_unknown_after_its_lease(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    let call = pair.at_here.call(1, "ann");
    pair.at_here.send(&call);
    vault.entered().await;
    pair.here.crash().await;
    vault.admit(10);
    let told = ask_until_ended(&mut pair.at_there, &call, 2).await;
    assert_eq!(refusal_of(&told), Some(Refusal::RecordedUnknown), "{told:?}");
    let again = pair.at_there.ask(&pair.at_there.stamped_as(&call, 10_000)).await;
    assert!(again.replayed && again.answer == told.answer);
    assert_eq!(vault.effects().await, 0);
}

/// The database ends the transaction of an owner that died, and with it what the handler did: the other replica runs the call.
pub async fn s14_a_call_whose_owner_died_runs_at_the_other_replica(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    let call = pair.at_here.call(1, "lingers");
    pair.at_here.send(&call);
    vault.entered().await;
    vault.admit(1);
    vault.entered().await; // its row is written
    pair.here.crash().await;
    vault.admit(10);
    let told = ask_until_ended(&mut pair.at_there, &call, 2).await;
    assert!(matches!(told.answer, Answer::Ok(_)), "{told:?}");
    assert_eq!(vault.effects().await, 1);
}

pub async fn s17_a_keyed_call_is_found_at_the_other_replica(fixture: Fixture) {
    let vault = fixture.vault();
    let mut pair = Pair::start(&fixture, &vault).await;
    let now = wall() + 1000;
    let id = keyed(1, now, now + Duration::from_secs(3600).as_millis() as u64);
    let first = pair.at_here.ask(&Call { id, ..pair.at_here.call(0, "ann") }).await;
    let second = pair.at_there.ask(&Call { id, ..pair.at_there.call(0, "ann") }).await;
    assert!(second.replayed && second.answer == first.answer, "{second:?} after {first:?}");
    let other = Call { id, attempt: 2, ..pair.at_there.call(0, "bob") };
    assert_eq!(refusal_of(&pair.at_there.ask(&other).await), Some(Refusal::Mismatch));
    assert_eq!(vault.effects().await, 1);
}
