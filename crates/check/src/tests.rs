//! Every rule once kept and once broken; then the text form.

use crate::{Checker, Class, Expect, Fact, Nonce, Replied, Report, Rule, Told, parse, read};

const S: Nonce = Nonce::Sequenced { registration: 0xabc, number: 7 };
const K: Nonce = Nonce::Keyed { principal: 1, key: 0xdef };
const EXPECT: Expect = Expect { atomic: true, one_clock: true, slack: 10, grace: Some(100) };

fn call(call: u64, key: Option<Nonce>) -> Fact {
    Fact::Call { call, purpose: 1, class: Class::Once, key, body: 0xb0d, tally: None, deadline: 1000 }
}

fn counted(call: u64) -> Fact {
    Fact::Call {
        call,
        purpose: call,
        class: Class::Once,
        key: None,
        body: 0xb0d,
        tally: Some(5),
        deadline: 1000,
    }
}

fn told(call: u64, nonce: Nonce, told: Told) -> Fact {
    Fact::Told { call, nonce: Some(nonce), told }
}

fn start(nonce: Nonce) -> Fact {
    Fact::Start { nonce, replica: 1, incarnation: 1 }
}

fn effect(nonce: Nonce) -> Fact {
    Fact::Effect { nonce, purpose: Some(1), tally: None, body: 0xb0d, replica: 1, incarnation: 1 }
}

fn one_more(nonce: Nonce) -> Fact {
    Fact::Effect { nonce, purpose: None, tally: Some(5), body: 0xb0d, replica: 1, incarnation: 1 }
}

fn reply(nonce: Nonce, replied: Replied) -> Fact {
    Fact::Reply { nonce, attempt: 1, replica: 1, incarnation: 1, replied }
}

fn judge(facts: &[(u64, Fact)]) -> Report {
    let run = |facts: &mut dyn Iterator<Item = &(u64, Fact)>| {
        let mut checker = Checker::new(EXPECT);
        facts.for_each(|(at, fact)| checker.take(*at, fact.clone()));
        checker.finish()
    };
    let report = run(&mut facts.iter());
    assert_eq!(
        report.is_clean(),
        run(&mut facts.iter().rev()).is_clean(),
        "the order of the log does not matter"
    );
    report
}

/// The rule is checked and kept in the first log, and broken in the second; no other rule is broken in the first.
fn both(rule: Rule, clean: &[(u64, Fact)], broken: &[(u64, Fact)]) {
    let report = judge(clean);
    assert!(report.is_clean(), "{:?}", report.violations);
    assert!(report.checks(rule) > 0, "{rule:?} was not checked");
    let report = judge(broken);
    assert!(report.broken(rule) > 0, "{rule:?} was not broken: {:?}", report.violations);
}

#[test]
fn two_effects_of_a_nonce() {
    let clean = [(1, call(1, None)), (2, effect(S)), (3, told(1, S, Told::Unknown { lasting: false }))];
    let broken = [(1, call(1, None)), (2, one_more(S)), (2, one_more(S)), (3, told(1, S, Told::Failed))];
    both(Rule::OncePerNonce, &clean, &broken);
}

#[test]
fn two_effects_of_a_purpose_under_two_nonces() {
    let clean = [(1, call(1, None)), (2, effect(S)), (3, told(1, S, Told::Ok(1)))];
    let broken = [(1, call(1, None)), (2, effect(S)), (2, effect(K)), (3, told(1, S, Told::Ok(1)))];
    both(Rule::OncePerPurpose, &clean, &broken);
}

#[test]
fn ok_without_an_effect() {
    let clean = [(1, call(1, None)), (2, effect(S)), (3, told(1, S, Told::Ok(1)))];
    both(Rule::OkRan, &clean, &[(1, call(1, None)), (3, told(1, S, Told::Ok(1)))]);
}

#[test]
fn one_effect_told_to_two_callers() {
    let begin = [(1, counted(1)), (1, counted(2)), (2, one_more(S)), (3, told(1, S, Told::Ok(1)))];
    let clean = [&begin[..], &[(3, told(2, S, Told::Unknown { lasting: true }))]].concat();
    both(Rule::OkRan, &clean, &[&begin[..], &[(3, told(2, S, Told::Ok(1)))]].concat());
}

#[test]
fn yes_without_a_handler() {
    let clean = [(1, call(1, None)), (2, start(S)), (3, told(1, S, Told::Yes))];
    both(Rule::YesRan, &clean, &[(1, call(1, None)), (3, told(1, S, Told::Yes))]);
}

#[test]
fn no_and_an_effect_then_or_later() {
    let clean = [(1, call(1, None)), (3, told(1, S, Told::No))];
    both(Rule::NoIsNo, &clean, &[(1, call(1, None)), (3, told(1, S, Told::No)), (900, effect(S))]);
    let declined = [(1, call(1, None)), (2, effect(S)), (3, told(1, S, Told::Declined(1)))];
    both(Rule::NoIsNo, &clean, &declined);
}

#[test]
fn an_unknown_that_stays_in_atomic_mode() {
    let unknown = Told::Unknown { lasting: false };
    let begin =
        [(1, call(1, Some(K))), (2, told(1, K, unknown)), (50, Fact::Healed), (500, call(2, Some(K)))];
    let clean = [&begin[..], &[(501, effect(K)), (510, told(2, K, Told::Ok(1)))]].concat();
    both(Rule::UnknownResolved, &clean, &[&begin[..], &[(510, told(2, K, unknown))]].concat());
    let expired = judge(&[&begin[..], &[(510, told(2, K, Told::Unknown { lasting: true }))]].concat());
    assert!(expired.is_clean(), "an expired nonce can tell no more");
}

#[test]
fn two_answers_to_one_call() {
    let begin = [(1, call(1, None)), (2, effect(S)), (3, reply(S, Replied::Ok(1)))];
    let end = (9, told(1, S, Told::Ok(1)));
    let evicted = (4, reply(S, Replied::ReplyEvicted));
    let clean = [&begin[..], &[(4, reply(S, Replied::Ok(1))), evicted, end.clone()]].concat();
    both(Rule::SameReply, &clean, &[&begin[..], &[(4, reply(S, Replied::Ok(2))), end]].concat());
    both(Rule::SameReply, &clean, &[&begin[..], &[(9, told(1, S, Told::Ok(2)))]].concat());
}

#[test]
fn an_effect_of_other_parameters() {
    let other =
        Fact::Effect { nonce: S, purpose: Some(1), tally: None, body: 0xbad, replica: 1, incarnation: 1 };
    let clean = [(1, call(1, None)), (2, effect(S)), (3, told(1, S, Told::Ok(1)))];
    both(Rule::SameBody, &clean, &[(1, call(1, None)), (2, other), (3, told(1, S, Told::Ok(1)))]);
}

#[test]
fn an_effect_that_starts_after_a_final_refusal() {
    for (nonce, refusal) in
        [(S, Replied::Stale), (S, Replied::SessionUnknown), (S, Replied::Expired), (K, Replied::Expired)]
    {
        let begin = [(1, call(1, None)), (9, told(1, nonce, Told::Unknown { lasting: true }))];
        // It started before: its effect may still land.
        let clean =
            [&begin[..], &[(2, start(nonce)), (5, reply(nonce, refusal)), (8, effect(nonce))]].concat();
        both(
            Rule::NothingAfterRefusal,
            &clean,
            &[&begin[..], &[(5, reply(nonce, refusal)), (6, start(nonce))]].concat(),
        );
    }
    let elsewhere = judge(&[
        (1, call(1, Some(K))),
        (5, reply(K, Replied::SessionUnknown)),
        (6, start(K)),
        (7, Fact::Left { call: 1 }),
    ]);
    assert!(elsewhere.is_clean(), "another session may ask under the same key");
}

#[test]
fn a_counter_outside_of_what_was_told() {
    let begin = [(1, counted(1)), (1, counted(2)), (2, one_more(S))];
    let unknown = (3, told(2, K, Told::Unknown { lasting: false }));
    let clean = [&begin[..], &[(3, told(1, S, Told::Ok(1))), unknown.clone()]].concat();
    both(
        Rule::CounterWithin,
        &clean,
        &[&begin[..], &[(3, told(1, S, Told::Ok(1))), (3, told(2, S, Told::Ok(1)))]].concat(),
    );
    both(
        Rule::CounterWithin,
        &clean,
        &[&begin[..], &[(3, told(1, K, Told::No)), (3, told(2, K, Told::No))]].concat(),
    );
}

#[test]
fn a_call_that_does_not_end() {
    let clean =
        [(1, call(1, None)), (1010, told(1, S, Told::No)), (1, call(2, None)), (3, Fact::Left { call: 2 })];
    both(Rule::Ends, &clean, &[(1, call(1, None))]);
    both(Rule::Ends, &clean, &[(1, call(1, None)), (1011, told(1, S, Told::No))]);
    let healed = [(1, call(1, None)), (2000, Fact::Healed), (2010, told(1, S, Told::No))];
    both(Rule::Ends, &healed, &[(1, call(1, None)), (2000, Fact::Healed), (2011, told(1, S, Told::No))]);
}

#[test]
fn a_call_that_is_given_up_although_nothing_disturbs() {
    let begin = [(1, Fact::Healed), (101, call(1, None))];
    let clean = [&begin[..], &[(102, effect(S)), (103, told(1, S, Told::Ok(1)))]].concat();
    both(Rule::WellAfterHealing, &clean, &[&begin[..], &[(900, told(1, S, Told::No))]].concat());
}

#[test]
fn told_twice_or_of_nothing() {
    let clean = [(1, call(1, None)), (3, told(1, S, Told::No))];
    both(Rule::ToldOnce, &clean, &[&clean[..], &[(4, told(1, S, Told::No))]].concat());
    both(Rule::ToldOnce, &clean, &[(4, told(1, S, Told::No))]);
}

#[test]
fn more_than_there_may_be() {
    let measure = |value| Fact::Measure { what: "records".into(), value, at_most: 9 };
    both(Rule::Bounds, &[(1, measure(9))], &[(1, measure(10))]);
}

#[test]
fn a_call_that_may_run_twice_may() {
    let twice = Fact::Call {
        call: 1,
        purpose: 1,
        class: Class::Idempotent,
        key: None,
        body: 0xb0d,
        tally: None,
        deadline: 1000,
    };
    let report = judge(&[
        (1, twice),
        (2, effect(S)),
        (3, effect(S)),
        (3, reply(S, Replied::Ok(1))),
        (4, reply(S, Replied::Declined(2))),
        (5, told(1, S, Told::Declined(2))),
    ]);
    assert!(report.is_clean(), "{:?}", report.violations);
}

#[test]
fn facts_are_read_as_they_were_written() {
    let facts = [
        call(1, Some(K)),
        counted(2),
        told(1, S, Told::Ok(0x1f)),
        told(1, K, Told::Declined(2)),
        told(1, K, Told::Failed),
        told(1, K, Told::Yes),
        told(1, K, Told::No),
        told(1, K, Told::Unknown { lasting: true }),
        Fact::Told { call: 1, nonce: None, told: Told::Unknown { lasting: false } },
        Fact::Left { call: 3 },
        start(K),
        effect(S),
        one_more(K),
        reply(S, Replied::Ok(1)),
        reply(S, Replied::Declined(1)),
        reply(S, Replied::Failed(1)),
        reply(S, Replied::RecordedUnknown),
        reply(S, Replied::Stale),
        reply(S, Replied::SessionUnknown),
        reply(S, Replied::Expired),
        reply(S, Replied::ReplyEvicted),
        Fact::Healed,
        Fact::Measure { what: "records".into(), value: 1, at_most: 2 },
    ];
    let log: String = facts.iter().map(|fact| format!("12 {fact}\n")).collect();
    let lines = read(&log).unwrap();
    assert!(!lines.torn);
    assert_eq!(lines.facts.into_iter().map(|(_, fact)| fact).collect::<Vec<_>>(), facts);
    for cut in 0..log.len() {
        let lines = read(&log[..cut]).expect("whatever was written before is whole");
        assert_eq!(lines.torn, cut > 0 && !log[..cut].ends_with('\n'), "at {cut}");
    }
}

#[test]
fn a_line_that_is_no_fact_is_named() {
    for (line, why) in [
        ("", "an empty line"),
        ("x healed", "not a time"),
        ("1", "no fact"),
        ("1 exploded", "exploded"),
        ("1 left call", "not name=value"),
        ("1 left", "call= is missing"),
        ("1 left call=x", "not a number"),
        ("1 told call=1 nonce=q-1-2 told=no", "nonce"),
        ("1 told call=1 nonce=- told=perhaps", "perhaps"),
        ("1 call call=1 purpose=1 class=twice key=- body=1 tally=- deadline=1", "twice"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(why), "{line:?}: {error}");
        let log = format!("1 healed\n{line}\n");
        assert!(read(&log).unwrap_err().to_string().starts_with("line 2: "));
    }
}

#[test]
fn the_table_has_every_rule() {
    let table = judge(&[(1, call(1, None)), (3, told(1, S, Told::No))]).to_string();
    for rule in Rule::ALL {
        assert!(table.contains(rule.name()) && !rule.says().is_empty());
    }
}
