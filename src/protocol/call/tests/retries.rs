//! Time-outs, back-off, and when to stop; the window and the queue.

use super::*;

#[test]
fn attempts_time_out_after_one_two_and_four_seconds() {
    let mut bed = Bed::ready();
    let handle =
        bed.begin(Intent { deadline: bed.now + Duration::from_secs(60), ..bed.intent(RetryClass::Once) });
    let mut gaps = Vec::new();
    let mut last = bed.now;
    bed.call();
    while gaps.len() < 4 {
        bed.pass(ms(100));
        if !bed.calls().is_empty() {
            gaps.push((bed.now - last).as_secs());
            last = bed.now;
        }
    }
    assert_eq!(gaps, [1, 2, 4, 8]);
    assert!(bed.is_open(handle));
}

#[test]
fn when_all_attempts_are_out_the_call_waits_for_an_answer_until_its_deadline() {
    let mut bed = Bed::new(Config { attempts: 2, ..Config::default() });
    bed.connect();
    let (answered, silent) = (bed.once(), bed.once());
    bed.calls();
    bed.pass(ms(1000));
    let second = bed.calls();
    assert_eq!(second.len(), 2);
    bed.pass(ms(3500));
    assert_eq!(bed.calls(), []);
    bed.ok(&second[0]);
    assert!(bed.succeeded(answered));
    bed.pass(ms(500));
    assert_eq!(bed.failure(silent), (&Why::Deadline, Outcome::Unknown));
}

#[test]
fn after_the_last_attempt_a_refusal_ends_the_call_unless_another_attempt_is_out() {
    let mut bed = Bed::new(Config { attempts: 2, ..Config::default() });
    bed.connect();
    let (settled, unsettled) = (bed.once(), bed.once());
    let first = bed.calls();
    bed.refuse(&first[0], Refusal::Overloaded);
    bed.pass(ms(1000));
    let second = bed.calls();
    assert_eq!(second.len(), 2);
    for call in &second {
        bed.refuse(call, Refusal::Overloaded);
    }
    bed.failed_as(settled, Refusal::Overloaded, Outcome::No);
    assert!(bed.is_open(unsettled));
    bed.refuse(&first[1], Refusal::Unavailable);
    bed.failed_as(unsettled, Refusal::Unavailable, Outcome::No);
}

#[test]
fn an_older_attempts_refusal_does_not_hurry_the_latest() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let first = bed.call();
    bed.pass(ms(1000));
    let second = bed.call();
    bed.refuse(&first, Refusal::Overloaded);
    bed.pass(ms(500));
    assert_eq!(bed.calls(), []);
    bed.ok(&second);
    assert!(bed.succeeded(handle));
}

#[test]
fn retry_after_is_honoured_and_one_beyond_the_deadline_ends_the_call() {
    let mut bed = Bed::ready();
    let later = bed.once();
    let never = bed.once();
    let calls = bed.calls();
    let after = |time| {
        let retry_after = Some(time);
        Answer::Refused(Refused {
            refusal: Refusal::Overloaded,
            ambiguous: false,
            retry_after,
            message: String::new(),
        })
    };
    bed.answer(&calls[0], after(ms(900)));
    bed.answer(&calls[1], after(Duration::MAX));
    bed.failed_as(never, Refusal::Overloaded, Outcome::No);
    let Conclusion::Failed(failure) = &bed.ended(never).conclusion else { unreachable!() };
    assert_eq!(failure.retry_after, Some(Duration::MAX));
    bed.pass(ms(899));
    assert_eq!(bed.calls(), []);
    bed.pass(ms(1));
    assert_eq!(bed.call().attempt, 2);
    assert!(bed.is_open(later));
}

#[test]
fn sending_again_to_a_new_connection_is_no_retry() {
    let budget = Allowance { percent: 0, per_second: 0 };
    let mut bed = Bed::new(Config { attempts: 1, budget, ..Config::default() });
    bed.connect();
    let handle = bed.once();
    for attempt in 2..=20 {
        bed.reconnect();
        assert_eq!(bed.call().attempt, attempt);
    }
    assert_eq!((bed.client.counters().retries, bed.client.counters().resends), (0, 19));
    bed.reconnect();
    let last = bed.call();
    bed.ok(&last);
    assert!(bed.succeeded(handle));
}

#[test]
fn a_back_off_outlasts_a_reconnect() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let call = bed.call();
    let retry_after = Some(ms(500));
    let refusal =
        Refused { refusal: Refusal::Overloaded, ambiguous: false, retry_after, message: String::new() };
    bed.answer(&call, Answer::Refused(refusal));
    bed.reconnect();
    assert_eq!(bed.calls(), []);
    bed.client.disconnected();
    bed.pass(ms(600));
    bed.connect();
    let again = bed.call();
    assert_eq!(again.attempt, 2);
    bed.ok(&again);
    assert!(bed.succeeded(handle));
}

#[test]
fn the_smaller_window_holds_and_the_rest_waits_its_turn() {
    for (ours, theirs) in [(3, 1024), (1024, 3)] {
        let mut bed = Bed::new(Config { window: ours, ..Config::default() });
        bed.welcome.window = theirs;
        bed.connect();
        let handles: Vec<_> = (0..10).map(|_| bed.once()).collect();
        for round in 0..10 {
            let numbers: Vec<_> = bed.calls().iter().map(|call| call.id).collect();
            let sent = if round == 0 { vec![1, 2, 3] } else { vec![round + 3] };
            let expected: Vec<_> = sent.into_iter().filter(|n| *n <= 10).map(CallId::Sequenced).collect();
            assert_eq!(numbers, expected);
            let Some(id) = bed.client.nonce_of(handles[round as usize]) else { panic!("not sent") };
            let call = wire_call(&bed, id);
            bed.ok(&call);
        }
        assert!(handles.iter().all(|handle| bed.succeeded(*handle)));
        assert!(bed.client.is_clean());
    }
}

/// Enough of a call to answer it.
fn wire_call(bed: &Bed, id: CallId) -> wire::Call {
    let intent = bed.intent(RetryClass::Once);
    wire::Call {
        registration: bed.welcome.registration,
        incarnation: bed.welcome.incarnation,
        first_stamp: bed.welcome.stamp,
        id,
        interface: intent.interface,
        method: intent.method,
        retry: intent.retry,
        attempt: 1,
        time_left: ms(1),
        acked_below: 1,
        trace: None,
        issued: intent.issued,
        metadata: Vec::new(),
        body: intent.body,
    }
}

#[test]
fn a_window_of_nothing_is_one_of_one() {
    let mut bed = Bed::new(Config { window: 0, ..Config::default() });
    bed.welcome.window = 0;
    bed.connect();
    let handle = bed.once();
    let call = bed.call();
    bed.ok(&call);
    assert!(bed.succeeded(handle));
}

#[test]
fn one_call_too_many_is_refused_here() {
    let mut bed = Bed::new(Config { calls: 2, ..Config::default() });
    let handles = [bed.once(), bed.once(), bed.once()];
    bed.failed_as(handles[2], Refusal::Overloaded, Outcome::No);
    assert_eq!(bed.client.open(), 2);
    assert_eq!(bed.ended(handles[2]).id, None);
}

#[test]
fn calls_that_come_and_go_while_nothing_is_connected_leave_nothing_behind() {
    let mut bed = Bed::new(Config::default());
    let stays = bed.once();
    for _ in 0..10_000 {
        let handle = bed.once();
        bed.client.cancel(handle, bed.now);
    }
    assert!(bed.client.queue.len() <= 70 && bed.client.calls.timers() <= 70);
    bed.client.cancel(stays, bed.now);
    bed.take();
    assert_eq!(bed.done.len(), 0, "who cancels is told nothing");
    assert!(bed.client.is_clean());
}

#[test]
fn a_call_whose_time_is_up_is_not_sent() {
    let mut bed = Bed::ready();
    let handle = bed.begin(Intent { deadline: bed.now, ..bed.intent(RetryClass::Once) });
    assert_eq!(bed.failure(handle), (&Why::Deadline, Outcome::No));
    assert_eq!(bed.calls(), []);
}

#[test]
fn a_body_that_the_server_does_not_take_is_refused_here() {
    let mut bed = Bed::ready();
    let body = Bytes::from(vec![0; 1025]);
    let handle = bed.begin(Intent { body, ..bed.intent(RetryClass::Once) });
    bed.failed_as(handle, Refusal::TooLarge, Outcome::No);
    assert_eq!(bed.calls(), []);
    let fits = bed.begin(Intent { body: Bytes::from(vec![0; 1024]), ..bed.intent(RetryClass::Once) });
    assert!(bed.is_open(fits));
    assert_eq!(bed.call().body.len(), 1024);
}

#[test]
fn the_server_is_told_of_a_cancelled_call_unless_its_key_may_be_asked_for_again() {
    let mut bed = Bed::ready();
    let (sequenced, keyed, unsent) = (bed.once(), bed.keyed(1), bed.keyed(2));
    let call = bed.calls().remove(0);
    bed.sent.clear();
    for handle in [sequenced, keyed, unsent, sequenced] {
        bed.client.cancel(handle, bed.now);
    }
    bed.take();
    let cancel = Cancel { registration: call.registration, id: call.id };
    assert_eq!(bed.sent, [Entry::Cancel(cancel)]);
    bed.ok(&call);
    assert_eq!(bed.done.len(), 0);
    assert!(bed.client.is_clean());
}

#[test]
fn metadata_and_trace_go_with_every_attempt() {
    let mut bed = Bed::ready();
    let trace = Some(wire::Trace { id: 1, parent: 2, flags: 1 });
    let metadata = vec![("tenant".to_owned(), Bytes::from_static(b"a"))];
    bed.begin(Intent { trace, metadata: metadata.clone(), ..bed.intent(RetryClass::Once) });
    let first = bed.call();
    bed.pass(ms(1000));
    for call in [first, bed.call()] {
        assert_eq!((call.trace, &call.metadata), (trace, &metadata));
    }
}
