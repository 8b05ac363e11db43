//! Hello and welcome, heartbeats, acknowledgements, contracts and goodbye.

use super::*;
use crate::protocol::wire::{Contract, Goodbye};

#[test]
fn no_call_leaves_before_the_welcome_to_the_latest_hello() {
    let mut bed = Bed::new(Config::default());
    let handle = bed.once();
    let first = bed.dial();
    assert_eq!((first.version, first.session, first.resume), (1, Session(0xc), None));
    bed.client.disconnected();
    let second = bed.dial();
    assert_ne!(first.id, second.id);
    bed.receive(Entry::Welcome(Welcome { hello: first.id, ..bed.welcome.clone() }));
    assert_eq!(bed.calls(), []);
    bed.greet();
    let call = bed.call();
    assert_eq!(call.first_stamp, bed.welcome.stamp);
    bed.receive(Entry::Welcome(Welcome {
        hello: second.id,
        registration: Registration(0x300),
        ..bed.welcome.clone()
    }));
    bed.ok(&call);
    assert!(bed.succeeded(handle), "a second welcome to the same hello changes nothing");
}

#[test]
fn a_hello_resumes_and_tells_what_is_closed() {
    let mut bed = Bed::ready();
    let (first, _second, third) = (bed.once(), bed.once(), bed.once());
    let calls = bed.calls();
    bed.ok(&calls[0]);
    bed.ok(&calls[2]);
    assert!(bed.succeeded(first) && bed.succeeded(third));
    bed.client.disconnected();
    let hello = bed.dial();
    assert_eq!((hello.resume, hello.acked_below), (Some(Registration(0x100)), 2));
    bed.sent.clear();
    bed.greet_to(&hello);
    let again = bed.call();
    assert_eq!((again.id, again.attempt, again.acked_below), (CallId::Sequenced(2), 2, 2));
    bed.pass(ms(20));
    assert_eq!(bed.acks()[0].closed, [(3, 3)], "what acked-below cannot tell is told again");
}

impl Bed {
    fn greet_to(&mut self, hello: &Hello) {
        self.welcome.stamp.0 += 1;
        self.receive(Entry::Welcome(Welcome { hello: hello.id, ..self.welcome.clone() }));
    }
}

#[test]
fn a_hello_is_repeated_as_it_is_and_then_the_connection_is_given_up() {
    let mut bed = Bed::new(Config::default());
    let hello = bed.dial();
    bed.pass(ms(2500));
    let hellos: Vec<_> =
        bed.sent.iter().map(|entry| matches!(entry, Entry::Hello(again) if *again == hello)).collect();
    assert_eq!(hellos, [true; 3]);
    bed.pass(ms(500));
    assert_eq!(bed.reconnects, 1);
    assert_eq!(bed.client.next_tick(), None);
}

#[test]
fn a_welcome_that_cannot_be_is_refused() {
    let mut bed = Bed::new(Config::default());
    bed.welcome.registration = Registration(0);
    bed.connect();
    assert_eq!(bed.reconnects, 1);

    for version in [0, 2] {
        let mut bed = Bed::new(Config::default());
        let handle = bed.once();
        bed.welcome.version = version;
        bed.connect();
        assert_eq!(bed.reconnects, 1);
        bed.failed_as(handle, Refusal::Incompatible, Outcome::No);
    }
}

#[test]
fn what_was_not_handed_out_is_not_sent_on_the_next_connection_and_stays_unsettled() {
    let mut bed = Bed::ready();
    let handle = bed.client.start(bed.intent(RetryClass::Once), bed.now);
    bed.client.disconnected();
    bed.take();
    assert_eq!(bed.calls(), []);
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.failure(handle), (&Why::Deadline, Outcome::Unknown));
}

#[test]
fn a_silent_connection_is_pinged_and_then_given_up() {
    let mut bed = Bed::beating();
    bed.sent.clear();
    bed.pass(ms(999));
    assert_eq!(bed.sent, []);
    bed.pass(ms(1));
    assert!(matches!(bed.sent[..], [Entry::Ping(_)]));
    bed.pass(ms(1999));
    assert_eq!(bed.reconnects, 0);
    bed.pass(ms(1));
    assert_eq!(bed.reconnects, 1);
    assert!(!bed.client.is_ready());
}

#[test]
fn a_client_that_only_listens_is_heard_of_too() {
    let mut bed = Bed::beating();
    bed.sent.clear();
    for _ in 0..3 {
        bed.pass(ms(500));
        bed.receive(Entry::Reply(reply_to(&stranger(), Answer::Ok(Bytes::new()))));
    }
    assert_eq!(bed.sent.iter().filter(|entry| matches!(entry, Entry::Ping(_))).count(), 1);
}

fn stranger() -> wire::Call {
    let mut bed = Bed::ready();
    bed.once();
    let call = bed.call();
    wire::Call { registration: Registration(0x999), ..call }
}

#[test]
fn a_ping_is_answered_and_many_are_answered_once() {
    let mut bed = Bed::ready();
    bed.sent.clear();
    bed.receive(Entry::Ping(5));
    assert_eq!(bed.sent, [Entry::Pong(5)]);
    (0..1000).for_each(|number| bed.client.received(Entry::Ping(number), bed.now));
    bed.sent.clear();
    bed.take();
    assert_eq!(bed.sent, [Entry::Pong(999)]);
}

#[test]
fn absurd_heartbeats_are_clamped() {
    for (asked, pings) in [(Duration::ZERO, 3), (Duration::MAX, 0)] {
        let mut bed = Bed::new(Config::default());
        bed.welcome.heartbeat = asked;
        bed.connect();
        bed.pass(ms(29));
        let sent = bed.sent.iter().filter(|entry| matches!(entry, Entry::Ping(_))).count();
        assert!(sent <= pings, "{sent}");
        assert_eq!(bed.reconnects, 0);
        bed.pass(Duration::from_secs(180));
        assert_eq!(bed.reconnects, 1);
    }
}

#[test]
fn acked_below_is_the_lowest_open_number_even_if_all_its_attempts_were_refused() {
    let mut bed = Bed::ready();
    let handles: Vec<_> = (0..3).map(|_| bed.once()).collect();
    let calls = bed.calls();
    assert!(calls.iter().all(|call| call.acked_below == 1));
    bed.refuse(&calls[0], Refusal::Overloaded);
    bed.ok(&calls[1]);
    bed.once();
    assert_eq!(bed.call().acked_below, 1, "the first is refused, not closed");
    bed.client.cancel(handles[0], bed.now);
    bed.once();
    assert_eq!(bed.call().acked_below, 3);
}

#[test]
fn closed_calls_are_acknowledged_when_no_call_does_it() {
    let mut bed = Bed::ready();
    bed.once();
    let call = bed.call();
    bed.ok(&call);
    bed.pass(ms(19));
    assert_eq!(bed.acks(), []);
    bed.pass(ms(1));
    let ack = wire::Ack { registration: Registration(0x100), below: 2, closed: Vec::new() };
    assert_eq!(bed.acks(), [ack]);
    bed.pass(ms(500));
    assert_eq!(bed.acks(), [], "once");
}

#[test]
fn a_client_that_ends_acknowledges_at_once_what_was_not_told() {
    let mut bed = Bed::ready();
    bed.client.leave(bed.now);
    bed.take();
    assert_eq!(bed.acks(), [], "nothing is closed");
    bed.once();
    let call = bed.call();
    bed.ok(&call);
    bed.client.leave(bed.now);
    bed.take();
    let ack = wire::Ack { registration: Registration(0x100), below: 2, closed: Vec::new() };
    assert_eq!(bed.acks(), [ack]);
    bed.once();
    let call = bed.call();
    bed.ok(&call);
    bed.client.disconnected();
    bed.client.leave(bed.now);
    bed.take();
    assert_eq!(bed.acks(), [], "there is nobody to tell");
}

#[test]
fn a_call_carries_the_acknowledgement_for_nothing() {
    let mut bed = Bed::ready();
    for number in 1..100 {
        bed.once();
        let call = bed.call();
        assert_eq!(call.acked_below, number);
        bed.ok(&call);
    }
    assert_eq!(bed.acks(), []);
}

#[test]
fn calls_closed_above_a_slow_one_are_told_by_ranges() {
    let mut bed = Bed::ready();
    let handles: Vec<_> = (0..8).map(|_| bed.once()).collect();
    let calls = bed.calls();
    for closed in [1, 2, 3, 6] {
        bed.ok(&calls[closed]);
    }
    bed.once();
    assert_eq!(bed.call().acked_below, 1);
    bed.pass(ms(20));
    let registration = Registration(0x100);
    assert_eq!(bed.acks(), [wire::Ack { registration, below: 1, closed: vec![(2, 4), (7, 7)] }]);
    assert!(bed.is_open(handles[0]));
}

#[test]
fn one_slow_call_does_not_fill_the_window() {
    let mut bed = Bed::new(Config { window: 64, ..Config::default() });
    bed.connect();
    bed.begin(Intent { deadline: Duration::from_secs(3600), ..bed.intent(RetryClass::Once) });
    bed.call();
    let mut kept = 1;
    for _ in 0..10_000 {
        let handle = bed.once();
        let call = bed.call();
        kept += 1;
        assert!(kept <= 64, "the server never keeps more records than the window");
        bed.ok(&call);
        assert!(bed.succeeded(handle));
        bed.done.clear();
        if !bed.acks().is_empty() {
            kept = 1;
        }
    }
    assert_eq!(bed.client.counters().acks, 2500, "one for each sixteenth of the window");
}

#[test]
fn a_long_list_of_ranges_is_sent_in_parts() {
    let mut bed = Bed::ready();
    for _ in 0..1000 {
        bed.once();
    }
    let calls = bed.calls();
    for call in calls.iter().skip(1).step_by(2) {
        bed.client.received(Entry::Reply(reply_to(call, Answer::Ok(Bytes::new()))), bed.now);
    }
    bed.take();
    bed.acks();
    bed.pass(ms(20));
    let acks = bed.acks();
    assert!(acks.iter().all(|ack| ack.closed.len() <= 256 && ack.below == 1));
    let told: Vec<_> = acks.into_iter().flat_map(|ack| ack.closed).collect();
    assert_eq!(told, (1..=500).map(|n| (2 * n, 2 * n)).collect::<Vec<_>>());
}

static SHAPE: [(u64, u64); 3] = [(1, 10), (2, 20), (3, 30)];

fn differing(shape: Vec<(u64, u64)>) -> Contract {
    Contract { interface: 1, fingerprint: 77, shape }
}

#[test]
fn a_contract_that_differs_is_told_and_an_incompatible_one_refused() {
    for (shape, compatible) in
        [(vec![(2, 20), (4, 40)], true), (Vec::new(), true), (vec![(4, 40), (3, 31)], false)]
    {
        let mut bed = Bed::new(Config::default());
        bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
        let handle = bed.once();
        let hello = bed.dial();
        assert_eq!(hello.contracts, [Contract { interface: 1, fingerprint: 76, shape: Vec::new() }]);
        bed.welcome.contracts =
            vec![Contract { interface: 9, fingerprint: 1, shape: vec![(1, 1)] }, differing(shape)];
        bed.greet();
        assert!(bed.notices.contains(&Notice::ContractDiffers { interface: "Account", compatible }));
        assert_eq!(bed.calls().len(), usize::from(compatible));
        if !compatible {
            bed.failed_as(handle, Refusal::Incompatible, Outcome::No);
        }
    }
}

#[test]
fn a_server_that_was_replaced_by_a_compatible_one_is_believed() {
    let mut bed = Bed::new(Config::default());
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.welcome.contracts = vec![differing(vec![(1, 11)])];
    bed.connect();
    let refused = bed.once();
    bed.failed_as(refused, Refusal::Incompatible, Outcome::No);
    bed.welcome.contracts.clear();
    bed.reconnect();
    bed.once();
    assert_eq!(bed.calls().len(), 1);
}

#[test]
fn a_contract_named_late_is_compared_before_its_first_call_and_disturbs_nothing() {
    let mut bed = Bed::ready();
    let under_way = bed.once();
    let call = bed.call();
    let before = bed.hello();
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.client.contract(2, "Account", 76, &SHAPE, bed.now);
    let late = bed.begin(Intent { interface: 2, ..bed.intent(RetryClass::Once) });
    let hello = bed.hello();
    assert_ne!(hello.id, before.id);
    assert_eq!(hello.contracts.len(), 1);
    assert_eq!(bed.calls(), []);
    bed.greet();
    assert_eq!(
        (bed.hello().contracts.len(), bed.calls()),
        (2, vec![]),
        "the second was named too late for that hello"
    );
    bed.welcome.contracts = vec![Contract { interface: 2, fingerprint: 77, shape: vec![(1, 11)] }];
    bed.greet();
    bed.failed_as(late, Refusal::Incompatible, Outcome::No);
    assert_eq!(bed.calls(), [], "what is under way is not sent again");
    bed.ok(&call);
    assert!(bed.succeeded(under_way));
}

/// The call, which is due, is sent again when the server has told its contracts.
fn goes_on_after_the_comparison(mut bed: Bed, handle: Handle) {
    assert_eq!(bed.calls(), [], "nothing is sent before the welcome");
    bed.greet();
    bed.pass(ms(10));
    let again = bed.call();
    assert_eq!(again.attempt, 2);
    bed.ok(&again);
    assert!(bed.succeeded(handle));
}

#[test]
fn a_back_off_that_ends_while_contracts_are_compared_is_followed_by_the_attempt() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    let call = bed.call();
    bed.refuse(&call, Refusal::Overloaded);
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.take();
    bed.pass(ms(500));
    goes_on_after_the_comparison(bed, handle);
}

#[test]
fn an_attempt_that_times_out_while_contracts_are_compared_is_followed_by_another() {
    let mut bed = Bed::ready();
    let handle = bed.once();
    bed.call();
    bed.pass(ms(900));
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.take();
    bed.pass(ms(200));
    goes_on_after_the_comparison(bed, handle);
}

#[test]
fn a_call_that_is_due_while_contracts_are_compared_outlives_the_connection() {
    let mut bed = Bed::ready();
    bed.once();
    bed.call();
    bed.pass(ms(900));
    bed.client.contract(1, "Account", 76, &SHAPE, bed.now);
    bed.take();
    bed.pass(ms(200));
    bed.reconnect();
    assert_eq!(bed.call().attempt, 2);
}

fn goodbye(refusal: Option<Refusal>) -> Entry {
    Entry::Goodbye(Goodbye { reason: "closing".into(), refusal })
}

#[test]
fn after_a_goodbye_what_is_under_way_is_awaited_and_the_rest_waits_for_the_next_connection() {
    let mut bed = Bed::ready();
    let (answered, refused) = (bed.once(), bed.once());
    let calls = bed.calls();
    bed.receive(goodbye(None));
    let held = bed.once();
    bed.refuse(&calls[1], Refusal::ShuttingDown);
    bed.pass(ms(200));
    assert_eq!((bed.calls(), bed.reconnects), (vec![], 0));
    bed.ok(&calls[0]);
    assert!(bed.succeeded(answered));
    assert_eq!(bed.reconnects, 1);
    bed.connect();
    let mut again: Vec<_> = bed.calls().iter().map(|call| (call.id, call.attempt)).collect();
    again.sort_by_key(|(_, attempt)| *attempt);
    assert_eq!(again, [(CallId::Sequenced(3), 1), (CallId::Sequenced(2), 2)]);
    assert!(bed.is_open(held) && bed.is_open(refused));
}

#[test]
fn a_goodbye_when_nothing_is_under_way_ends_the_connection_at_once() {
    let mut bed = Bed::ready();
    bed.receive(goodbye(None));
    assert_eq!(bed.reconnects, 1);
    bed.receive(goodbye(None));
    assert_eq!(bed.reconnects, 1);
}

#[test]
fn a_goodbye_for_good_fails_the_calls_and_another_only_the_connection() {
    for (refusal, fails) in [
        (Refusal::Incompatible, true),
        (Refusal::Denied, true),
        (Refusal::Malformed, false),
        (Refusal::Overloaded, false),
    ] {
        let mut bed = Bed::new(Config::default());
        let unsent = bed.once();
        bed.dial();
        bed.receive(goodbye(Some(refusal)));
        assert_eq!(bed.reconnects, 1);
        assert_eq!(bed.is_open(unsent), !fails);
        if fails {
            bed.failed_as(unsent, refusal, Outcome::No);
        }
    }
    let mut bed = Bed::ready();
    let sent = bed.once();
    bed.receive(goodbye(Some(Refusal::Denied)));
    bed.failed_as(sent, Refusal::Denied, Outcome::Unknown);
}
