//! The publisher's thread: between the queue of events, the machine in `protocol::fanout`, and the socket. It decides nothing.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::room::Intake;
use super::{Counters, PublisherCounters};
use crate::io::{Router, RouterEvent, SendError};
use crate::principal::{Principal, Rules};
use crate::protocol::fanout::{Closing, Envelope, Fanout, Limits, Permit, Published};
use crate::protocol::wire;

/// Events, and messages of subscribers, that are taken in before the other side gets its turn.
const BATCH: usize = 256;

/// For so long parcels are handed over before the sockets' own tasks, which share the thread, get their turn to write.
const TURN: Duration = Duration::from_micros(500);

pub(super) struct Serving {
    router: Router,
    fanout: Fanout,
    rules: Rules,
    envelope: Envelope,
    intake: Intake<Published>,
    /// Taken from the queue and not yet published: under [`Policy::Block`](super::Policy::Block) the first may have to wait.
    taken: VecDeque<Published>,
    counters: Counters,
    origin: Instant,
    beacons: Interval,
    /// When a blocked event is to be offered again at the latest.
    patience: Duration,
    blocked_until: Option<Instant>,
    /// Shutting down, and this long.
    closing: Option<Instant>,
}

impl Serving {
    pub fn new(
        router: Router,
        fanout: Fanout,
        rules: Rules,
        limits: &Limits,
        wire_limits: wire::Limits,
        intake: Intake<Published>,
        counters: Counters,
    ) -> Self {
        let origin = Instant::now();
        let mut beacons = interval_at(origin + limits.beacon, limits.beacon);
        beacons.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Serving {
            router,
            fanout,
            rules,
            envelope: Envelope::new(wire_limits),
            intake,
            taken: VecDeque::new(),
            counters,
            origin,
            beacons,
            patience: limits.patience,
            blocked_until: None,
            closing: None,
        }
    }

    pub async fn run(mut self, mut stop: watch::Receiver<Option<Duration>>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = earlier(self.blocked_until, self.closing);
            tokio::select! {
                event = self.router.next() => self.hear(event),
                _ = self.beacons.tick() => self.fanout.beacon(),
                got = self.intake.take(&mut batch, BATCH), if self.taken.is_empty() => {
                    // None: the last publisher is gone, and the thread is about to end.
                    if got == 0 {
                        return;
                    }
                    self.taken.extend(batch.drain(..));
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = ready(()), if self.fanout.is_ready() => {}
                changed = stop.changed(), if self.closing.is_none() => {
                    let cap = changed.ok().and_then(|()| *stop.borrow());
                    self.closing = cap.map(|cap| Instant::now() + cap);
                }
            }
            self.turn().await;
            if let Some(deadline) = self.closing
                && (self.is_drained() || Instant::now() >= deadline)
            {
                return self.router.drain(deadline.saturating_duration_since(Instant::now())).await;
            }
        }
    }

    fn hear(&mut self, first: RouterEvent) {
        self.take_in(first);
        for _ in 1..BATCH {
            let Some(event) = self.router.try_next() else { break };
            self.take_in(event);
        }
    }

    fn take_in(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Opened(connection, peer) => {
                tracing::debug!(%connection, %peer, "subscriber connected");
                let permit = (!self.rules.is_empty()).then(|| {
                    let (rules, principal) = (self.rules.clone(), Principal::proved(peer.name));
                    Box::new(move |topic: &str| rules.allow(&principal, topic)) as Permit
                });
                self.fanout.opened(connection, permit);
            }
            RouterEvent::Message(connection, frames) => self.fanout.received(connection, &frames),
            RouterEvent::Writable(connection) => self.fanout.writable(connection),
            RouterEvent::Closed(connection, reason) => {
                tracing::debug!(%connection, %reason, "subscriber gone");
                self.fanout.closed(connection);
            }
        }
    }

    /// Publishes what was taken and sends what may be sent, until the one waits for the other.
    async fn turn(&mut self) {
        loop {
            let dropped = self.fanout.counters().dropped_oldest;
            self.publish();
            let dropped = self.fanout.counters().dropped_oldest - dropped;
            if dropped > 0 {
                tracing::debug!(dropped, "slow subscribers lose events");
            }
            let sent = self.send();
            let counters = PublisherCounters { gate: self.router.counters(), ..self.fanout.counters() };
            *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
            yield_now().await;
            let blocked = self.blocked_until.is_some_and(|until| Instant::now() < until);
            if self.taken.is_empty() || (blocked && !sent) {
                break;
            }
        }
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let mut freed = 0;
        while let Some(event) = self.taken.pop_front() {
            let cost = event.cost();
            match self.fanout.publish(event, now - self.origin) {
                None => {
                    freed += cost;
                    self.blocked_until = None;
                }
                Some(event) => {
                    self.taken.push_front(event);
                    self.blocked_until.get_or_insert(now + self.patience);
                    break;
                }
            }
        }
        if freed > 0 {
            self.intake.give_back(freed);
        }
    }

    /// What may be sent, for a turn. Whether anything was.
    fn send(&mut self) -> bool {
        let begun = Instant::now();
        let mut sent = false;
        while let Some((connection, parcel)) =
            self.fanout.next(|connection| self.router.outstanding(connection))
        {
            for message in self.envelope.seal(parcel) {
                match self.router.send(connection, message.clone()) {
                    Ok(()) => {}
                    // Its end is on the way to us.
                    Err(SendError::Gone) => break,
                    Err(SendError::Full) => {
                        self.fanout.close(connection, Closing::SocketFull);
                        break;
                    }
                }
            }
            sent = true;
            if begun.elapsed() >= TURN {
                break;
            }
        }
        self.envelope.clear();
        for (connection, why) in self.fanout.closings() {
            self.router.close_for(connection, &why);
        }
        sent
    }

    fn is_drained(&self) -> bool {
        // An event that is on its way into the queue has taken its room.
        self.intake.is_whole() && self.taken.is_empty() && self.fanout.is_drained()
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
