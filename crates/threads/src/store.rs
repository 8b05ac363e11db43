//! A handler's statements on its call's transaction, and the store that ends it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::future::block_on;
use shuttle::thread;

use crate::sync::threads::Arc;

#[path = "../../../src/store/postgres/handover.rs"]
#[allow(dead_code)]
mod handover;

use handover::Handover;

/// Stands for a connection: says whether a statement runs over it.
#[derive(Debug, Default)]
struct Connection(Cell<bool>);

/// Statements run one after another, none begins when the call has ended, and one of those who take the connection gets it.
pub(crate) fn no_use_after_the_end() {
    let handover = Arc::new(Handover::new(Connection::default()));
    // Not a type of the scheduler's: what is asserted gives no thread a turn.
    let ended = std::sync::Arc::new(AtomicBool::new(false));
    let statements = [(); 3].map(|()| {
        let (handover, ended) = (handover.clone(), ended.clone());
        thread::spawn(move || block_on(statement(&handover, &ended)))
    });
    let finish = {
        let (handover, ended) = (handover.clone(), ended.clone());
        thread::spawn(move || end(&handover, &ended))
    };
    let here = end(&handover, &ended);
    let there = finish.join().expect("no panic");
    assert!(here != there, "one takes the connection: here {here}, there {there}");
    statements.into_iter().for_each(|statement| statement.join().expect("no panic"));
    assert!(block_on(handover.lock()).is_none(), "and nothing runs afterwards");
}

async fn statement(handover: &Handover<Connection>, ended: &AtomicBool) {
    let Some(connection) = handover.lock().await else { return };
    assert!(!ended.load(Ordering::SeqCst), "a statement begins after the end of its call");
    assert!(!connection.0.replace(true), "two statements run at once");
    shuttle::future::yield_now().await;
    connection.0.set(false);
}

/// Whether it got the connection.
fn end(handover: &Handover<Connection>, ended: &AtomicBool) -> bool {
    handover.end();
    ended.store(true, Ordering::SeqCst);
    let Some(connection) = block_on(handover.take()) else { return false };
    assert!(!connection.0.get(), "a statement runs over a connection that was taken");
    true
}
