//! Threads that publish, one that shuts the publisher down, and the publisher's thread.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use shuttle::future::block_on;
use shuttle::thread;

use crate::sync::tasks::watch;

#[path = "../../../src/publisher/room.rs"]
#[allow(dead_code)]
mod room;

use room::{Backlog, Intake, backlog};

/// Costs of events: together more than there is room for.
const COSTS: [u32; 3] = [1, 2, 3];

/// Whoever is told that an event is published has it sent, also by a publisher that shuts down; whoever is not, has not.
pub(crate) fn what_is_taken_is_sent() {
    let (backlog, intake) = backlog(3);
    let (stop, stopped) = watch::channel(false);
    let publishers = COSTS.map(|cost| {
        let backlog = backlog.clone();
        thread::spawn(move || publish(cost, &backlog))
    });
    let serving = thread::spawn(move || block_on(serve(intake, stopped)));
    backlog.close();
    stop.send_replace(true);
    let told: u32 = publishers.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let sent = serving.join().expect("no panic");
    assert_eq!(told, sent, "the cost of what was told published, and of what was sent");
}

/// As a publish future does: at once if there is room, else it waits.
fn publish(cost: u32, backlog: &Backlog<u32>) -> u32 {
    let published = match backlog.try_push(cost, cost) {
        Ok(Some(event)) => block_on(backlog.push(event, cost)),
        Ok(None) => Ok(()),
        Err(closed) => Err(closed),
    };
    if published.is_ok() { cost } else { 0 }
}

/// Sends what comes until it is told to stop and all is sent; how much that was.
async fn serve(mut intake: Intake<u32>, mut stopped: watch::Receiver<bool>) -> u32 {
    let (mut sent, mut closing) = (0, false);
    let mut batch = Vec::new();
    loop {
        {
            let mut take = pin!(intake.take(&mut batch, 2));
            let mut changed = pin!(stopped.changed());
            std::future::poll_fn(|cx| {
                if !closing && changed.as_mut().poll(cx).is_ready() {
                    closing = true;
                    return Poll::Ready(());
                }
                take.as_mut().poll(cx).map(drop)
            })
            .await;
        }
        let cost: u32 = batch.drain(..).sum();
        sent += cost;
        intake.give_back(cost as usize);
        if closing && intake.is_whole() {
            return sent;
        }
    }
}
