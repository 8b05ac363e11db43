//! Callers that take places on a channel, the driver that gives them back, and how results come from the one to the others.

use std::future::poll_fn;
use std::task::Poll;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::protocol::Moment;
use crate::sync::tasks::{mpsc, oneshot};
use crate::sync::threads::Arc;

#[path = "../../../src/client/places.rs"]
#[allow(dead_code)]
mod places;

#[path = "../../../src/client/results.rs"]
#[allow(dead_code)]
mod results;

use places::{Desk, Places};
use results::{Bell, Giver, Sleepers, Taker};

/// There is one place, and it becomes free: of two who ask meanwhile or afterwards one gets it.
pub(crate) fn a_free_place_is_found() {
    let places = Arc::new(Places::new(1));
    let mut desk = Desk::new(places.clone());
    assert!(places.take(), "it is free");
    desk.open(1, 1, ());
    let other = {
        let places = places.clone();
        thread::spawn(move || places.take())
    };
    desk.conclude(1);
    let here = places.take();
    let there = other.join().expect("no panic");
    assert!(here != there, "one of both has the place: here {here}, there {there}");
    assert_eq!(places.taken(), 1);
}

/// What callers tell the driver.
enum Command {
    Start { ticket: u64, done: oneshot::Sender<u64> },
    Cancel { ticket: u64 },
}

/// Callers wait or do not; in the end every place is free, and never were more taken than there are.
pub(crate) fn places_come_back() {
    const LIMIT: usize = 2;
    let places = Arc::new(Places::new(LIMIT));
    let (commands, orders) = mpsc::unbounded_channel();
    let callers = [1, 2, 3].map(|ticket| {
        let (places, commands) = (places.clone(), commands.clone());
        thread::spawn(move || call(ticket, &places, &commands))
    });
    drop(commands);
    let desk = Desk::new(places.clone());
    let driver = {
        let places = places.clone();
        thread::spawn(move || block_on(drive(desk, orders, &places)))
    };
    callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
    driver.join().expect("no panic");
    assert_eq!(places.taken(), 0, "every place came back, once");
}

fn call(ticket: u64, places: &Places, commands: &mpsc::UnboundedSender<Command>) {
    if !places.take() {
        return;
    }
    let (done, finished) = oneshot::channel();
    assert!(commands.send(Command::Start { ticket, done }).is_ok(), "the driver lives");
    if thread_rng().gen_bool(0.5) {
        assert_eq!(block_on(finished), Ok(ticket), "the answer of this very call");
    } else {
        assert!(commands.send(Command::Cancel { ticket }).is_ok(), "the driver lives");
    }
}

/// Hears commands, and concludes what is open while there are none.
async fn drive(
    mut desk: Desk<u64, oneshot::Sender<u64>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    places: &Places,
) {
    let mut open = Vec::new();
    loop {
        let command = match commands.try_recv() {
            Ok(command) => Some(command),
            Err(_) => match open.pop() {
                // The machine's handle is another number than the ticket.
                Some(ticket) => {
                    if let Some(done) = desk.conclude(ticket + 100) {
                        let _ = done.send(ticket); // a caller may have gone
                    }
                    None
                }
                None => match commands.recv().await {
                    Some(command) => Some(command),
                    None => return,
                },
            },
        };
        match command {
            Some(Command::Start { ticket, done }) => {
                desk.open(ticket, ticket + 100, done);
                open.push(ticket);
            }
            Some(Command::Cancel { ticket }) => drop(desk.cancel(ticket)),
            None => {}
        }
        assert!(places.taken() <= places.limit(), "{} places are taken", places.taken());
    }
}

/// When the driver's first turn is.
const BEGINNING: Moment = Moment::from_secs(1);

/// The driver wakes one of those whose calls have ended. Whoever is woken wakes the others, whether it still wants its result or not: nobody sleeps on, although the
/// driver does not come again.
pub(crate) fn one_wakes_the_others() {
    let sleepers = Arc::new(Sleepers::default());
    let (givers, takers): (Vec<Giver<u64>>, Vec<_>) = (0..3).map(|_| results::place()).unzip();
    let callers: Vec<_> = (takers.into_iter().enumerate())
        .map(|(number, taker)| {
            let sleepers = sleepers.clone();
            thread::spawn(move || block_on(wait(number as u64, taker, &sleepers)))
        })
        .collect();
    let mut bell = Bell::new(sleepers);
    for (number, giver) in givers.into_iter().enumerate() {
        bell.give(giver, number as u64);
    }
    bell.ring(BEGINNING);
    callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
}

/// As a call is polled.
async fn wait(number: u64, mut taker: Taker<u64>, sleepers: &Sleepers) {
    let result = poll_fn(|cx| {
        sleepers.wake_all();
        taker.poll(cx)
    });
    assert_eq!(result.await, Some(number), "the result of this very call");
}

/// Two wait, and one waits no longer: woken or not, it wakes the other when it goes. Of a driver that is gone all learn.
pub(crate) fn whoever_goes_wakes_the_others() {
    let sleepers = Arc::new(Sleepers::default());
    let (givers, takers): (Vec<Giver<u64>>, Vec<_>) = (0..3).map(|_| results::place()).unzip();
    let mut takers = takers.into_iter();
    let mut next = || takers.next().expect("one for each");
    let (patient, mut impatient, mut orphan) = (next(), next(), next());
    let waits = {
        let sleepers = sleepers.clone();
        thread::spawn(move || block_on(wait(0, patient, &sleepers)))
    };
    let goes = {
        let sleepers = sleepers.clone();
        thread::spawn(move || {
            block_on(poll_fn(|cx| {
                sleepers.wake_all();
                if let Poll::Ready(result) = impatient.poll(cx) {
                    assert_eq!(result, Some(1), "the result of this very call");
                }
                Poll::Ready(())
            }));
            // As a call is dropped.
            sleepers.wake_all();
            drop(impatient);
            assert_eq!(block_on(poll_fn(|cx| orphan.poll(cx))), None, "nothing comes any more");
        })
    };
    let mut bell = Bell::new(sleepers);
    let mut givers = givers.into_iter().enumerate();
    for (number, giver) in givers.by_ref().take(2) {
        bell.give(giver, number as u64);
    }
    bell.ring(BEGINNING);
    drop(givers);
    // The one that was woken may have gone before it was: then it is the driver that comes again.
    goes.join().expect("no panic");
    if let Some(due) = bell.due() {
        bell.ring(due);
    }
    waits.join().expect("no panic");
}
