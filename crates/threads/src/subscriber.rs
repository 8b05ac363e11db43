//! Connections that bring events, readers of subscriptions, and those who end them.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;

use crate::sync::threads::Arc;

#[path = "../../../src/subscriber/counters.rs"]
#[allow(missing_docs)]
mod counters;
#[path = "../../../src/subscriber/feed.rs"]
#[allow(dead_code)]
mod feed;
#[path = "../../../src/subscriber/inbox.rs"]
#[allow(dead_code)]
mod inbox;

use feed::{Board, Feed, Reach};
use inbox::Item;

/// Bytes for one event of those that are pushed here, and no second.
const ROOM_FOR_ONE: usize = 150;

fn event() -> Item {
    Item::Event { topic: Bytes::from_static(b"t/"), type_id: 1, body: Bytes::new(), endpoint: "e".into() }
}

fn feed(board: &Board) -> Arc<Feed> {
    board.add_feed("t", None, ROOM_FOR_ONE)
}

/// Two events and the end: the reader is told of each, as an event or as missed, and then of the end. It never sleeps through one.
pub(crate) fn all_is_read() {
    let board = Arc::new(Board::new());
    let feed = feed(&board);
    let reader = {
        let feed = feed.clone();
        thread::spawn(move || block_on(read_to_end(&feed)))
    };
    feed.tell(event());
    feed.tell(event());
    board.end();
    assert_eq!(reader.join().expect("no panic"), 2, "every event is read, or told as missed");
}

async fn read_to_end(feed: &Feed) -> u64 {
    let (mut told, mut items) = (0, VecDeque::new());
    loop {
        poll_fn(|cx| feed.poll(cx, &mut items)).await;
        if items.is_empty() {
            return told;
        }
        for item in items.drain(..) {
            told += match item {
                Item::Event { .. } => 1,
                Item::Gap { missed, .. } => missed,
                other => panic!("nothing else was pushed: {other:?}"),
            };
        }
    }
}

/// A connection knows a subscription for some time after it was dropped: what it brings then is not kept.
pub(crate) fn nothing_stays() {
    let board = Arc::new(Board::new());
    let feed = feed(&board);
    let connection = {
        let feed = feed.clone();
        thread::spawn(move || {
            feed.tell(event());
            feed.tell(event());
        })
    };
    board.remove_feed(feed.id);
    connection.join().expect("no panic");
    let mut left = VecDeque::new();
    assert_eq!(feed.poll(&mut Context::from_waker(Waker::noop()), &mut left), Poll::Ready(()));
    assert!(left.is_empty(), "nothing is kept for nobody");
}

/// Two publishers, of which one cannot be reached: whoever waits for the subscription to stand learns it.
pub(crate) fn it_stands() {
    let board = Arc::new(Board::new());
    let (near, far) = (board.add_place(), board.add_place());
    let id = feed(&board).id;
    let connections = [
        {
            let board = board.clone();
            thread::spawn(move || board.answered(near, &BTreeSet::from([id]), &BTreeSet::new()))
        },
        {
            let board = board.clone();
            thread::spawn(move || board.reached(far, Reach::Down(String::new())))
        },
    ];
    assert!(block_on(board.stands(id)), "it stands at the one that can be reached");
    connections.into_iter().for_each(|connection| connection.join().expect("no panic"));
}
