//! Turns: of many strangers that all have something to do, a few at a time do a step of it.
//!
//! A thread runs its tasks in the order in which they were woken. A call goes through several of them, and would wait each time for all the strangers that come or go
//! meanwhile: with thousands of these that is a tenth of a second. So strangers queue up here, and the call waits for a few steps of theirs.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::yield_now;

/// As many at once as take no more than some 100 µs, at 20 or 30 a step.
pub(crate) const AT_ONCE: usize = 4;

/// See the module. For tasks of one thread.
pub(crate) struct Turns(Semaphore);

impl Turns {
    /// `at_once`: strangers among the tasks that are to be run.
    pub fn new(at_once: usize) -> Turns {
        Turns(Semaphore::new(at_once))
    }

    /// A turn that lasts until it is dropped. `None`: never.
    ///
    /// It begins when all others that are to be run have been: else strangers who are woken together would have a turn each, one right after the other.
    pub async fn take(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.0.acquire().await.ok();
        yield_now().await;
        turn
    }

    /// Has a turn for each step of this future, and none while that waits for something.
    pub async fn each_step<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let turn = self.take().await;
            let step = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            drop(turn);
            match step {
                Poll::Ready(output) => return output,
                Poll::Pending => woken().await,
            }
        }
    }
}

/// Waits until this task is woken, by whatever it has waited for before.
async fn woken() {
    let mut waits = true;
    poll_fn(|_| match std::mem::take(&mut waits) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

/// Has this task polled again once the system was asked what else there is, and what that woke has had its turn. A task that merely wakes itself is polled up to
/// 61 times before that.
pub(crate) fn come_back(cx: &mut Context<'_>) {
    // It is this first poll that asks for it.
    let _ = pin!(yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::net::UnixStream;
    use tokio::sync::Notify;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn another_task_waits_for_a_few_steps_however_many_are_woken() {
        let (turns, wake, steps) =
            (Rc::new(Turns::new(AT_ONCE)), Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let local = LocalSet::new();
        let work = async {
            let strangers: Vec<_> = (0..1000)
                .map(|_| {
                    let (turns, wake, steps) = (turns.clone(), wake.clone(), steps.clone());
                    spawn_local(async move {
                        let steps_of_one = async {
                            wake.notified().await;
                            steps.set(steps.get() + 1);
                        };
                        turns.each_step(steps_of_one).await;
                    })
                })
                .collect();
            for _ in 0..1000 {
                yield_now().await; // each has begun to wait
            }
            wake.notify_waiters();
            let mut before = 0;
            while steps.get() < 1000 {
                yield_now().await;
                assert!(steps.get() - before <= 2 * AT_ONCE, "{} after {before}", steps.get());
                before = steps.get();
            }
            for stranger in strangers {
                stranger.await.expect("no panic");
            }
        };
        local.run_until(work).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_comes_back_lets_the_system_have_its_say_each_time() {
        let (to, from) = UnixStream::pair().expect("a pair of sockets");
        let (polls, heard) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let work = async {
            let busy = spawn_local({
                let (polls, heard) = (polls.clone(), heard.clone());
                poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    if polls.get() == 100 {
                        to.try_write(&[1]).expect("room for a byte");
                    }
                    come_back(cx);
                    if heard.get() { Poll::Ready(()) } else { Poll::Pending }
                })
            });
            from.readable().await.expect("open");
            heard.set(true);
            assert!((100..105).contains(&polls.get()), "heard after {} polls", polls.get());
            busy.await.expect("no panic");
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_has_no_turn_and_all_come_to_their_ends() {
        let turns = Rc::new(Turns::new(AT_ONCE));
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = Rc::new(Notify::new());
        let work = async {
            let wait = |number: usize| {
                let (turns, order, first) = (turns.clone(), order.clone(), first.clone());
                spawn_local(async move {
                    turns
                        .each_step(async {
                            if number < 100 {
                                first.notified().await; // more than there are turns wait for the last
                            } else {
                                first.notify_waiters();
                            }
                            order.borrow_mut().push(number);
                        })
                        .await;
                })
            };
            let tasks: Vec<_> = (0..=100).map(wait).collect();
            for task in tasks {
                task.await.expect("no panic");
            }
        };
        LocalSet::new().run_until(work).await;
        assert_eq!(order.borrow().len(), 101);
        assert_eq!(order.borrow()[0], 100);
    }
}
