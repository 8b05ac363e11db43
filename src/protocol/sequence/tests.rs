//! Single steps first, then what must hold of all of them: whatever is lost, repeated, reordered or cut, each event is delivered at
//! most once, and each loss that a later number reveals is counted exactly once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const TOPIC: &[u8] = b"price/ann";

fn numbers(publisher: u64, last: &[(&[u8], u64, u64)]) -> Numbers {
    let last = last
        .iter()
        .map(|(topic, epoch, sequence)| Last {
            topic: Bytes::copy_from_slice(topic),
            epoch: *epoch,
            sequence: *sequence,
        })
        .collect();
    Numbers { publisher, last, ..Numbers::default() }
}

/// A tracker for which `price/` stands, in sync with publisher 1.
fn standing(last: &[(&[u8], u64, u64)]) -> Tracker {
    let mut tracker = Tracker::new(100);
    tracker.synced([Bytes::from("price/")].iter(), &numbers(1, last));
    tracker
}

fn deliver(missed: u64) -> Judgement {
    Judgement { restarted: false, missed, deliver: true }
}

const DROP: Judgement = Judgement { restarted: false, missed: 0, deliver: false };

#[test]
fn events_in_order_have_no_gap_and_a_repeated_one_is_dropped() {
    let mut tracker = standing(&[(TOPIC, 0, 6)]);
    assert_eq!(tracker.event(1, TOPIC, 0, 7), deliver(0));
    assert_eq!(tracker.event(1, TOPIC, 0, 8), deliver(0));
    assert_eq!(tracker.event(1, TOPIC, 0, 8), DROP);
    assert_eq!(tracker.event(1, TOPIC, 0, 6), DROP, "from before the subscription stood");
}

#[test]
fn a_loss_is_counted_by_the_next_event_and_not_again() {
    let mut tracker = standing(&[]);
    assert_eq!(tracker.event(1, TOPIC, 0, 1), deliver(0));
    assert_eq!(tracker.event(1, TOPIC, 0, 5), deliver(3));
    assert_eq!(tracker.event(1, TOPIC, 0, 3), DROP, "late, and counted as missed");
    assert_eq!(tracker.beacon(&numbers(1, &[(TOPIC, 0, 5)])), Learned::default());
}

#[test]
fn the_loss_of_the_last_event_is_shown_by_a_beacon_once() {
    let mut tracker = standing(&[(TOPIC, 0, 1)]);
    let beacon = numbers(1, &[(TOPIC, 0, 3)]);
    assert_eq!(tracker.beacon(&beacon).gaps, [(Bytes::from_static(TOPIC), 2)]);
    assert_eq!(tracker.beacon(&beacon).gaps, []);
    assert_eq!(tracker.event(1, TOPIC, 0, 4), deliver(0));
}

#[test]
fn a_key_that_is_new_since_the_sync_begins_with_1() {
    let mut tracker = standing(&[]);
    assert_eq!(tracker.event(1, b"price/bob", 0, 4), deliver(3));
    assert_eq!(tracker.beacon(&numbers(1, &[(b"price/cleo", 0, 2)])).gaps, [(Bytes::from("price/cleo"), 2)]);
}

#[test]
fn where_the_sync_was_cut_a_first_contact_has_no_gap() {
    let mut tracker = Tracker::new(100);
    tracker.synced([Bytes::from("price/")].iter(), &Numbers { more: true, ..numbers(1, &[]) });
    assert_eq!(tracker.event(1, TOPIC, 0, 40), deliver(0));
    assert_eq!(tracker.event(1, TOPIC, 0, 42), deliver(1));
    assert_eq!(tracker.beacon(&numbers(1, &[(b"price/bob", 0, 9)])).gaps, []);
}

#[test]
fn what_comes_before_the_subscription_stands_is_neither_delivered_nor_missed() {
    let mut tracker = Tracker::new(100);
    assert_eq!(tracker.event(1, TOPIC, 0, 3), DROP);
    tracker.synced([Bytes::from("price/")].iter(), &numbers(1, &[(TOPIC, 0, 9)]));
    assert_eq!(tracker.event(1, TOPIC, 0, 10), deliver(0));
    // A further subscription stands later, and begins there.
    assert_eq!(tracker.event(1, b"news/", 0, 3), DROP);
    let learned =
        tracker.synced([Bytes::from("news/")].iter(), &numbers(1, &[(TOPIC, 0, 10), (b"news/", 0, 5)]));
    assert_eq!(learned, Learned::default());
    assert_eq!(tracker.event(1, b"news/", 0, 6), deliver(0));
}

#[test]
fn after_a_cut_the_sync_shows_what_was_missed_meanwhile() {
    let mut tracker = standing(&[(TOPIC, 0, 1), (b"price/bob", 0, 1)]);
    let answer = numbers(1, &[(TOPIC, 0, 4), (b"price/bob", 0, 1), (b"price/new", 0, 2)]);
    let learned = tracker.synced([Bytes::from("price/")].iter(), &answer);
    assert_eq!(learned.gaps, [(Bytes::from_static(TOPIC), 3), (Bytes::from("price/new"), 2)]);
}

#[test]
fn a_restart_is_told_once_and_numbers_begin_afresh() {
    let mut tracker = standing(&[(TOPIC, 0, 50)]);
    assert_eq!(tracker.event(2, TOPIC, 0, 3), Judgement { restarted: true, missed: 0, deliver: true });
    assert_eq!(tracker.event(2, TOPIC, 0, 4), deliver(0));
    let learned = tracker.synced([Bytes::from("price/")].iter(), &numbers(2, &[(TOPIC, 0, 5)]));
    assert_eq!(learned, Learned { restarted: false, gaps: vec![(Bytes::from_static(TOPIC), 1)] });
    assert!(tracker.beacon(&numbers(3, &[])).restarted);
}

#[test]
fn a_new_epoch_is_no_duplicate_and_an_old_one_is() {
    let mut tracker = standing(&[(TOPIC, 0, 50)]);
    assert_eq!(tracker.event(1, TOPIC, 3, 1), deliver(0));
    assert_eq!(tracker.event(1, TOPIC, 0, 51), DROP);
    assert_eq!(tracker.event(1, TOPIC, 4, 3), deliver(2));
}

#[test]
fn what_was_published_while_nobody_wanted_it_is_no_gap() {
    let mut tracker = standing(&[(TOPIC, 0, 1)]);
    tracker.leave(b"price/");
    assert_eq!(tracker.event(1, TOPIC, 0, 2), DROP);
    let learned = tracker.synced([Bytes::from("price/")].iter(), &numbers(1, &[(TOPIC, 0, 9)]));
    assert_eq!(learned, Learned::default());
}

#[test]
fn a_forgotten_key_has_no_gap_before_its_next_number_but_one() {
    let mut tracker = Tracker::new(2);
    tracker.synced([Bytes::from("p/")].iter(), &numbers(1, &[]));
    for topic in [b"p/a", b"p/b", b"p/c"] {
        assert_eq!(tracker.event(1, topic, 0, 1), deliver(0));
    }
    assert_eq!(tracker.event(1, b"p/a", 0, 4), deliver(0), "forgotten for p/c");
    assert_eq!(tracker.event(1, b"p/a", 0, 6), deliver(1));
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let mut tracker = standing(&[(TOPIC, 0, 0)]);
    assert_eq!(tracker.event(1, TOPIC, 0, u64::MAX), deliver(u64::MAX - 1));
    assert_eq!(tracker.event(1, TOPIC, u64::MAX, 0), deliver(0));
    assert_eq!(tracker.event(1, &[b'p'; TOPIC_LIMIT + 1], 0, 1), DROP);
}

#[test]
fn each_changed_number_is_in_two_beacons() {
    let mut numbering = Numbering::new(10);
    let (a, b) = (Bytes::from("t/a"), Bytes::from("t/b"));
    numbering.next(&a);
    assert_eq!(numbering.changed(), std::slice::from_ref(&a));
    numbering.next(&b);
    assert_eq!(numbering.changed(), [b.clone(), a]);
    assert_eq!(numbering.changed(), [b]);
    assert!(numbering.changed().is_empty());
}

#[test]
fn numbers_are_found_by_prefix_once_and_up_to_the_limit() {
    let mut numbering = Numbering::new(10);
    for topic in ["a/1", "a/2", "ab/1", "b/1"] {
        numbering.next(&Bytes::from(topic));
    }
    let found = |prefixes: &[&'static str], limit| {
        let prefixes: Vec<Bytes> = prefixes.iter().map(|prefix| Bytes::from(*prefix)).collect();
        let (last, more) = numbering.matching(prefixes.iter(), limit * number_cost(b"a/1"));
        (
            last.into_iter().map(|last| String::from_utf8(last.topic.to_vec()).unwrap()).collect::<Vec<_>>(),
            more,
        )
    };
    assert_eq!(found(&["b/", "a/2", "a/"], 9), (vec!["a/1".into(), "a/2".into(), "b/1".into()], false));
    assert_eq!(found(&[""], 4).0.len(), 4);
    assert_eq!(found(&["a"], 2), (vec!["a/1".into(), "a/2".into()], true));
    assert_eq!(found(&["c"], 2), (vec![], false));
}

proptest! {
    /// A key that comes back after it was forgotten never has a number that it had before.
    #[test]
    fn no_number_is_given_twice(capacity in 1..4usize, keys in prop::collection::vec(0..6u8, 0..100)) {
        let mut numbering = Numbering::new(capacity);
        let mut last = BTreeMap::new();
        for key in keys {
            let (epoch, sequence) = numbering.next(&Bytes::from(vec![b'k', key]));
            let before = last.insert(key, (epoch, sequence));
            prop_assert!(before.is_none_or(|before| before < (epoch, sequence)));
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Publish(u8),
    /// Hands a message to the subscriber: of those in flight the one at this place, and keeps it there too if told so.
    Arrive(usize, bool),
    Lose(usize),
    Beacon,
    /// The connection is cut, with all that is in flight; then a sync.
    Cut,
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let a_move = prop_oneof![
        10 => (0..4u8).prop_map(Move::Publish),
        8 => (0..3usize, prop::bool::weighted(0.1)).prop_map(|(at, keep)| Move::Arrive(at, keep)),
        3 => (0..3usize).prop_map(Move::Lose),
        2 => Just(Move::Beacon),
        1 => Just(Move::Cut),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(a_move, 0..200)
}

#[derive(Clone, Debug)]
enum InFlight {
    Event { topic: Bytes, epoch: u64, sequence: u64 },
    Numbers(Numbers),
}

/// The subscriber's account of one incarnation.
#[derive(Default)]
struct Account {
    delivered: BTreeMap<Bytes, BTreeSet<u64>>,
    missed: BTreeMap<Bytes, u64>,
    /// The greatest number that anything has shown.
    shown: BTreeMap<Bytes, u64>,
    restarts: u64,
}

impl Account {
    fn take(&mut self, tracker: &mut Tracker, publisher: u64, message: &InFlight, synced: bool) {
        match message {
            InFlight::Event { topic, epoch, sequence } => {
                let judgement = tracker.event(publisher, topic, *epoch, *sequence);
                self.restarts += u64::from(judgement.restarted);
                *self.missed.entry(topic.clone()).or_default() += judgement.missed;
                if judgement.deliver {
                    assert!(
                        self.delivered.entry(topic.clone()).or_default().insert(*sequence),
                        "delivered twice"
                    );
                }
                self.show(topic, *sequence);
            }
            InFlight::Numbers(numbers) => {
                let prefix = Bytes::from("t/");
                let learned = match synced {
                    true => tracker.synced([prefix].iter(), numbers),
                    false => tracker.beacon(numbers),
                };
                self.restarts += u64::from(learned.restarted);
                for (topic, missed) in learned.gaps {
                    *self.missed.entry(topic).or_default() += missed;
                }
                for last in &numbers.last {
                    self.show(&last.topic, last.sequence);
                }
            }
        }
    }

    fn show(&mut self, topic: &Bytes, sequence: u64) {
        let shown = self.shown.entry(topic.clone()).or_default();
        *shown = sequence.max(*shown);
    }

    /// Each number up to the greatest that was shown is delivered or missed, and none is both.
    fn check(&self) {
        for (topic, shown) in &self.shown {
            let delivered = self.delivered.get(topic).map_or(0, BTreeSet::len) as u64;
            let missed = self.missed.get(topic).copied().unwrap_or(0);
            assert_eq!(delivered + missed, *shown, "{topic:?}: delivered {delivered}, missed {missed}");
        }
    }
}

proptest! {
    #[test]
    fn every_loss_that_shows_is_counted_once(moves in moves()) {
        let mut numbering = Numbering::new(100);
        let mut tracker = Tracker::new(100);
        let mut publisher = 1;
        let mut in_flight: Vec<InFlight> = Vec::new();
        let mut account = Account::default();
        let sync = |numbering: &Numbering, publisher| {
            let (last, more) = numbering.matching([Bytes::from("t/")].iter(), usize::MAX);
            InFlight::Numbers(Numbers { publisher, sync: 1, last, more, ..Numbers::default() })
        };
        account.take(&mut tracker, publisher, &sync(&numbering, publisher), true);
        for a_move in moves {
            match a_move {
                Move::Publish(key) => {
                    let topic = Bytes::from(format!("t/{key}"));
                    let (epoch, sequence) = numbering.next(&topic);
                    in_flight.push(InFlight::Event { topic, epoch, sequence });
                }
                Move::Arrive(at, keep) if at < in_flight.len() => {
                    let message = in_flight[at].clone();
                    if !keep {
                        in_flight.remove(at);
                    }
                    account.take(&mut tracker, publisher, &message, false);
                }
                Move::Lose(at) if at < in_flight.len() => drop(in_flight.remove(at)),
                Move::Arrive(..) | Move::Lose(_) => {}
                Move::Beacon => {
                    let last = numbering.changed().iter().filter_map(|topic| numbering.last(topic)).collect();
                    in_flight.push(InFlight::Numbers(Numbers { publisher, last, ..Numbers::default() }));
                }
                Move::Cut => {
                    in_flight.clear();
                    account.take(&mut tracker, publisher, &sync(&numbering, publisher), true);
                }
                Move::Restart => {
                    account.check();
                    in_flight.clear();
                    (publisher, numbering, account) = (publisher + 1, Numbering::new(100), Account::default());
                    account.take(&mut tracker, publisher, &sync(&numbering, publisher), true);
                    prop_assert_eq!(account.restarts, 1);
                }
            }
            account.check();
        }
        prop_assert!(account.restarts <= 1);
    }
}
