//! Whether what was told stored is there after a crash: random operations in random batches on a disk that fails at a random write or sync, and then keeps
//! any part of what was not synced. What is found is compared with a model that knows no file. The log is as long as a new store's, or so short that the tables
//! are committed after every few batches.

mod disk;
mod model;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use self::disk::Disk;
use self::model::Model;
use super::codec::{self, Head};
use super::{Failure, Urgency, Writer, log, opening};
use crate::protocol::dedup::Imprint;
use crate::protocol::store::{Done, Intent, Kept, Op, Opened, RecordId, StoreEvent, StoredSession, Ticket};
use crate::protocol::wire::{Answer, Refused};
use crate::protocol::{CallId, Incarnation, Key, PrincipalId, Refusal, Registration, Stamp, WallTime};

const INCARNATION: Incarnation = Incarnation(7);

fn open(disk: &Disk, rerun: bool) -> Result<(Writer, Opened), Failure> {
    opening::open(disk.clone(), rerun, INCARNATION)
}

/// Room for seven small entries.
const SHORT: u32 = 4096;

/// A file as a new store has it.
fn new_file(log: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    opening::create(&path, log).expect("a new store");
    std::fs::read(path).expect("the file")
}

/// What became of batches that were asked for one after the other.
struct Ran {
    /// How many were asked for.
    asked: usize,
    /// What was done of each; of the last that was asked, if that was told.
    done: Vec<Vec<Done>>,
    /// Err: the store has stopped.
    ended: Result<(), Failure>,
}

/// Asks for batches one after the other. `last`: when there is none left, before the store ends in order.
fn run(writer: &mut Writer, batches: &[Vec<Op>], last: impl FnOnce()) -> Ran {
    let (mut left, mut last) = (batches.iter(), Some(last));
    let (mut asked, mut told) = (0, Vec::new());
    let ended = writer.run(
        |batch| match left.next() {
            Some(ops) => {
                asked += 1;
                batch.extend((0..).map(Ticket).zip(ops.iter().cloned()));
                true
            }
            None => {
                last.take().into_iter().for_each(|last| last());
                false
            }
        },
        |event| {
            let StoreEvent::Done(Ticket(ticket), what) = event else { panic!("not asked for: {event:?}") };
            told.push((ticket, what));
        },
    );
    let mut told = told.into_iter();
    let mut done = Vec::new();
    for ops in batches {
        let of: Vec<_> = told.by_ref().take(ops.len()).collect();
        if of.is_empty() {
            break;
        }
        let tickets = of.iter().map(|(ticket, _)| *ticket);
        assert!(
            tickets.eq(0..ops.len() as u64),
            "all of a batch or nothing, in the order in which it was asked"
        );
        done.push(of.into_iter().map(|(_, what)| what).collect());
    }
    assert!(told.next().is_none() && done.len() <= asked && asked <= done.len() + 1);
    Ran { asked, done, ended }
}

fn intents() -> impl Strategy<Value = Intent> {
    let id = prop_oneof![
        3 => (1u64..7).prop_map(CallId::Sequenced),
        1 => (1u128..4, 1u64..20).prop_map(|(key, expiry)| {
            CallId::Keyed(Key { key, issued: WallTime(1), expiry: WallTime(expiry) })
        }),
    ];
    (1u128..4, id, any::<u16>()).prop_map(|(registration, id, method)| Intent {
        registration: Registration(registration),
        principal: PrincipalId::ANYONE,
        id,
        imprint: Imprint { interface: 1, method, digest: 2, first_stamp: Stamp(3) },
    })
}

fn answers() -> impl Strategy<Value = Answer> {
    let body = prop::collection::vec(any::<u8>(), 0..3000).prop_map(Bytes::from);
    let text = ".{0,40}";
    let refusal =
        prop::sample::select(vec![Refusal::HelloFirst, Refusal::ReplyEvicted, Refusal::RecordedUnknown]);
    let pause = prop::option::of((any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n)));
    prop_oneof![
        4 => body.clone().prop_map(Answer::Ok),
        1 => (any::<u64>(), body).prop_map(|(fault, body)| Answer::Declined { fault, body }),
        1 => text.prop_map(Answer::Failed),
        1 => (refusal, any::<bool>(), pause, text).prop_map(|(refusal, ambiguous, retry_after, message)| {
            Answer::Refused(Refused { refusal, ambiguous, retry_after, message })
        }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let registration = (1u128..4).prop_map(Registration);
    prop_oneof![
        2 => registration.clone().prop_map(|registration| Op::Register { registration, principal: PrincipalId::ANYONE }),
        6 => intents().prop_map(Op::Claim),
        6 => (intents(), prop::option::of(answers())).prop_map(|(intent, keep)| Op::Finish { claim: Ticket(0), intent, keep }),
        3 => (registration.clone(), 0u64..8, prop::collection::vec((1u64..8, 1u64..8), 0..3))
            .prop_map(|(registration, below, ranges)| Op::Close { registration, below, ranges }),
        1 => registration.prop_map(Op::End),
        1 => prop::collection::vec((1u128..4, 1u64..20), 1..3).prop_map(|expired| {
            Op::Expire(expired.into_iter().map(|(key, expiry)| (PrincipalId::ANYONE, key, WallTime(expiry))).collect())
        }),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(ops(), 1..8), 1..12)
}

/// Does the batches on a disk that fails at this step, crashes, opens what is left, and compares. Whether the disk failed before the crash.
fn crash(file: &[u8], batches: &[Vec<Op>], rerun: bool, fail_at: usize, seed: u64) -> bool {
    let disk = Disk::new(file.to_vec(), fail_at);
    let mut failed = true;
    // States that may be found: from the last batch that had to be durable to the last one that was asked.
    let mut may_be = vec![Model::default()];
    if let Ok((mut writer, opened)) = open(&disk, rerun) {
        assert_eq!(Model::of(&opened), Model::default());
        let Ran { asked, done, ended } = run(&mut writer, batches, || {
            failed = disk.has_failed();
            // No orderly end: the process is killed.
            disk.fail_from_now_on();
        });
        assert!(ended.is_err());
        for (at, batch) in batches[..asked].iter().enumerate() {
            let mut model = may_be.last().expect("never empty").clone();
            let expected: Vec<Done> = batch.iter().map(|op| model.apply(op, INCARNATION)).collect();
            may_be.push(model);
            let ops: Vec<_> = batch.iter().map(|op| (Ticket(0), op.clone())).collect();
            if let Some(done) = done.get(at) {
                assert_eq!(*done, expected);
                if Urgency::of(&ops).durable {
                    may_be.drain(..may_be.len() - 1);
                }
            }
        }
        let writes = disk.asked();
        let more = vec![Op::End(Registration(9)), batches[0][0].clone()];
        assert!(!failed || run(&mut writer, &[more], || ()).ended.is_err());
        drop(writer);
        assert!(!failed || disk.asked() == writes, "a store that has failed writes nothing any more");
    }
    let after = Disk::new(disk.after_a_crash(seed), usize::MAX);
    let (mut writer, opened) = open(&after, rerun).expect("what a crash leaves can be opened");
    let found = Model::of(&opened);
    let mut expected = may_be.iter().map(|model| model.recovered(rerun));
    assert!(expected.any(|model| model == found), "found {:?}, expected one of {:?}", found, may_be);

    // And it stays so, after an orderly end.
    run(&mut writer, &[], || ()).ended.expect("nothing fails any more");
    drop(writer);
    let (_writer, again) = open(&after, rerun).expect("opens again");
    assert_eq!(again.ordinal, opened.ordinal + 1, "every incarnation is counted");
    assert_eq!((again.store, again.generation, again.born), (opened.store, opened.generation, opened.born));
    assert_eq!(Model::of(&again), found);
    failed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_was_told_stored_is_there_after_a_crash(
        batches in batches(),
        rerun in any::<bool>(),
        length in prop::sample::select(vec![SHORT, log::LENGTH]),
        fail_at in 0usize..160,
        seed in any::<u64>(),
    ) {
        crash(&new_file(length), &batches, rerun, fail_at, seed);
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_never_as_another(
        intent in intents(),
        state in prop_oneof![
            any::<u64>().prop_map(|owner| Kept::Running(Incarnation(owner))),
            answers().prop_map(Kept::Ended),
        ],
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let id = intent.record();
        let value = codec::encode_record(&intent, &state);
        prop_assert_eq!(codec::decode_record(id, &value), Ok((intent, state)));
        let mut flipped = value.clone();
        flipped[at.index(value.len())] ^= 1 << bit;
        prop_assert!(codec::decode_record(id, &flipped).is_err());
        prop_assert!(codec::decode_record(id, &value[..cut.index(value.len())]).is_err());
        let elsewhere = RecordId::Sequenced(Registration(99), 1);
        prop_assert!(codec::decode_record(elsewhere, &value).is_err());
    }

    #[test]
    fn a_session_and_a_head_are_read_as_they_were_written(
        numbers in any::<(u128, u64, u64, u64, u64)>(),
        ranges in prop::collection::vec(any::<(u64, u64)>(), 0..5),
    ) {
        let (id, a, b, c, d) = numbers;
        let session = StoredSession { registration: Registration(id), principal: PrincipalId(a), below: b, ranges };
        let value = codec::encode_session(&session);
        prop_assert_eq!(codec::decode_session(session.registration, &value), Ok(session));
        prop_assert!(codec::decode_session(Registration(!id), &value).is_err());
        let head = Head { store: id, generation: a, ordinal: b, born: WallTime(c), floor: WallTime(d), applied: !a };
        prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
    }

    #[test]
    fn bytes_from_nowhere_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Head::decode(&bytes).is_err());
        prop_assert!(codec::decode_session(Registration(1), &bytes).is_err());
        prop_assert!(codec::decode_record(RecordId::Keyed(PrincipalId(0), 1), &bytes).is_err());
    }
}

/// A disk that is bad at every step in turn, while a store is opened and while it works.
#[test]
fn a_failed_write_or_sync_stops_the_store_wherever_it_happens() {
    let file = new_file(SHORT);
    let mut stopped = 0;
    for fail_at in 0.. {
        let disk = Disk::new(file.clone(), fail_at);
        let register = Op::Register { registration: Registration(1), principal: PrincipalId::ANYONE };
        let result = open(&disk, false).and_then(|(mut writer, _)| {
            let Ran { done, ended, .. } = run(&mut writer, &[vec![register]], || ());
            ended.map(|()| done)
        });
        match result {
            Ok(_) if !disk.has_failed() => break,
            Ok(done) => assert_eq!(done, [[Done::Stored]], "it failed only when it was closed"),
            Err(_) => stopped += 1,
        }
    }
    assert!(stopped > 4, "{stopped} steps were tried");
}

/// A crash after every write and sync of a store whose log is filled twice, so that each part of an entry and of a commit is torn somewhere.
#[test]
fn a_crash_at_any_step_loses_nothing_that_was_told() {
    let intent = |number| Intent {
        registration: Registration(1),
        principal: PrincipalId::ANYONE,
        id: CallId::Sequenced(number),
        imprint: Imprint::default(),
    };
    let mut batches =
        vec![vec![Op::Register { registration: Registration(1), principal: PrincipalId::ANYONE }]];
    for number in 1..8 {
        let keep = Some(Answer::Ok(Bytes::from(vec![number as u8; 600 * (number as usize % 3)])));
        batches.push(vec![Op::Claim(intent(number))]);
        batches.push(vec![Op::Finish { claim: Ticket(0), intent: intent(number), keep }]);
        batches.push(vec![Op::Close {
            registration: Registration(1),
            below: number - 1,
            ranges: Vec::new(),
        }]);
    }
    let file = new_file(SHORT);
    let steps = (0..).find(|at| !crash(&file, &batches, at % 2 == 0, *at, *at as u64 + 1));
    assert!(steps.is_some_and(|steps| steps > 40), "{steps:?} steps were tried");
}

/// Leaves a running call of a kind in a file, and opens it again.
fn reopened(rerun: bool) -> Opened {
    let disk = Disk::new(new_file(log::LENGTH), usize::MAX);
    let (mut writer, _) = open(&disk, rerun).expect("opens");
    let intent = |number| Intent {
        registration: Registration(1),
        principal: PrincipalId::ANYONE,
        id: CallId::Sequenced(number),
        imprint: Imprint::default(),
    };
    let session = Op::Register { registration: Registration(1), principal: PrincipalId::ANYONE };
    let close = Op::Close { registration: Registration(1), below: 2, ranges: Vec::new() };
    let ops = [session, Op::Claim(intent(1)), Op::Claim(intent(2)), close];
    let done = run(&mut writer, &[ops.to_vec()], || disk.fail_from_now_on()).done;
    assert_eq!(done, [[Done::Stored, Done::Claimed, Done::Claimed, Done::Stored]]);
    drop(writer);
    let after = Disk::new(disk.after_a_crash(1), usize::MAX);
    open(&after, rerun).expect("opens").1
}

#[test]
fn s15_an_intent_without_completion_becomes_a_recorded_unknown() {
    let opened = reopened(false);
    let [(intent, answer)] = &opened.records[..] else { panic!("one record, not {:?}", opened.records) };
    assert_eq!(intent.id, CallId::Sequenced(2), "nobody asks for the one that was closed");
    assert!(
        matches!(answer, Answer::Refused(Refused { refusal: Refusal::RecordedUnknown, ambiguous: true, .. })),
        "{answer:?}"
    );
}

#[test]
fn s15_running_again_is_opted_for() {
    assert_eq!(reopened(true).records, []);
}
