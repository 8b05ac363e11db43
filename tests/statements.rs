//! The statements of the guarantee that can be seen from outside, over real sockets.
//!
//! Each test bears the number of its statement (docs/design.md, "The guarantee"); the machines have tests of the same numbers for what only they can
//! see. The client here is a hand-held one: it speaks the wire itself, so that it can send what a client of ours never would, such as
//! a copy of an attempt, a number that it has acknowledged, or somebody else's registration.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "statements/hand.rs"]
#[allow(dead_code)]
mod hand;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use hand::{Hand, answer_of, refusal_of};
use selfsame::protocol::wire::{Ack, Answer, Call, Cancel};
use selfsame::protocol::{CallId, Incarnation, Key, Refusal, Registration, Stamp, WallTime};
use selfsame::{Answer as Answered, Channel, Fault, Kind, Outcome, Request, Server};
use tokio::sync::Semaphore;

/// Counts its effects; a call waits until the test lets it go on.
struct Vault {
    effects: AtomicU32,
    entered: Semaphore,
    gate: Semaphore,
}

impl Vault {
    fn open() -> Arc<Vault> {
        Arc::new(Vault {
            effects: AtomicU32::new(0),
            entered: Semaphore::new(0),
            gate: Semaphore::new(1 << 20),
        })
    }

    fn closed() -> Arc<Vault> {
        Arc::new(Vault { effects: AtomicU32::new(0), entered: Semaphore::new(0), gate: Semaphore::new(0) })
    }

    fn effects(&self) -> u32 {
        self.effects.load(Ordering::SeqCst)
    }

    async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }
}

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answered<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        self.entered.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        match user.as_str() {
            "panics" => panic!("on purpose"),
            "unavailable" => return Err(Fault::unavailable("not now")),
            "fails" => return Err(Fault::text("no luck")),
            _ => {}
        }
        let effect = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        request.reply(|mut reply| reply.set_version(effect))
    }

    async fn version(&self, request: Request<Version>) -> Answered<Version> {
        let effects = self.effects();
        request.reply(|mut reply| reply.set_version(effects))
    }
}

async fn serve(vault: &Arc<Vault>) -> String {
    let builder = Server::builder().clock_error(Duration::ZERO);
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(vault.clone()));
    let endpoint = server.endpoint().to_string();
    tokio::spawn(server.serve());
    endpoint
}

#[tokio::test]
async fn s01_identity_is_the_registration_and_not_the_connection() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut first = Hand::connect(&endpoint).await;
    let call = first.call(1, "ann");
    let reply = first.ask(&call).await;
    // Another connection that resumes the session is the same client; one that does not is another, with numbers of its own.
    let mut again = Hand::resume(&endpoint, first.welcome.registration).await;
    assert_eq!(answer_of(&again.ask(&again.stamped_as(&call, 2)).await), answer_of(&reply));
    let mut other = Hand::connect(&endpoint).await;
    assert_ne!(answer_of(&other.ask(&other.call(1, "ann")).await), answer_of(&reply));
    assert_eq!(vault.effects(), 2);
}

#[tokio::test]
async fn s02_a_retry_that_arrives_while_the_first_attempt_runs_joins_it() {
    let vault = Vault::closed();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    hand.send(&call);
    vault.entered().await;
    hand.send(&Call { attempt: 2, ..call.clone() });
    hand.settle().await;
    vault.gate.add_permits(1);
    let reply = hand.reply().await;
    assert_eq!(
        (reply.attempt, vault.effects()),
        (2, 1),
        "to where the last attempt came from, after one execution"
    );
}

#[tokio::test]
async fn s03_a_retry_after_completion_gets_the_stored_reply() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    let first = hand.ask(&call).await;
    let second = hand.ask(&Call { attempt: 2, ..call }).await;
    assert_eq!(answer_of(&first), answer_of(&second));
    assert!(!first.replayed && second.replayed);
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s04_the_same_nonce_with_another_body_or_method_is_a_mismatch() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    let reply = hand.ask(&call).await;
    let other = Call { id: call.id, attempt: 2, ..hand.call(9, "bob") };
    assert_eq!(refusal_of(&hand.ask(&other).await), Some(Refusal::Mismatch));
    let again = hand.ask(&Call { attempt: 3, ..call }).await;
    assert_eq!(answer_of(&again), answer_of(&reply), "the record is untouched");
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s05_a_number_below_the_acknowledged_ones_is_stale_even_as_a_first_copy() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    hand.ask(&Call { acked_below: 5, ..hand.call(5, "ann") }).await;
    assert_eq!(refusal_of(&hand.ask(&hand.call(4, "late")).await), Some(Refusal::Stale));
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s06_acknowledgements_only_rise_and_never_collect_what_runs() {
    let vault = Vault::closed();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    hand.send(&hand.call(1, "ann"));
    vault.entered().await;
    let registration = hand.welcome.registration;
    hand.say(Ack { registration, below: 10, closed: vec![] });
    hand.say(Ack { registration, below: 3, closed: vec![(20, 30)] });
    for closed in [2, 9, 25] {
        let refused = hand.ask(&hand.call(closed, "late")).await;
        assert_eq!(refusal_of(&refused), Some(Refusal::Stale), "{closed}");
    }
    vault.gate.add_permits(2);
    hand.ask(&hand.call(10, "ann")).await;
    while vault.effects() < 2 {
        hand.settle().await;
    }
}

#[tokio::test]
async fn s07_unknown_session_is_refused() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let foreign = Call { registration: Registration(77), ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&foreign).await), Some(Refusal::SessionUnknown));
    let mut resumed = Hand::resume(&endpoint, Registration(77)).await;
    assert_ne!(
        resumed.welcome.registration,
        Registration(77),
        "a registration that was named is not made again"
    );
    resumed.ask(&resumed.call(1, "ann")).await;
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s08_a_call_to_another_incarnation_does_not_run() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let held = Call { incarnation: Incarnation(1), ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&held).await), Some(Refusal::HelloFirst));
    assert_eq!(vault.effects(), 0);
}

#[tokio::test]
async fn s09_a_call_that_may_have_run_does_not_fail_over_to_another_store() {
    let (here, elsewhere) = (Vault::closed(), Vault::open());
    let server = Server::bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(here.clone()));
    let endpoint = server.endpoint().to_string();
    let serving = tokio::spawn(server.serve());
    let replica = serve(&elsewhere).await;
    let channel = Channel::builder().replica(replica).connect(&endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let call = account.change_password(|mut p| p.set_user("ann")).deadline(Duration::from_secs(30));
    let sent = tokio::spawn(call);
    here.entered().await;
    serving.abort(); // closes the socket at once
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Refused(Refusal::StoreChanged), Outcome::Unknown),
        "{error}"
    );
    assert_eq!(elsewhere.effects(), 0);
    // What was never sent to the first goes to the second.
    account.change_password(|mut p| p.set_user("bob")).deadline(Duration::from_secs(30)).await.unwrap();
    assert_eq!(elsewhere.effects(), 1);
}

#[tokio::test]
async fn s10_a_later_definite_refusal_leaves_an_ambiguous_call_ambiguous() {
    // The first attempt is lost, or runs for ever; the second is refused as not executed.
    let endpoint = hand::serve(|call| (call.attempt > 1).then_some(Refusal::Overloaded)).await;
    let short = Duration::from_millis(20);
    let channel = Channel::builder().attempts(2).attempt_timeout(short).connect(&endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let call = account.change_password(|mut p| p.set_user("ann")).deadline(Duration::from_millis(500));
    let error = call.await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::Unknown, 2), "{error}");

    // Refused from the first attempt on, it is certain.
    let endpoint = hand::serve(|_| Some(Refusal::Overloaded)).await;
    let channel = Channel::builder().attempts(2).connect(&endpoint).await.unwrap();
    let error = AccountClient::new(channel).change_password(|mut p| p.set_user("ann")).await.unwrap_err();
    assert_eq!((error.outcome(), error.attempts()), (Outcome::No, 2), "{error}");
}

#[tokio::test]
async fn s11_what_the_handler_answers_decides_what_is_kept() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let fails = hand.call(1, "fails");
    let first = hand.ask(&fails).await;
    assert!(matches!(first.answer, Answer::Failed(_)));
    let again = hand.ask(&Call { attempt: 2, ..fails }).await;
    assert!(again.replayed && again.answer == first.answer, "never run again");

    let unavailable = hand.call(2, "unavailable");
    let refused = hand.ask(&unavailable).await;
    assert_eq!(refusal_of(&refused), Some(Refusal::Unavailable));
    let copy = hand.ask(&unavailable).await;
    assert_eq!(refusal_of(&copy), Some(Refusal::Unavailable), "the mark refuses a copy of a refused attempt");
    vault.entered().await;
    vault.entered().await;
    let runs = hand.ask(&Call { attempt: 2, ..unavailable }).await;
    assert_eq!(refusal_of(&runs), Some(Refusal::Unavailable));
    vault.entered().await; // the second attempt ran the handler again
}

#[tokio::test]
async fn s12_a_panic_is_recorded_as_failed_and_the_server_lives_on() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let panics = hand.call(1, "panics");
    let Answer::Failed(why) = hand.ask(&panics).await.answer else { panic!("not failed") };
    assert!(why.contains("on purpose"), "{why}");
    assert!(hand.ask(&Call { attempt: 2, ..panics }).await.replayed);
    assert!(matches!(hand.ask(&hand.call(2, "ann")).await.answer, Answer::Ok(_)));
}

#[tokio::test]
async fn s13_a_cancellation_frees_no_number_and_stops_no_handler() {
    let vault = Vault::closed();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    hand.send(&call);
    vault.entered().await;
    hand.say(Cancel { registration: call.registration, id: call.id });
    hand.settle().await;
    vault.gate.add_permits(1);
    hand.reply().await;
    let again = hand.ask(&Call { attempt: 2, ..call }).await;
    assert!(again.replayed && vault.effects() == 1);
}

#[tokio::test]
async fn s14_a_call_whose_handler_was_dropped_is_answered() {
    let vault = Vault::closed();
    let builder = Server::builder().handler_timeout(Duration::from_millis(50));
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(vault.clone()));
    let endpoint = server.endpoint().to_string();
    tokio::spawn(server.serve());
    let mut hand = Hand::connect(&endpoint).await;
    let call = hand.call(1, "ann");
    assert!(matches!(hand.ask(&call).await.answer, Answer::Failed(_)));
    assert!(hand.ask(&Call { attempt: 2, ..call }).await.replayed);
    assert_eq!(vault.effects(), 0);
}

#[tokio::test]
async fn s17_a_keyed_nonce_that_has_expired_or_is_older_than_the_store_is_refused() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let now = wall();
    let keyed =
        |key, issued, expiry| CallId::Keyed(Key { key, issued: WallTime(issued), expiry: WallTime(expiry) });
    let old = Call { id: keyed(1, now - 3_600_000, now + 3_600_000), ..hand.call(0, "ann") };
    assert_eq!(refusal_of(&hand.ask(&old).await), Some(Refusal::Expired));
    while wall() < now + 3 {
        tokio::task::yield_now().await;
    }
    let expired = Call { id: keyed(2, now + 1, now + 2), ..hand.call(0, "ann") };
    assert_eq!(refusal_of(&hand.ask(&expired).await), Some(Refusal::Expired));
    let fresh = Call { id: keyed(3, now + 1000, now + 3_600_000), ..hand.call(0, "ann") };
    assert!(matches!(hand.ask(&fresh).await.answer, Answer::Ok(_)));
    // A keyed call is found from another session.
    let mut other = Hand::connect(&endpoint).await;
    let again = Call { id: fresh.id, ..other.call(0, "ann") };
    assert!(other.ask(&again).await.replayed);
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s18_at_a_cap_calls_are_refused_and_nothing_is_forgotten() {
    let vault = Vault::open();
    let builder = Server::builder().window(4);
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(vault.clone()));
    let endpoint = server.endpoint().to_string();
    tokio::spawn(server.serve());
    let mut hand = Hand::connect(&endpoint).await;
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
    assert_eq!(vault.effects(), 5);
}

#[tokio::test]
async fn s19_two_clients_that_share_a_session_are_told_apart() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut one = Hand::connect(&endpoint).await;
    one.ask(&one.call(1, "ann")).await;
    // A copied process: the same registration and number for another intention, first sent under another welcome.
    let mut two = Hand::resume(&endpoint, one.welcome.registration).await;
    let shared = two.ask(&two.call(1, "ann")).await;
    assert_eq!(refusal_of(&shared), Some(Refusal::SessionShared));
    assert_ne!(one.welcome.stamp, two.welcome.stamp);
    assert_ne!(one.welcome.stamp, Stamp(0));
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn s21_a_call_whose_time_is_up_is_not_started() {
    let vault = Vault::open();
    let endpoint = serve(&vault).await;
    let mut hand = Hand::connect(&endpoint).await;
    let late = Call { time_left: Duration::ZERO, ..hand.call(1, "ann") };
    assert_eq!(refusal_of(&hand.ask(&late).await), Some(Refusal::Deadline));
    assert_eq!(vault.effects(), 0);
}
