//! Callers that take places on a channel, and the driver that gives them back.

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::sync::tasks::{mpsc, oneshot};
use crate::sync::threads::Arc;

#[path = "../../../src/client/places.rs"]
#[allow(dead_code)]
mod places;

use places::{Desk, Places};

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
