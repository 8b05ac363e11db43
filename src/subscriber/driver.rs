//! The driver of one publisher's connection, on an IO thread: dials for ever, and between two losses runs a [`Session`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::feed::{Board, Reach};
use super::session::{Heard, Session};
use crate::io::{Dealer, DealerEvent, DealerOptions, Endpoint, Outage};
use crate::protocol::retry::{Backoff, Pace};
use crate::protocol::sequence::Tracker;

/// How long a publisher may take to answer the first sync. As long as three beacons of the default interval: a SUB socket cannot ask what the
/// interval is before the answer tells.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that was in sync for so long was a good one.
const STABLE: Duration = Duration::from_secs(1);

/// So many beacons may fail to come.
const BEACONS: u32 = 3;

/// For so long messages are taken in before the other tasks of the thread get their turn.
const TURN: Duration = Duration::from_micros(500);

pub(super) struct Driver {
    pub board: Arc<Board>,
    pub place: usize,
    pub endpoint: Endpoint,
    pub name: Arc<str>,
    pub keys: usize,
    pub dealer: DealerOptions,
    /// Counts up when subscriptions came or went; closed when nobody wants any.
    pub changed: watch::Receiver<u64>,
}

/// Why a session ended.
enum End {
    /// Nobody wants its events any more.
    Released,
    Lost(String),
}

impl Driver {
    pub async fn run(mut self) {
        let mut session =
            Session::new(self.board.clone(), self.place, self.name.clone(), Tracker::new(self.keys));
        let mut pace = Pace::new(Backoff::CONNECTIONS);
        let mut outage = Outage::new(&self.name);
        loop {
            outage.tried();
            let dialled = tokio::select! {
                dialled = Dealer::dial(&self.endpoint, self.dealer.clone()) => dialled,
                () = released(&mut self.changed, &self.board) => return,
            };
            let mut synced = None;
            let lost = match dialled {
                Ok(dealer) => match self.connected(dealer, &mut session, &mut synced).await {
                    End::Released => return,
                    End::Lost(why) => why,
                },
                Err(error) => error.to_string(),
            };
            session.lost();
            // A publisher that answers and then falls over is dialled less and less often, and not told of each time.
            if synced.is_some_and(|since: Instant| since.elapsed() > STABLE) {
                pace.worked();
                outage.over();
            }
            if outage.failed(lost) {
                tracing::warn!(publisher = %self.name, "{outage}; trying again");
            }
            self.board.reached(self.place, Reach::Down(outage.to_string()));
            let delay = pace.failed(crate::random::u64());
            tokio::select! {
                () = sleep(delay) => {}
                () = released(&mut self.changed, &self.board) => return,
            }
        }
    }

    async fn connected(
        &mut self,
        mut dealer: Dealer,
        session: &mut Session,
        synced: &mut Option<Instant>,
    ) -> End {
        self.board.reached(self.place, Reach::Up);
        session.connected();
        let mut silence = SYNC_TIMEOUT;
        let mut quiet_until = Instant::now() + silence;
        let mut look = true;
        loop {
            if std::mem::take(&mut look) || session.has_wishes() {
                self.changed.borrow_and_update();
                for message in session.wishes() {
                    if let Err(error) = dealer.send(message) {
                        return End::Lost(error.to_string());
                    }
                }
            }
            let first = tokio::select! {
                event = dealer.next() => Some(event),
                changed = self.changed.changed() => {
                    if changed.is_err() || self.board.has_ended() {
                        return End::Released;
                    }
                    look = true;
                    None
                }
                () = sleep_until(quiet_until) => {
                    return End::Lost(format!("the publisher said nothing for {silence:?}"));
                }
            };
            let begun = Instant::now();
            let mut next = first;
            while let Some(event) = next {
                match event {
                    DealerEvent::Message(frames) => {
                        if let Heard::Synced { interval } = session.hear(&frames) {
                            synced.get_or_insert_with(Instant::now);
                            silence = (interval * BEACONS).max(Duration::from_millis(100));
                        }
                        quiet_until = Instant::now() + silence;
                    }
                    DealerEvent::Writable => {}
                    DealerEvent::Closed(reason) => return End::Lost(reason.to_string()),
                }
                next = if begun.elapsed() < TURN { dealer.try_next() } else { None };
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Returns when nobody wants events any more.
async fn released(changed: &mut watch::Receiver<u64>, board: &Board) {
    while changed.changed().await.is_ok() && !board.has_ended() {}
}
