//! One connection after another: hello, heartbeats, acknowledgements, goodbye. What a welcome means for the
//! calls is in `welcome`.

use std::time::Duration;

use super::Client;
use super::terms::{Action, Notice};
use crate::protocol::wire::{Ack, Contract, Entry, Goodbye, Hello, VERSION};
use crate::protocol::{Moment, Refusal};
use crate::sabotage::visit;

/// How the connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    #[default]
    Down,
    /// Said hello, waits for the welcome to it.
    Greeting,
    Ready,
    /// The server said goodbye: what is under way is awaited, nothing more is sent.
    Leaving,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub link: Link,
    /// The number of the hello that is, or was, answered by a welcome; and when it was first sent.
    pub hello: u64,
    pub hello_sent: Moment,
    hello_again: Moment,
    /// Hellos that the server asked for since it last gave another answer.
    pub greetings: u32,
    /// The latest hello only names contracts: what is under way stays under way.
    pub comparing: bool,
    pub heard: Moment,
    spoke: Moment,
    /// The ping that is not answered yet.
    ping: Option<(u64, Moment)>,
    pinged: Moment,
    /// To be sent. One is enough, however many pings came.
    pub pong: Option<u64>,
}

/// Silent intervals after which a peer counts as gone: two pings may be lost, as TCP would notice by then.
const SILENT_INTERVALS: u32 = 3;
/// Hellos that the server asks for in a row, after which the connection is given up; connecting has a
/// back-off, saying hello has none.
const FUTILE_GREETINGS: u32 = 2;
/// How often a hello is sent in the time that it has.
const HELLO_COPIES: u32 = 3;
/// Ranges in one ack: 4 KiB of header.
const RANGES: usize = 256;

impl Connection {
    pub(super) fn new(now: Moment) -> Self {
        Connection { heard: now, spoke: now, pinged: now, ..Connection::default() }
    }
}

impl Client {
    /// Says hello. No call is sent before the welcome to it.
    pub(super) fn hello(&mut self, now: Moment) {
        visit!("client: link", "{:?} -> Greeting", self.connection.link);
        self.connection.link = Link::Greeting;
        self.connection.hello = self.random.bits();
        self.connection.hello_sent = now;
        self.connection.comparing = false;
        self.unnamed = false;
        if self.is_forgotten(now) {
            self.abandon_registration();
        }
        self.send_hello(now);
    }

    /// The same hello again is a copy of it, and copies do no harm: the first welcome to either counts.
    fn send_hello(&mut self, now: Moment) {
        self.connection.hello_again = now.saturating_add(self.config.welcome_timeout / HELLO_COPIES);
        let resumable = self.standing.as_ref().filter(|standing| !standing.abandoned);
        let hello = Hello {
            id: self.connection.hello,
            version: VERSION,
            session: self.session,
            resume: resumable.map(|standing| standing.registration),
            acked_below: resumable.map_or(0, |_| self.numbers.below()),
            contracts: self
                .contracts
                .iter()
                .map(|ours| Contract {
                    interface: ours.interface,
                    fingerprint: ours.fingerprint,
                    shape: Vec::new(),
                })
                .collect(),
        };
        self.send_entry(Entry::Hello(hello), now);
    }

    /// The server's answer shows that it does not know us as we think; at most one hello is under way.
    pub(super) fn greet_again(&mut self, now: Moment) {
        if self.connection.link != Link::Ready {
            return;
        }
        if self.connection.greetings >= FUTILE_GREETINGS {
            return self.reconnect("the server welcomes us and then does not know us");
        }
        self.connection.greetings += 1;
        self.hello(now);
    }

    /// Says hello for the sake of contracts that the latest one did not name.
    pub(super) fn name_contracts(&mut self, now: Moment) {
        if self.unnamed && self.connection.link == Link::Ready {
            self.hello(now);
            self.connection.comparing = true;
        }
    }

    /// Whether the welcome that is awaited leaves what is under way as it is.
    pub(super) fn is_comparing(&self) -> bool {
        self.connection.link == Link::Greeting && self.connection.comparing
    }

    /// The present registration is not to be resumed. False: that was known.
    pub(super) fn abandon_registration(&mut self) -> bool {
        self.standing.as_mut().is_some_and(|standing| !std::mem::replace(&mut standing.abandoned, true))
    }

    /// The server heard of us after that moment.
    pub(super) fn heard_since(&mut self, moment: Moment) {
        if let Some(standing) = &mut self.standing {
            standing.proven = standing.proven.max(moment);
        }
    }

    /// Whether the server may have forgotten the session, or will have when something sent now arrives.
    pub(super) fn is_forgotten(&self, now: Moment) -> bool {
        self.standing.as_ref().is_some_and(|standing| {
            standing.abandoned
                || standing.proven.saturating_add(standing.retention.saturating_sub(self.config.margin))
                    <= now
        })
    }

    pub(super) fn pong(&mut self, number: u64) {
        match self.connection.ping {
            Some((expected, sent)) if expected == number => {
                self.connection.ping = None;
                self.heard_since(sent);
            }
            _ => self.counters.stray += 1,
        }
    }

    pub(super) fn goodbye(&mut self, goodbye: Goodbye, now: Moment) {
        let Goodbye { reason, refusal } = goodbye;
        visit!("client: goodbye", "{refusal:?} while {:?}", self.connection.link);
        self.actions.push_back(Action::Notice(Notice::Goodbye { reason: reason.clone() }));
        match refusal {
            // The next server of this service would say the same, so waiting for it only hides the reason.
            Some(refusal @ (Refusal::Incompatible | Refusal::Denied)) => {
                self.refuse_all(refusal, &reason, now);
                self.reconnect(&format!("refused as {}", refusal.told(&reason)));
            }
            Some(refusal) => self.reconnect(&format!("refused as {}", refusal.told(&reason))),
            None if self.connection.link == Link::Ready => {
                visit!("client: link", "Ready -> Leaving");
                self.connection.link = Link::Leaving;
            }
            None => self.reconnect(&reason),
        }
    }

    pub(super) fn refuse_all(&mut self, refusal: Refusal, message: &str, now: Moment) {
        for handle in self.calls.in_order() {
            self.refuse(handle, refusal, message, now);
        }
    }

    /// After a goodbye the connection is kept for the answers that may still come, and no longer.
    pub(super) fn leave_if_nothing_is_awaited(&mut self) {
        if self.connection.link == Link::Leaving
            && !self.calls.iter().any(|(_, call)| call.unsettled.awaits())
        {
            self.reconnect("the server said goodbye");
        }
    }

    /// Hellos and pings that are due, and silence that has lasted too long.
    pub(super) fn watch_connection(&mut self, now: Moment) {
        match self.connection.link {
            Link::Down => {}
            Link::Greeting if now >= self.welcome_due() => self.reconnect("no welcome in time"),
            Link::Greeting if now >= self.connection.hello_again => self.send_hello(now),
            Link::Greeting => {}
            Link::Ready | Link::Leaving => {
                if now >= self.silence_due() {
                    return self.reconnect("the server is silent");
                }
                if now >= self.ping_due() {
                    let number = self.random.bits();
                    self.connection.ping = Some((number, now));
                    self.connection.pinged = now;
                    self.send_entry(Entry::Ping(number), now);
                }
            }
        }
    }

    pub(super) fn connection_due(&self) -> Option<Moment> {
        match self.connection.link {
            Link::Down => None,
            Link::Greeting => Some(self.connection.hello_again.min(self.welcome_due())),
            Link::Ready | Link::Leaving => Some(self.ping_due().min(self.silence_due())),
        }
    }

    fn welcome_due(&self) -> Moment {
        self.connection.hello_sent.saturating_add(self.config.welcome_timeout)
    }

    /// A ping shows the server that we are there, and makes it show the same: so it is due when either has
    /// been silent for an interval.
    fn ping_due(&self) -> Moment {
        let quiet_since = self.connection.heard.min(self.connection.spoke).max(self.connection.pinged);
        quiet_since.saturating_add(self.heartbeat())
    }

    fn silence_due(&self) -> Moment {
        self.connection.heard.saturating_add(self.heartbeat() * SILENT_INTERVALS)
    }

    fn heartbeat(&self) -> Duration {
        self.standing.as_ref().map_or(Duration::from_secs(1), |standing| standing.heartbeat)
    }

    /// When the closings that the server was not told are to be told by an entry of their own: after a moment
    /// in which no call told them; or at once if calls cannot tell them, because an older one is open, and
    /// they begin to fill the window.
    pub(super) fn ack_due(&self) -> Option<Moment> {
        if self.owed == 0 || self.connection.link != Link::Ready {
            return None;
        }
        let many = self.untold() >= (self.window() / 16).max(1);
        Some(if many { Moment::ZERO } else { self.owed_since.saturating_add(self.config.ack_delay) })
    }

    /// Closings that no call can tell. The server still has their records, so they hold their places in its window.
    pub(super) fn untold(&self) -> usize {
        if self.numbers.has_holes() { self.owed as usize } else { 0 }
    }

    /// Tells all closed numbers, those told before too: an ack may have been lost.
    pub(super) fn acknowledge(&mut self, now: Moment) {
        let Some(standing) = &self.standing else { return };
        let (registration, below) = (standing.registration, self.numbers.below());
        let holes = self.numbers.holes();
        let mut parts: Vec<_> = holes.chunks(RANGES).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for closed in parts {
            self.counters.acks += 1;
            self.send_entry(Entry::Ack(Ack { registration, below, closed }), now);
        }
        self.owed = 0;
    }

    pub(super) fn send_entry(&mut self, entry: Entry, now: Moment) {
        self.connection.spoke = now;
        self.actions.push_back(Action::Send(entry));
    }

    pub(super) fn reconnect(&mut self, why: &str) {
        if self.connection.link == Link::Down {
            return;
        }
        self.drop_connection();
        self.actions.push_back(Action::Reconnect { why: why.into() });
    }

    /// What was not handed out yet is not sent on another connection. Its attempts stay unsettled: that is
    /// what they would be had it left.
    pub(super) fn drop_connection(&mut self) {
        visit!("client: link", "{:?} -> Down", self.connection.link);
        self.connection = Connection::default();
        self.actions.retain(|action| !matches!(action, Action::Send(_)));
    }
}
