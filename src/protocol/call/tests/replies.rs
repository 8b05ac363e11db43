//! Each row of the table of replies.

use super::*;

/// A call with one attempt out.
fn sent(retry: RetryClass) -> (Bed, Handle, wire::Call) {
    let mut bed = Bed::ready();
    let handle = bed.begin(bed.intent(retry));
    let call = bed.call();
    (bed, handle, call)
}

#[test]
fn a_reply_closes() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    let reply = Reply { replayed: true, ..reply_to(&call, Answer::Ok(Bytes::from_static(b"fine"))) };
    bed.receive(Entry::Reply(reply.clone()));
    assert!(bed.succeeded(handle));
    let ended = bed.ended(handle);
    assert!(ended.replayed);
    assert_eq!((ended.id, ended.attempts), (Some(CallId::Sequenced(1)), 1));
    assert_eq!(ended.registration, call.registration);
    bed.receive(Entry::Reply(reply));
    assert!(bed.succeeded(handle), "and stays closed");
    assert_eq!(bed.client.counters().stray, 1);
    assert!(bed.client.is_clean());
}

#[test]
fn a_typed_no_closes_and_the_call_executed() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    let body = Bytes::from_static(b"no such order");
    bed.answer(&call, Answer::Declined { fault: 9, body: body.clone() });
    assert_eq!(bed.failure(handle), (&Why::Declined { fault: 9, body }, Outcome::Yes));
}

#[test]
fn a_failed_handler_closes_and_what_it_did_is_unknown() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    bed.answer(&call, Answer::Failed("disk full".into()));
    assert_eq!(bed.failure(handle), (&Why::Failed, Outcome::Unknown));
}

#[test]
fn what_is_recorded_as_unknown_closes() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    bed.refuse(&call, Refusal::RecordedUnknown);
    bed.failed_as(handle, Refusal::RecordedUnknown, Outcome::Unknown);
}

#[test]
fn an_evicted_reply_closes_and_the_call_executed() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    bed.refuse(&call, Refusal::ReplyEvicted);
    bed.failed_as(handle, Refusal::ReplyEvicted, Outcome::Yes);
}

#[test]
fn a_refusal_that_may_pass_is_retried_as_the_next_attempt() {
    for refusal in [
        Refusal::Overloaded,
        Refusal::ShuttingDown,
        Refusal::Unavailable,
        Refusal::Interrupted,
        Refusal::InProgress,
    ] {
        let (mut bed, handle, call) = sent(RetryClass::Once);
        bed.refuse(&call, refusal);
        assert_eq!(bed.calls(), [], "not at once");
        bed.pass(ms(20));
        let again = bed.call();
        assert_eq!(again, wire::Call { attempt: 2, time_left: again.time_left, ..call }, "{refusal:?}");
        bed.ok(&again);
        assert!(bed.succeeded(handle));
    }
}

#[test]
fn a_refusal_that_stays_is_not_retried() {
    for refusal in [
        Refusal::Cancelled,
        Refusal::UnknownMethod,
        Refusal::Incompatible,
        Refusal::Malformed,
        Refusal::TooLarge,
        Refusal::Denied,
    ] {
        let (mut bed, handle, call) = sent(RetryClass::Idempotent);
        bed.refuse(&call, refusal);
        bed.failed_as(handle, refusal, Outcome::No);
    }
}

#[test]
fn the_servers_word_that_it_is_ambiguous_holds() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    bed.answer(&call, refused(Refusal::Denied, true));
    bed.failed_as(handle, Refusal::Denied, Outcome::Unknown);
}

/// Whatever the server says about them: an interrupted handler has had effects, a running call may have.
#[test]
fn some_refusals_settle_nothing_although_the_server_says_so() {
    for refusal in [Refusal::InProgress, Refusal::Interrupted] {
        let (mut bed, handle, call) = sent(RetryClass::Once);
        bed.answer(&call, refused(refusal, false));
        bed.pass(ms(20));
        let again = bed.call();
        bed.refuse(&again, Refusal::Denied);
        bed.failed_as(handle, Refusal::Denied, Outcome::Unknown);
    }
}

#[test]
fn when_the_server_finds_the_time_up_it_is() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    bed.refuse(&call, Refusal::Deadline);
    assert_eq!(bed.failure(handle), (&Why::Deadline, Outcome::No));
}

#[test]
fn hello_first_is_answered_by_one_hello_and_all_open_calls_are_sent_again() {
    let mut bed = Bed::ready();
    let handles = [bed.once(), bed.once()];
    let calls = bed.calls();
    let before = bed.hello();
    calls.iter().for_each(|call| bed.refuse(call, Refusal::HelloFirst));
    let hello = bed.hello();
    assert_eq!(
        bed.sent.iter().filter(|entry| matches!(entry, Entry::Hello(_))).count(),
        2,
        "one on connecting, one now"
    );
    assert_ne!(hello.id, before.id);
    assert_eq!(hello.resume, Some(Registration(0x100)));
    let late = bed.once();
    assert_eq!(bed.calls(), [], "no call before the welcome");
    bed.welcome.incarnation = Incarnation(0x20);
    bed.greet();
    let again = bed.calls();
    assert_eq!(
        again.iter().map(|call| (call.id, call.attempt)).collect::<Vec<_>>(),
        [(CallId::Sequenced(1), 2), (CallId::Sequenced(2), 2), (CallId::Sequenced(3), 1)]
    );
    assert!(again.iter().all(|call| call.incarnation == Incarnation(0x20)));
    bed.refuse(&calls[0], Refusal::HelloFirst);
    assert!(bed.client.is_ready(), "old news");
    bed.refuse(&again[0], Refusal::Denied);
    bed.failed_as(handles[0], Refusal::Denied, Outcome::Unknown);
    bed.refuse(&again[2], Refusal::Denied);
    bed.failed_as(late, Refusal::Denied, Outcome::No);
}

#[test]
fn a_server_that_asks_for_one_hello_after_another_is_left() {
    let (mut bed, handle, mut call) = sent(RetryClass::Idempotent);
    for _ in 0..2 {
        bed.refuse(&call, Refusal::HelloFirst);
        bed.greet();
        call = bed.call();
    }
    bed.refuse(&call, Refusal::HelloFirst);
    assert_eq!(bed.reconnects, 1);
    assert!(bed.is_open(handle));
}

#[test]
fn what_the_server_does_not_know_any_more_is_unknown() {
    for refusal in [
        Refusal::Stale,
        Refusal::SessionShared,
        Refusal::SessionUnknown,
        Refusal::StoreChanged,
        Refusal::Expired,
        Refusal::Mismatch,
    ] {
        let (mut bed, handle, call) = sent(RetryClass::Once);
        bed.refuse(&call, refusal);
        bed.failed_as(handle, refusal, Outcome::Unknown);
        assert_eq!(
            bed.client.is_ready(),
            matches!(refusal, Refusal::Expired | Refusal::Mismatch),
            "{refusal:?}"
        );
    }
}

#[test]
fn what_is_safe_to_run_twice_is_sent_again_to_a_server_that_lost_the_session() {
    for (refusal, resume) in
        [(Refusal::SessionUnknown, None), (Refusal::StoreChanged, Some(Registration(0x100)))]
    {
        let (mut bed, handle, call) = sent(RetryClass::ReadOnly);
        bed.refuse(&call, refusal);
        assert_eq!(bed.hello().resume, resume);
        bed.welcome.registration = Registration(0x200);
        bed.greet();
        let again = bed.call();
        assert_eq!((again.registration, again.attempt), (Registration(0x200), 2));
        bed.ok(&again);
        assert!(bed.succeeded(handle));
    }
}

#[test]
fn a_reply_to_another_registration_or_an_attempt_never_sent_is_ignored() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    let ok = || Answer::Ok(Bytes::new());
    for reply in [
        Reply { registration: Registration(0x99), ..reply_to(&call, ok()) },
        Reply { id: CallId::Sequenced(0), ..reply_to(&call, ok()) },
        Reply { id: CallId::Sequenced(u64::MAX), ..reply_to(&call, ok()) },
        Reply {
            id: CallId::Keyed(Key { key: 1, issued: WallTime(1), expiry: WallTime(1) }),
            ..reply_to(&call, ok())
        },
        Reply { attempt: 0, ..reply_to(&call, ok()) },
        Reply { attempt: 2, ..reply_to(&call, ok()) },
    ] {
        bed.receive(Entry::Reply(reply));
    }
    assert!(bed.is_open(handle));
    assert_eq!(bed.client.counters().stray, 6);
}

#[test]
fn what_a_server_does_not_send_is_counted_and_ignored() {
    let (mut bed, handle, call) = sent(RetryClass::Once);
    let registration = call.registration;
    let id = call.id;
    for entry in [
        Entry::Hello(Hello::default()),
        Entry::Call(call.clone()),
        Entry::Cancel(Cancel { registration, id }),
        Entry::Ack(wire::Ack::default()),
        Entry::Numbers(wire::Numbers::default()),
        Entry::Welcome(Welcome::default()),
        Entry::Pong(3),
    ] {
        bed.receive(entry);
    }
    assert_eq!(bed.client.counters().stray, 7);
    assert!(bed.client.is_ready() && bed.is_open(handle));
}

#[test]
fn a_keyed_call_survives_another_registration_of_the_same_store() {
    let mut bed = Bed::ready();
    let handle = bed.keyed(1);
    let first = bed.call();
    bed.welcome.registration = Registration(0x200);
    bed.reconnect();
    let second = bed.call();
    assert_eq!((second.id, second.registration), (first.id, Registration(0x200)));
    bed.ok(&first);
    assert!(bed.succeeded(handle), "the key is the identity, whatever the registration");
    assert!(bed.client.is_clean());
}

#[test]
fn a_sent_keyed_call_is_unknown_in_another_store() {
    let mut bed = Bed::ready();
    let handle = bed.keyed(1);
    bed.welcome.store = 6;
    bed.reconnect();
    bed.failed_as(handle, Refusal::StoreChanged, Outcome::Unknown);
}

#[test]
fn two_open_calls_never_share_a_key_and_a_later_life_goes_on_counting() {
    let mut bed = Bed::ready();
    let first = bed.keyed(1);
    let call = bed.call();
    let second = bed.keyed(1);
    bed.failed_as(second, Refusal::InProgress, Outcome::Unknown);
    assert!(bed.is_open(first));
    bed.refuse(&call, Refusal::Denied);
    bed.keyed(1);
    assert_eq!(bed.call().attempt, 2, "the server may have marked attempt 1 as refused");
}

#[test]
fn a_call_that_must_not_be_repeated_is_sent_once() {
    let (mut bed, handle, call) = sent(RetryClass::Never);
    bed.pass(ms(3000));
    assert_eq!(bed.calls(), []);
    bed.refuse(&call, Refusal::Overloaded);
    bed.failed_as(handle, Refusal::Overloaded, Outcome::No);

    let (mut bed, handle, _) = sent(RetryClass::Never);
    bed.reconnect();
    assert_eq!(bed.calls(), []);
    bed.failed_as(handle, Refusal::Unavailable, Outcome::Unknown);

    let mut bed = Bed::new(Config::default());
    let handle = bed.begin(bed.intent(RetryClass::Never));
    bed.connect();
    let call = bed.call();
    bed.ok(&call);
    assert!(bed.succeeded(handle), "but it is sent when it was not yet");
}
