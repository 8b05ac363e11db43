//! The numbered statements, as far as the client keeps them.

use super::*;
use crate::protocol::Level;

#[test]
fn s07_a_call_never_sent_registers_anew_when_the_session_is_unknown() {
    let mut bed = Bed::ready();
    bed.client.disconnected();
    let handle = bed.once();
    assert_eq!(bed.calls(), []);
    bed.welcome.registration = Registration(0x200);
    bed.connect();
    let call = bed.call();
    assert_eq!((call.registration, call.id, call.attempt), (Registration(0x200), CallId::Sequenced(1), 1));
    bed.ok(&call);
    assert!(bed.succeeded(handle));
}

#[test]
fn s07_a_call_once_sent_is_unknown_when_the_session_is_unknown() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    bed.call();
    bed.welcome.registration = Registration(0x200);
    bed.reconnect();
    bed.failed_as(handle, Refusal::SessionUnknown, Outcome::Unknown);
    assert_eq!(bed.calls(), []);
}

#[test]
fn s07_a_call_whose_attempts_were_all_refused_goes_on_under_the_new_registration() {
    let mut bed = Bed::ready();
    bed.once();
    let handle = bed.once();
    let first = bed.calls().remove(1);
    bed.refuse(&first, Refusal::Overloaded);
    bed.welcome.registration = Registration(0x200);
    bed.reconnect();
    assert!(bed.is_open(handle));
    bed.pass(ms(20));
    let again = bed.call();
    assert_eq!(again.id, CallId::Sequenced(1), "numbers begin anew");
    assert_eq!(again.attempt, 2, "attempts go on rising");
    assert_eq!(again.first_stamp, bed.welcome.stamp, "it is first sent under this welcome");
    bed.ok(&again);
    assert!(bed.succeeded(handle));
}

#[test]
fn s08_a_sent_call_is_unknown_under_another_generation() {
    for change in [
        |welcome: &mut Welcome| welcome.store = 6,
        |welcome: &mut Welcome| welcome.generation = 2,
        |welcome: &mut Welcome| (welcome.registration, welcome.generation) = (Registration(0x200), 2),
    ] {
        let mut bed = Bed::ready();
        let handle = bed.once();
        bed.call();
        change(&mut bed.welcome);
        bed.reconnect();
        bed.failed_as(handle, Refusal::StoreChanged, Outcome::Unknown);
    }
}

#[test]
fn s08_a_store_whose_count_of_lives_has_fallen_is_another_generation() {
    let mut bed = Bed::new(Config::default());
    bed.welcome.ordinal = 7;
    bed.connect();
    let survivor = bed.once();
    let call = bed.call();
    bed.welcome.ordinal = 8;
    bed.reconnect();
    assert!(bed.is_open(survivor));
    assert_eq!(bed.call().id, call.id);
    bed.welcome.ordinal = 7;
    bed.reconnect();
    bed.failed_as(survivor, Refusal::StoreChanged, Outcome::Unknown);
}

/// A file that was put back from a copy of its latest life: its next life has the same count as the one that is gone.
#[test]
fn s08_a_file_of_which_two_lives_have_the_same_count_is_another_generation() {
    let mut bed = Bed::new(Config::default());
    (bed.welcome.level, bed.welcome.ordinal) = (Level::Durable, 7);
    bed.connect();
    let survivor = bed.once();
    bed.reconnect();
    assert!(bed.is_open(survivor), "the same life");
    bed.welcome.incarnation = Incarnation(bed.welcome.incarnation.0 + 1);
    bed.reconnect();
    bed.failed_as(survivor, Refusal::StoreChanged, Outcome::Unknown);
}

#[test]
fn s08_numbers_are_not_used_again_when_a_lost_store_still_knows_the_registration() {
    let mut bed = Bed::ready();
    bed.once();
    bed.call();
    bed.client.disconnected();
    let waiting = bed.once();
    bed.welcome.generation = 2;
    bed.dial();
    bed.calls();
    bed.greet();
    assert_eq!(bed.calls(), [], "nothing is sent under the old registration");
    assert_eq!(bed.hello().resume, None);
    bed.welcome.registration = Registration(0x200);
    bed.greet();
    let call = bed.call();
    assert_eq!((call.registration, call.id), (Registration(0x200), CallId::Sequenced(1)));
    bed.ok(&call);
    assert!(bed.succeeded(waiting));
}

#[test]
fn s09_a_once_call_fails_over_to_a_replica_of_the_same_store_and_generation() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let first = bed.call();
    bed.welcome.incarnation = Incarnation(0x20);
    bed.reconnect();
    assert_eq!(bed.hello().resume, Some(Registration(0x100)));
    let second = bed.call();
    assert_eq!((second.registration, second.id), (first.registration, first.id));
    assert_eq!(second.first_stamp, first.first_stamp, "the stamp under which it was first sent");
    assert_eq!((second.attempt, second.incarnation), (2, Incarnation(0x20)));
    assert_eq!(second.body, first.body);
    bed.ok(&second);
    assert!(bed.succeeded(handle));
}

#[test]
fn s09_a_once_call_does_not_fail_over_to_another_store() {
    let mut bed = Bed::ready();
    let once = bed.once();
    let idempotent = bed.begin(bed.intent(RetryClass::Idempotent));
    let read_only = bed.begin(bed.intent(RetryClass::ReadOnly));
    bed.calls();
    bed.welcome.registration = Registration(0x200);
    bed.welcome.store = 6;
    bed.reconnect();
    bed.failed_as(once, Refusal::StoreChanged, Outcome::Unknown);
    let again = bed.calls();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|call| call.attempt == 2 && call.registration == Registration(0x200)));
    again.iter().for_each(|call| bed.ok(call));
    assert!(bed.succeeded(idempotent) && bed.succeeded(read_only));
}

#[test]
fn s10_a_later_definite_refusal_leaves_an_ambiguous_call_ambiguous() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    bed.call();
    bed.pass(ms(1000));
    let second = bed.call();
    assert_eq!(second.attempt, 2);
    bed.refuse(&second, Refusal::Denied);
    bed.failed_as(handle, Refusal::Denied, Outcome::Unknown);
}

#[test]
fn s10_a_call_all_of_whose_attempts_were_refused_did_not_execute() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let first = bed.call();
    bed.pass(ms(1000));
    let second = bed.call();
    bed.refuse(&first, Refusal::Overloaded);
    bed.refuse(&second, Refusal::Denied);
    bed.failed_as(handle, Refusal::Denied, Outcome::No);
}

#[test]
fn s10_a_stale_refusal_is_not_taken_for_that_of_a_later_attempt() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let first = bed.call();
    bed.pass(ms(1000));
    bed.call();
    bed.refuse(&first, Refusal::Overloaded);
    bed.refuse(&first, Refusal::Overloaded);
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.failure(handle), (&Why::Deadline, Outcome::Unknown));
}

#[test]
fn s10_a_keyed_call_is_never_told_that_it_did_not_run() {
    let mut bed = Bed::ready();
    let handle = bed.keyed(1);
    let call = bed.call();
    bed.refuse(&call, Refusal::Denied);
    bed.failed_as(handle, Refusal::Denied, Outcome::Unknown);
    bed.client.disconnected();
    let unsent = bed.keyed(1);
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.failure(unsent), (&Why::Deadline, Outcome::Unknown), "an earlier life may have sent it");
}

#[test]
fn s10_the_deadline_tells_no_only_of_what_was_never_left_unsettled() {
    let mut bed = Bed::ready();
    let sent = bed.once();
    bed.client.disconnected();
    let unsent = bed.once();
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.failure(sent), (&Why::Deadline, Outcome::Unknown));
    assert_eq!(bed.failure(unsent), (&Why::Deadline, Outcome::No));
    assert_eq!((bed.ended(sent).attempts, bed.ended(unsent).attempts), (1, 0));
    assert!(bed.client.is_clean());
}

#[test]
fn s16_a_session_that_may_be_forgotten_is_not_resumed() {
    let retention = Duration::from_secs(30);
    for (away, resumed) in [(28, true), (30, false)] {
        let mut bed = Bed::new(Config::default());
        bed.welcome.retention = retention;
        bed.connect();
        let handle = bed
            .begin(Intent { deadline: bed.now + Duration::from_secs(100), ..bed.intent(RetryClass::Once) });
        bed.call();
        bed.client.disconnected();
        bed.pass(Duration::from_secs(away));
        assert_eq!(bed.dial().resume.is_some(), resumed, "{away}");
        if !resumed {
            bed.welcome.registration = Registration(0x200);
        }
        bed.greet();
        assert_eq!(bed.is_open(handle), resumed);
    }
}

#[test]
fn s16_a_once_call_is_not_sent_again_when_its_record_may_be_gone() {
    let mut bed = Bed::new(Config { margin: ms(900), ..Config::default() });
    bed.welcome.retention = ms(1500);
    bed.connect();
    let once = bed.once();
    let read_only = bed.begin(bed.intent(RetryClass::ReadOnly));
    assert_eq!(bed.calls().len(), 2);
    bed.pass(ms(1000));
    let again = bed.call();
    assert_eq!(
        again.retry,
        RetryClass::ReadOnly,
        "600 ms after the server last heard of us nothing is sent again that needs a record"
    );
    bed.ok(&again);
    assert!(bed.succeeded(read_only) && bed.is_open(once));
}

#[test]
fn s16_a_pong_shows_that_the_server_has_heard_of_us() {
    let mut bed = Bed::new(Config::default());
    bed.welcome.retention = Duration::from_secs(30);
    bed.welcome.heartbeat = ms(1000);
    bed.connect();
    for _ in 0..100 {
        bed.pass(Duration::from_secs(1));
        let Some(Entry::Ping(number)) = bed.sent.pop() else { panic!("no ping: {:?}", bed.sent) };
        bed.receive(Entry::Pong(number));
    }
    bed.client.disconnected();
    bed.pass(Duration::from_secs(20));
    assert_eq!(bed.dial().resume, Some(Registration(0x100)));
}

#[test]
fn s19_a_shared_session_is_replaced_and_its_sent_calls_are_unknown() {
    for refusal in [Refusal::SessionShared, Refusal::Stale] {
        let mut bed = Bed::ready();
        let (told, other) = (bed.once(), bed.once());
        let calls = bed.calls();
        bed.refuse(&calls[0], refusal);
        bed.failed_as(told, refusal, Outcome::Unknown);
        assert_eq!(bed.ended(told).registration, Registration(0x100));
        let hello = bed.hello();
        assert_eq!(hello.resume, None);
        assert_ne!(hello.session, Session(0xc));
        bed.welcome.registration = Registration(0x200);
        bed.greet();
        bed.failed_as(other, Refusal::SessionUnknown, Outcome::Unknown);
        assert_eq!(
            bed.ended(other).registration,
            Registration(0x100),
            "its number belongs to the one before"
        );
        bed.once();
        assert_eq!(bed.call().id, CallId::Sequenced(1));
    }
}

#[test]
fn s19_a_registration_that_was_given_up_is_not_taken_back() {
    let mut bed = Bed::ready();
    bed.once();
    let call = bed.call();
    bed.refuse(&call, Refusal::SessionShared);
    bed.greet();
    assert_eq!(bed.reconnects, 1);
    assert!(!bed.client.is_ready());
}

#[test]
fn s21_all_attempts_share_one_deadline() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let mut left = vec![bed.call().time_left];
    bed.pass(ms(1000));
    left.push(bed.call().time_left);
    bed.reconnect();
    bed.pass(ms(500));
    bed.reconnect();
    left.push(bed.calls().pop().expect("sent again").time_left);
    assert_eq!(left, [ms(5000), ms(4000), ms(3500)]);
    bed.pass(ms(3499));
    assert!(bed.is_open(handle));
    bed.pass(ms(1));
    assert_eq!(bed.failure(handle), (&Why::Deadline, Outcome::Unknown));
}

#[test]
fn s21_all_calls_share_one_budget() {
    let budget = Allowance { percent: 20, per_second: 0 };
    let mut bed = Bed::new(Config { budget, ..Config::default() });
    bed.connect();
    let handles: Vec<_> = (0..50).map(|_| bed.once()).collect();
    for call in bed.calls() {
        bed.refuse(&call, Refusal::Overloaded);
    }
    let open = handles.iter().filter(|handle| bed.is_open(**handle)).count();
    assert_eq!(open, 10, "a fifth of fifty may be sent again");
    assert_eq!(bed.client.counters().starved, 40);
    for handle in handles.iter().filter(|handle| !bed.is_open(**handle)) {
        bed.failed_as(*handle, Refusal::Overloaded, Outcome::No);
    }
}
