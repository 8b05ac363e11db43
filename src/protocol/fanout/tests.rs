//! Single rules first. Then a publisher with subscribers of every kind behind sockets of a size, moved at random: what each
//! [`Tracker`] was told must account for every event that was published.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::sequence::{Learned, Tracker, number_cost};
use crate::protocol::wire::Last;

const ANN: ConnectionId = ConnectionId(1);
const BOB: ConnectionId = ConnectionId(2);
const NOW: Moment = Duration::ZERO;
const BODY: usize = 100;

fn published(topic: &str) -> Published {
    Published {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        type_id: 7,
        trace: None,
        body: Bytes::from(vec![0; BODY]),
    }
}

fn frame(kind: u8, prefix: &[u8]) -> Vec<Bytes> {
    vec![Bytes::from([&[kind], prefix].concat())]
}

fn fanout(limits: Limits) -> Fanout {
    Fanout::new(1, limits)
}

fn join(fanout: &mut Fanout, connection: ConnectionId, prefixes: &[&str]) {
    fanout.opened(connection, None);
    for prefix in prefixes {
        fanout.received(connection, &frame(1, prefix.as_bytes()));
    }
}

fn sync(fanout: &mut Fanout, connection: ConnectionId, id: u64) {
    fanout.received(connection, &frame(1, &sync_topic(id)));
}

/// All that is to be sent, if the sockets have room: `(connection, topic frame, numbers of its events)`.
fn sent(fanout: &mut Fanout) -> Vec<(ConnectionId, String, Vec<u64>)> {
    std::iter::from_fn(|| fanout.next(|_| 0))
        .map(|(connection, parcel)| match parcel {
            Parcel::Events(events) => {
                let topic = String::from_utf8(events[0].topic.to_vec()).unwrap();
                (connection, topic, events.iter().map(|event| event.event.sequence).collect())
            }
            Parcel::Numbers { topic, numbers } => {
                let topic = String::from_utf8(topic.to_vec()).unwrap();
                (connection, topic, numbers.last.iter().map(|last| last.sequence).collect())
            }
        })
        .collect()
}

fn closings(fanout: &mut Fanout) -> Vec<(ConnectionId, Closing)> {
    fanout.closings().collect()
}

#[test]
fn subscriptions_are_bounded_over_all_connections_together() {
    let mut fanout = fanout(Limits { subscriptions_in_all: 3, ..Limits::default() });
    join(&mut fanout, ANN, &["a", "b"]);
    join(&mut fanout, BOB, &["c", "c"]); // the same again is no further one
    assert_eq!(closings(&mut fanout), []);
    fanout.received(BOB, &frame(1, b"d"));
    assert_eq!(closings(&mut fanout), [(BOB, Closing::TooManySubscriptions)]);
    assert_eq!((fanout.counters().subscriptions, fanout.counters().closed_subscriptions), (2, 1));
    fanout.received(ANN, &frame(1, b"d")); // there is room again
    assert_eq!(closings(&mut fanout), []);
}

#[test]
fn an_event_goes_to_those_who_subscribed_to_a_prefix_of_it_once() {
    let mut fanout = fanout(Limits::default());
    join(&mut fanout, ANN, &["price/", "price/a", ""]);
    join(&mut fanout, BOB, &["price/b"]);
    for topic in ["price/a", "price/b", "news/"] {
        assert_eq!(fanout.publish(published(topic), NOW), None);
    }
    let mut got = sent(&mut fanout);
    got.sort();
    let expected = [
        (ANN, "news/", vec![1]),
        (ANN, "price/a", vec![1]),
        (ANN, "price/b", vec![1]),
        (BOB, "price/b", vec![1]),
    ];
    assert_eq!(got, expected.map(|(connection, topic, numbers)| (connection, topic.to_string(), numbers)));
    fanout.received(BOB, &frame(0, b"price/b"));
    assert_eq!(fanout.publish(published("price/b"), NOW), None);
    assert_eq!(sent(&mut fanout), [(ANN, "price/b".into(), vec![2])]);
    assert_eq!(fanout.counters().unmatched, 0);
    assert_eq!((fanout.counters().subscribers, fanout.counters().subscriptions), (2, 3));
}

#[test]
fn a_prefix_that_was_subscribed_twice_takes_two_cancels() {
    let mut fanout = fanout(Limits::default());
    join(&mut fanout, ANN, &["a/", "a/"]);
    fanout.received(ANN, &frame(0, b"a/"));
    assert_eq!(fanout.publish(published("a/"), NOW), None);
    assert_eq!(sent(&mut fanout).len(), 1);
    fanout.received(ANN, &frame(0, b"a/"));
    fanout.received(ANN, &frame(0, b"a/"));
    assert_eq!(fanout.publish(published("a/"), NOW), None);
    assert_eq!(sent(&mut fanout).len(), 0);
    assert_eq!(fanout.counters().unmatched, 1);
}

#[test]
fn events_of_one_topic_frame_in_a_row_share_a_message_up_to_the_limit() {
    let mut fanout = fanout(Limits { message: 2 * (BODY + EVENT_OVERHEAD + 2), ..Limits::default() });
    join(&mut fanout, ANN, &[""]);
    for topic in ["a/", "a/", "a/", "b/", "a/"] {
        assert_eq!(fanout.publish(published(topic), NOW), None);
    }
    let numbers: Vec<Vec<u64>> = sent(&mut fanout).into_iter().map(|(_, _, numbers)| numbers).collect();
    assert_eq!(numbers, [vec![1, 2], vec![3], vec![1], vec![4]]);
    assert_eq!((fanout.counters().sent, fanout.counters().messages), (5, 4));
}

#[test]
fn a_sync_is_answered_after_the_events_before_it_and_a_beacon_follows() {
    let mut fanout = fanout(Limits::default());
    join(&mut fanout, ANN, &["a/"]);
    join(&mut fanout, BOB, &["a/", "b/"]);
    assert_eq!(fanout.publish(published("a/1"), NOW), None);
    sync(&mut fanout, ANN, 5);
    sync(&mut fanout, ANN, 6);
    assert_eq!(fanout.publish(published("b/1"), NOW), None);
    let to_ann = |fanout: &mut Fanout| -> Vec<(String, Vec<u64>)> {
        sent(fanout)
            .into_iter()
            .filter(|sent| sent.0 == ANN)
            .map(|(_, topic, numbers)| (topic, numbers))
            .collect()
    };
    assert_eq!(
        to_ann(&mut fanout),
        [("a/1".into(), vec![1]), ("selfsame/sync/0000000000000006".into(), vec![1])]
    );
    for numbers in [vec![1], vec![1], vec![]] {
        fanout.beacon();
        assert_eq!(to_ann(&mut fanout), [("selfsame/beacon".into(), numbers)]);
    }
    let counters = fanout.counters();
    assert_eq!((counters.syncs, counters.sent), (1, 3), "and Bob, who did no sync, has got events alone");
}

#[test]
fn when_the_queue_is_full_the_oldest_event_goes_and_its_number_is_owed() {
    let cost = BODY + EVENT_OVERHEAD + 2;
    let mut fanout = fanout(Limits { queue: 2 * cost, ..Limits::default() });
    join(&mut fanout, ANN, &[""]);
    sync(&mut fanout, ANN, 1);
    sent(&mut fanout);
    for topic in ["a/", "b/", "b/", "c/"] {
        assert_eq!(fanout.publish(published(topic), NOW), None);
    }
    assert_eq!(fanout.counters().dropped_oldest, 2);
    let owed: Vec<Bytes> = fanout.subscribers[0].as_ref().unwrap().owed.iter().cloned().collect();
    assert_eq!(owed, [Bytes::from("a/"), Bytes::from("b/")]);
}

#[test]
fn a_full_window_stops_one_subscriber_and_nobody_else() {
    let mut fanout = fanout(Limits::default());
    join(&mut fanout, ANN, &["a/"]);
    join(&mut fanout, BOB, &["a/"]);
    assert_eq!(fanout.publish(published("a/"), NOW), None);
    let full = |connection| if connection == ANN { usize::MAX } else { 0 };
    assert_eq!(fanout.next(full).unwrap().0, BOB);
    assert_eq!(fanout.next(full), None);
    fanout.writable(ANN);
    assert_eq!(sent(&mut fanout), [(ANN, "a/".into(), vec![1])]);
}

#[test]
fn the_policies_disconnect_and_block() {
    let cost = BODY + EVENT_OVERHEAD + 2;
    for policy in [Policy::Disconnect, Policy::Block] {
        let mut fanout = fanout(Limits { queue: cost, policy, ..Limits::default() });
        join(&mut fanout, ANN, &["a/"]);
        join(&mut fanout, BOB, &["b/"]);
        assert_eq!(fanout.publish(published("a/"), NOW), None);
        match policy {
            Policy::Disconnect => {
                assert_eq!(fanout.publish(published("a/"), NOW), None);
                assert_eq!(closings(&mut fanout), [(ANN, Closing::Slow)]);
            }
            _ => {
                let patience = fanout.limits.patience;
                let refused = fanout.publish(published("a/"), NOW).unwrap();
                assert_eq!(fanout.counters().published, 1);
                let refused = fanout.publish(refused, patience - Duration::from_millis(1)).unwrap();
                assert_eq!(fanout.publish(refused, patience), None);
                assert_eq!(closings(&mut fanout), [(ANN, Closing::Blocking)]);
            }
        }
        assert_eq!((fanout.counters().subscribers, fanout.counters().dropped_closed), (1, 1));
        assert_eq!(sent(&mut fanout), []);
    }
}

#[test]
fn a_blocked_publisher_goes_on_when_there_is_room() {
    let mut fanout = fanout(Limits { queue: 1, policy: Policy::Block, ..Limits::default() });
    join(&mut fanout, ANN, &["a/"]);
    assert_eq!(fanout.publish(published("a/"), NOW), None);
    let refused = fanout.publish(published("a/"), NOW).unwrap();
    assert_eq!(sent(&mut fanout).len(), 1);
    assert_eq!(fanout.publish(refused, NOW), None);
    // The patience counts from the next refusal on.
    assert!(fanout.publish(published("a/"), Duration::from_secs(60)).is_some());
}

#[test]
fn too_many_too_long_and_no_subscriptions_close_the_connection() {
    let limits = Limits { subscriptions: 2, ..Limits::default() };
    let cases: [(Vec<Bytes>, Closing); 6] = [
        (frame(1, b"c"), Closing::TooManySubscriptions),
        (frame(1, &[b'x'; 513]), Closing::SubscriptionTooLong),
        (frame(2, b"a"), Closing::NotASubscription),
        (vec![], Closing::NotASubscription),
        (vec![Bytes::new()], Closing::NotASubscription),
        (vec![Bytes::from("\u{1}a"), Bytes::new()], Closing::NotASubscription),
    ];
    for (frames, why) in cases {
        let mut fanout = fanout(limits.clone());
        join(&mut fanout, ANN, &["a", "b", "a"]);
        assert_eq!(closings(&mut fanout), []);
        fanout.received(ANN, &frames);
        assert_eq!(closings(&mut fanout), [(ANN, why)]);
        fanout.received(ANN, &frame(1, b"a"));
        assert_eq!(fanout.publish(published("a"), NOW), None);
        assert_eq!((sent(&mut fanout), fanout.counters().unmatched), (vec![], 1));
        assert!(fanout.index.is_empty());
    }
}

#[test]
fn answers_to_syncs_and_events_have_their_turns() {
    let mut fanout = fanout(Limits { message: 1, ..Limits::default() }); // an event a message
    join(&mut fanout, ANN, &["a"]);
    for id in 10..30 {
        join(&mut fanout, ConnectionId(id), &["quiet"]);
        sync(&mut fanout, ConnectionId(id), id);
    }
    let mut events_before = Vec::new();
    let mut events = 0;
    while fanout.counters().syncs < 20 {
        assert_eq!(fanout.publish(published("a"), NOW), None);
        match fanout.next(|_| 0).unwrap().1 {
            Parcel::Events(_) => events += 1,
            Parcel::Numbers { .. } => events_before.push(std::mem::take(&mut events)),
        }
    }
    assert!(events_before.iter().all(|events| *events == MESSAGES_PER_SYNC), "{events_before:?}");
    assert!(fanout.is_ready(), "events wait");
    sent(&mut fanout);
    assert!(!fanout.is_ready());
}

/// A subscriber with more to get than its socket takes at once: its own events must not keep its answer from it.
#[test]
fn a_sync_of_a_slow_subscriber_is_answered() {
    let mut fanout = fanout(Limits { message: 1, ..Limits::default() });
    join(&mut fanout, ANN, &["a"]);
    for _ in 0..1_000 {
        assert_eq!(fanout.publish(published("a"), NOW), None);
    }
    sync(&mut fanout, ANN, 1);
    let window = fanout.limits.window;
    let mut rounds = 0;
    while fanout.counters().syncs == 0 {
        rounds += 1;
        assert!(rounds < 20, "never");
        let mut room = 6; // messages fill the window
        while fanout.next(|_| if room == 0 { window } else { 0 }).is_some() {
            room -= 1;
        }
        fanout.writable(ANN);
        fanout.writable(ANN);
    }
}

#[test]
fn reserved_and_unknown_prefixes_do_nothing() {
    let mut fanout = fanout(Limits::default());
    join(
        &mut fanout,
        ANN,
        &["selfsame", "selfsame/sync/12", "selfsame/sync/00000000000000AB", "selfsame/beacon"],
    );
    fanout.received(ANN, &frame(0, b"never subscribed"));
    assert_eq!(fanout.counters().reserved, 3);
    fanout.beacon();
    assert_eq!(sent(&mut fanout), []);
    assert_eq!(sync_id(&sync_topic(u64::MAX - 1)), Some(u64::MAX - 1));
}

#[test]
fn numbers_beyond_the_limit_follow_in_the_next_beacon_and_a_cut_answer_says_so() {
    let mut fanout = fanout(Limits { numbers: 2 * number_cost(b"a"), owed: 3, ..Limits::default() });
    join(&mut fanout, ANN, &[""]);
    sync(&mut fanout, ANN, 1);
    sent(&mut fanout);
    for topic in ["a", "b", "c", "d"] {
        assert_eq!(fanout.publish(published(topic), NOW), None);
    }
    fanout.beacon();
    let numbers = |fanout: &mut Fanout| loop {
        match fanout.next(|_| 0).unwrap().1 {
            Parcel::Numbers { numbers, .. } => break (numbers.last.len(), numbers.more),
            Parcel::Events(_) => {}
        }
    };
    assert_eq!(numbers(&mut fanout), (2, true), "four are owed, three can be kept");
    sync(&mut fanout, ANN, 2);
    assert_eq!(numbers(&mut fanout), (2, true));
}

/// A subscriber behind a socket that holds so many messages.
#[derive(Default)]
struct Peer {
    connection: u64,
    socket: VecDeque<Parcel>,
    delivered: BTreeMap<Bytes, BTreeSet<u64>>,
    missed: BTreeMap<Bytes, u64>,
    stands: bool,
    /// It was told that a beacon could not say all.
    wants_sync: bool,
}

const PREFIX: &[u8] = b"t/";

impl Peer {
    fn read(&mut self, tracker: &mut Tracker) {
        match self.socket.pop_front() {
            Some(Parcel::Events(events)) => {
                for event in events {
                    let Event { publisher, epoch, sequence, .. } = event.event;
                    let judgement = tracker.event(publisher, &event.topic, epoch, sequence);
                    *self.missed.entry(event.topic.clone()).or_default() += judgement.missed;
                    if judgement.deliver {
                        let delivered = self.delivered.entry(event.topic.clone()).or_default();
                        assert!(delivered.insert(sequence), "delivered twice");
                    } else {
                        assert!(!self.stands, "an event is dropped although nothing repeats any");
                    }
                }
            }
            Some(Parcel::Numbers { topic, numbers }) => {
                let learned = match sync_id(&topic) {
                    Some(_) => tracker.synced([Bytes::from_static(PREFIX)].iter(), &numbers),
                    None => tracker.beacon(&numbers),
                };
                self.stands |= numbers.sync != 0;
                self.wants_sync |= numbers.sync == 0 && numbers.more;
                let Learned { restarted: false, gaps } = learned else { panic!("nobody restarted") };
                gaps.into_iter().for_each(|(topic, missed)| *self.missed.entry(topic).or_default() += missed);
            }
            None => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Publish(u8),
    Send,
    Read(usize),
    Beacon,
    Cut(usize),
    Sync(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let a_move = prop_oneof![
        12 => (0..3u8).prop_map(Move::Publish),
        4 => Just(Move::Send),
        6 => (0..2usize).prop_map(Move::Read),
        2 => Just(Move::Beacon),
        1 => (0..2usize).prop_map(Move::Cut),
        1 => (0..2usize).prop_map(Move::Sync),
    ];
    prop::collection::vec(a_move, 0..250)
}

struct World {
    fanout: Fanout,
    peers: [Peer; 2],
    trackers: [Tracker; 2],
    connections: u64,
}

impl World {
    fn connect(&mut self, at: usize) {
        self.connections += 1;
        self.peers[at].connection = self.connections;
        self.peers[at].socket.clear();
        join(&mut self.fanout, ConnectionId(self.connections), &["t/"]);
        self.sync(at);
    }

    fn sync(&mut self, at: usize) {
        sync(&mut self.fanout, ConnectionId(self.peers[at].connection), 1);
    }

    fn send(&mut self) {
        loop {
            let peers = &self.peers;
            let held = |connection: ConnectionId| {
                peers
                    .iter()
                    .filter(|peer| peer.connection == connection.0)
                    .map(|peer| peer.socket.len())
                    .sum()
            };
            let Some((connection, parcel)) = self.fanout.next(held) else { break };
            let peer = self.peers.iter_mut().find(|peer| peer.connection == connection.0);
            peer.expect("nothing is sent to a closed connection").socket.push_back(parcel);
        }
        for peer in &self.peers {
            self.fanout.writable(ConnectionId(peer.connection));
        }
    }

    fn check_counters(&self) {
        let counters = self.fanout.counters();
        let waits: u64 = self
            .fanout
            .subscribers
            .iter()
            .flatten()
            .map(|subscriber| subscriber.queue.waiting() as u64)
            .sum();
        assert_eq!(
            counters.queued,
            counters.sent + counters.dropped_oldest + counters.dropped_closed + waits
        );
    }
}

proptest! {
    #[test]
    fn each_subscriber_can_account_for_every_event(moves in moves(), queue in 1..6usize) {
        let cost = BODY + EVENT_OVERHEAD + 3;
        let limits = Limits { queue: queue * cost, window: 2, message: 2 * cost, owed: 2, ..Limits::default() };
        let trackers = [Tracker::new(100), Tracker::new(100)];
        let mut world = World { fanout: fanout(limits), peers: Default::default(), trackers, connections: 0 };
        // Both stand before anything is published, so all of it is theirs.
        for at in [0, 1] {
            world.connect(at);
            world.send();
            world.peers[at].read(&mut world.trackers[at]);
        }
        for a_move in moves {
            match a_move {
                Move::Publish(key) => assert_eq!(world.fanout.publish(published(&format!("t/{key}")), NOW), None),
                Move::Send => world.send(),
                Move::Read(at) => world.peers[at].read(&mut world.trackers[at]),
                Move::Beacon => world.fanout.beacon(),
                Move::Cut(at) => {
                    world.fanout.closed(ConnectionId(world.peers[at].connection));
                    world.connect(at);
                }
                Move::Sync(at) => world.sync(at),
            }
            world.check_counters();
            for subscriber in world.fanout.subscribers.iter().flatten() {
                prop_assert!(subscriber.queue.waiting() <= queue && subscriber.owed.len() <= 2);
            }
        }
        // Then all is read, and three beacons come: what was lost is known now.
        for round in 0..12 {
            for _ in 0..=100 {
                world.send();
                for at in [0, 1] {
                    world.peers[at].read(&mut world.trackers[at]);
                    if std::mem::take(&mut world.peers[at].wants_sync) {
                        world.sync(at);
                    }
                }
            }
            if round < 3 {
                world.fanout.beacon();
            }
        }
        prop_assert!(world.fanout.is_drained());
        for Last { topic, sequence, .. } in world.fanout.numbering.matching([Bytes::new()].iter(), usize::MAX).0 {
            for peer in &world.peers {
                let delivered = peer.delivered.get(&topic).map_or(0, BTreeSet::len) as u64;
                let missed = peer.missed.get(&topic).copied().unwrap_or(0);
                prop_assert_eq!(delivered + missed, sequence, "{:?}: {} and {}", topic, delivered, missed);
            }
        }
    }
}

#[test]
fn who_may_not_read_a_topic_gets_nothing_of_it_whatever_it_subscribed_to_and_is_told() {
    let mut fanout = fanout(Limits::default());
    fanout.opened(ANN, Some(Box::new(|topic| topic != "news")));
    for prefix in ["", "news/", "news/a", "price/"] {
        fanout.received(ANN, &frame(1, prefix.as_bytes()));
    }
    assert_eq!((fanout.counters().subscriptions, fanout.counters().denied), (2, 2));
    for topic in ["news/", "news/a", "price/a"] {
        assert_eq!(fanout.publish(published(topic), NOW), None);
    }
    assert_eq!(sent(&mut fanout), [(ANN, "price/a".into(), vec![1])]);
    sync(&mut fanout, ANN, 1);
    let Some((ANN, Parcel::Numbers { numbers, .. })) = fanout.next(|_| 0) else { panic!("no answer") };
    assert_eq!(numbers.denied, ["news"]);
    let told: Vec<_> = numbers.last.iter().map(|last| last.topic.as_ref()).collect();
    assert_eq!(told, [b"price/a"], "not even the keys of what it may not read");
    // Nor by a beacon.
    fanout.beacon();
    let Some((ANN, Parcel::Numbers { numbers, .. })) = fanout.next(|_| 0) else { panic!("no beacon") };
    assert!(numbers.last.iter().all(|last| last.topic.starts_with(b"price/")));
    // A cancel of a denied subscription frees its place.
    fanout.received(ANN, &frame(0, b"news/"));
    fanout.received(ANN, &frame(0, b"news/a"));
    sync(&mut fanout, ANN, 2);
    let Some((ANN, Parcel::Numbers { numbers, .. })) = fanout.next(|_| 0) else { panic!("no answer") };
    assert!(numbers.denied.is_empty());
}

#[test]
fn denied_subscriptions_count_as_subscriptions() {
    let mut fanout = fanout(Limits { subscriptions: 3, ..Limits::default() });
    fanout.opened(ANN, Some(Box::new(|_| false)));
    for prefix in ["a/", "b/", "c/", "d/"] {
        fanout.received(ANN, &frame(1, prefix.as_bytes()));
    }
    assert_eq!(closings(&mut fanout), [(ANN, Closing::TooManySubscriptions)]);
}
