//! The driver of one channel, on an IO thread: dials, feeds the machine in `protocol::call` what arrives, and does what it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::places::Desk;
use super::reach::Reach;
use super::results::{Bell, Giver};
use super::{Begun, Command, Failed, Finished, Order};
use crate::codegen::InterfaceInfo;
use crate::error::Kind;
use crate::io::spin::{self, Cause};
use crate::io::{DealerEvent, DealerOptions, DialError, Dialling, Endpoint, Link, LocalLink, Spin};
use crate::nonce::{self, Identity, Nonce};
use crate::protocol::call::{
    Action, Client, Conclusion, Config, Ended, Failure, Handle, Intent, Notice, Why,
};
use crate::protocol::retry::{Backoff, Pace};
use crate::protocol::wire::{self, Encoder};
use crate::protocol::{CallId, Moment, Session, WallTime};

/// What happened on a channel so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelCounters {
    /// Calls that were started.
    pub calls: u64,
    /// Times that a call was sent.
    pub attempts: u64,
    /// Replies that came from a record.
    pub replayed: u64,
    /// Connections that were made, the first included.
    pub connections: u64,
    /// Messages, or entries in them, that could not be decoded.
    pub malformed: u64,
}

/// The counters as the driver writes them.
#[derive(Default)]
pub(super) struct Tally {
    calls: AtomicU64,
    attempts: AtomicU64,
    replayed: AtomicU64,
    connections: AtomicU64,
    malformed: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> ChannelCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ChannelCounters {
            calls: read(&self.calls),
            attempts: read(&self.attempts),
            replayed: read(&self.replayed),
            connections: read(&self.connections),
            malformed: read(&self.malformed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How to get to the service.
pub(super) enum Route {
    /// One endpoint at a time, the next after each loss.
    Dial { endpoints: Vec<Endpoint>, next: usize },
    /// A server in this process; taken when it is dialled.
    Local(Option<LocalLink>),
}

impl Route {
    pub(super) fn reach(&self) -> Reach {
        match self {
            Route::Dial { endpoints, .. } => Reach::new(endpoints.iter()),
            Route::Local(_) => Reach::new(["the server in this process"].iter()),
        }
    }
}

enum State {
    /// Dial again at that moment.
    Down(Instant),
    Dialling(Dialling),
    Up(Link),
}

pub(super) struct Driver {
    machine: Client,
    route: Route,
    reach: Reach,
    state: State,
    pace: Pace,
    up_since: Instant,
    session: Session,
    commands: mpsc::UnboundedReceiver<Command>,
    desk: Desk<Handle, Open>,
    bell: Bell,
    encoder: Encoder,
    /// Commands and entries taken in this turn.
    taken: usize,
    /// Messages for which the connection has no room yet.
    held: VecDeque<Vec<Bytes>>,
    limits: wire::Limits,
    options: DealerOptions,
    tally: Arc<Tally>,
    origin: Instant,
    /// When this turn began.
    now: Moment,
    wall: WallTime,
}

/// What a driver shares with those who call.
pub(super) struct Callers {
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub desk: Desk<Handle, Open>,
    pub bell: Bell,
    pub tally: Arc<Tally>,
    pub reach: Reach,
}

/// A call that is not concluded.
pub(super) struct Open {
    method: &'static str,
    done: Giver<Finished>,
}

/// A connection that stood for so long was a good one, whether or not a call was answered on it.
const STABLE: Duration = Duration::from_secs(1);
/// In a turn as many commands and replies are taken as calls are in flight, and so many at least, before what they lead to is sent. Longer turns make longer messages
/// and fewer wake-ups, and at last the server and client wait for each other; where few calls are in flight, short turns keep both at work.
const SHORTEST_TURN: usize = 8;
/// And so many at most, some 2 ms: other channels have their turns on this thread too.
const LONGEST_TURN: usize = 1024;

impl Driver {
    pub(super) fn new(
        config: Config,
        session: Session,
        route: Route,
        options: DealerOptions,
        callers: Callers,
    ) -> Box<Self> {
        let Callers { commands, desk, bell, tally, reach } = callers;
        let limits = wire::Limits { body: config.body_limit, ..wire::Limits::default() };
        // Boxed: as a part of its own future it would be in there more than once.
        Box::new(Driver {
            machine: Client::new(config, session, crate::random::u64()),
            route,
            reach,
            state: State::Down(Instant::now()),
            pace: Pace::new(Backoff::CONNECTIONS),
            up_since: Instant::now(),
            session,
            commands,
            desk,
            bell,
            encoder: Encoder::new(limits),
            taken: 0,
            held: VecDeque::new(),
            limits,
            options,
            tally,
            origin: Instant::now(),
            now: Moment::ZERO,
            wall: WallTime(0),
        })
    }

    /// Runs until the last clone of the channel is gone.
    pub(super) async fn run(mut self: Box<Self>, spin: Spin) {
        let _spins = spin::request(spin);
        loop {
            let tick = [self.machine.next_tick(), self.bell.due()].into_iter().flatten().min();
            let tick = tick.map(|moment| self.origin + moment);
            self.taken = 0;
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.look_at_the_clock();
                        self.command(command);
                    }
                    None => {
                        self.machine.leave(self.now);
                        return self.act(); // says what is left
                    }
                },
                () = sleep_until(tick) => self.look_at_the_clock(),
                event = step(&mut self.state) => {
                    self.look_at_the_clock();
                    self.event(event);
                }
            }
            let more = self.take_what_is_at_hand();
            self.machine.tick(self.now);
            self.act();
            if more {
                // What was said is on its way, and answered, while the rest is looked at.
                yield_now().await;
            }
        }
    }

    /// Once a turn: it is over in a moment, and a look at the clock costs as much as a step of the machine.
    fn look_at_the_clock(&mut self) {
        self.now = self.origin.elapsed();
        self.wall = nonce::wall_time(SystemTime::now());
    }

    /// Up to one turn's worth. Returns whether there may be more.
    fn take_what_is_at_hand(&mut self) -> bool {
        let turn = self.machine.open().clamp(SHORTEST_TURN, LONGEST_TURN);
        while self.taken < turn {
            let command = self.commands.try_recv().ok();
            let event = match &mut self.state {
                State::Up(link) => link.try_next(),
                State::Down(_) | State::Dialling(_) => None,
            };
            if command.is_none() && event.is_none() {
                return false;
            }
            if let Some(command) = command {
                self.command(command);
            }
            if let Some(event) = event {
                self.event(Event::Link(event));
            }
        }
        true
    }

    fn command(&mut self, command: Command) {
        spin::note(Cause::Asked);
        self.taken += 1;
        match command {
            Command::Contract(interface) => self.contract(interface),
            Command::Start(order) => self.start(*order),
            Command::Cancel { ticket } => {
                if let Some(handle) = self.desk.cancel(ticket) {
                    self.machine.cancel(handle, self.now);
                }
            }
        }
    }

    fn contract(&mut self, interface: &'static InterfaceInfo) {
        let &InterfaceInfo { id, name, fingerprint, shape, .. } = interface;
        self.machine.contract(id, name, fingerprint, shape, self.now);
    }

    fn start(&mut self, order: Order) {
        let Some(Begun { ticket, deadline, done }) = order.begun else { return };
        count(&self.tally.calls);
        self.contract(order.interface);
        let intent = Intent {
            interface: order.method.interface,
            method: order.method.ordinal,
            retry: order.method.retry,
            body: order.body,
            deadline: deadline.saturating_duration_since(self.origin),
            key: order.key,
            issued: self.wall,
            trace: Some(order.trace.unwrap_or_else(crate::trace::root)),
            metadata: order.metadata.0,
        };
        let handle = self.machine.start(intent, self.now);
        self.desk.open(ticket, handle, Open { method: order.method.name, done });
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Dial => self.dial(),
            Event::Dialled(Ok(link)) => {
                tracing::info!(session = %self.session, "connected");
                count(&self.tally.connections);
                self.state = State::Up(link);
                self.up_since = Instant::now();
                self.machine.connected(self.now);
            }
            Event::Dialled(Err(error)) => {
                self.unreached(&error.to_string());
                self.wait_and_dial();
            }
            Event::Link(DealerEvent::Message(frames)) => self.message(&frames),
            Event::Link(DealerEvent::Writable) => self.flush(),
            Event::Link(DealerEvent::Closed(reason)) => self.lost(&reason.to_string()),
        }
    }

    fn dial(&mut self) {
        self.state = match &mut self.route {
            Route::Dial { endpoints, next } => {
                let at = *next % endpoints.len();
                *next = next.wrapping_add(1);
                self.reach.tries(at);
                State::Dialling(Dialling::new(endpoints[at].clone(), self.options.clone()))
            }
            Route::Local(link) => match link.take() {
                Some(link) => {
                    self.reach.tries(0);
                    count(&self.tally.connections);
                    self.machine.connected(self.now);
                    State::Up(Link::Local(link))
                }
                // The server in this process is gone and nothing brings it back: calls run into their deadlines.
                None => State::Down(Instant::now() + Duration::from_secs(3600)),
            },
        };
    }

    /// Told in the log once, however often the same comes of dialling.
    fn unreached(&mut self, why: &str) {
        if self.reach.failed(why) {
            tracing::warn!(session = %self.session, "{}; trying again", self.reach);
        }
    }

    fn wait_and_dial(&mut self) {
        let delay = self.pace.failed(crate::random::u64());
        self.state = State::Down(Instant::now() + delay);
    }

    fn lost(&mut self, why: &str) {
        if self.reach.is_welcomed() {
            tracing::info!(session = %self.session, why, "connection lost");
            self.reach.failed(why);
        } else {
            self.unreached(why);
        }
        // A server that welcomes and then falls over, perhaps by what is sent to it, is dialled less and less often.
        if self.up_since.elapsed() > STABLE {
            self.pace.worked();
        }
        self.machine.disconnected();
        // What was not flushed was never sent; the machine has it as sent, which is safe.
        self.encoder.clear();
        self.held.clear();
        let state = std::mem::replace(&mut self.state, State::Down(Instant::now()));
        if let (State::Up(Link::Local(link)), Route::Local(again)) = (state, &mut self.route) {
            // There is only the one, and it still leads to the server, which was slow to answer.
            *again = Some(link);
        }
        self.wait_and_dial();
    }

    fn message(&mut self, frames: &[Bytes]) {
        match wire::decode(frames, &self.limits) {
            Ok(decoded) => {
                self.taken += decoded.entries.len();
                for entry in decoded.entries {
                    match entry {
                        Ok(entry) => {
                            self.machine.received(entry, self.now);
                        }
                        Err(bad) => self.bad_entry(&bad),
                    }
                }
            }
            Err(error) => {
                count(&self.tally.malformed);
                tracing::warn!(session = %self.session, %error, "a message could not be decoded");
            }
        }
    }

    /// A reply that cannot be read is an answer all the same: asking again would bring the same.
    fn bad_entry(&mut self, bad: &wire::BadEntry) {
        count(&self.tally.malformed);
        tracing::warn!(session = %self.session, error = %bad, "an entry could not be decoded");
        if let wire::Subject::Reply { registration, id, attempt } = bad.subject {
            let message = format!("the reply cannot be read: {bad}");
            let refused = wire::Refused { refusal: bad.refusal, ambiguous: true, retry_after: None, message };
            let answer = wire::Answer::Refused(refused);
            let reply = wire::Reply { registration, id, attempt, replayed: false, answer };
            self.machine.received(wire::Entry::Reply(reply), self.now);
        }
    }

    /// Does what the machine says until it says nothing.
    fn act(&mut self) {
        let mut quiet = false;
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send(entry) => {
                    // Either is said for want of anything else to say.
                    quiet |= matches!(entry, wire::Entry::Ack(_) | wire::Entry::Ping(_));
                    if matches!(entry, wire::Entry::Call(_)) {
                        count(&self.tally.attempts);
                    }
                    self.say(entry);
                }
                Action::Done(handle, ended) => self.done(handle, ended),
                Action::Reconnect { why } => {
                    if matches!(self.state, State::Up(_)) {
                        self.flush();
                        self.lost(&why);
                    }
                }
                Action::Notice(notice) => self.notice(&notice),
            }
        }
        self.flush();
        self.bell.ring(self.now);
        if quiet && self.machine.open() == 0 {
            self.rest();
        }
    }

    /// Gives back what a burst of calls has left behind: there may be thousands of channels.
    fn rest(&mut self) {
        self.machine.rest();
        self.desk.rest();
        self.bell.rest();
        self.encoder.rest();
        self.held.shrink_to_fit();
    }

    fn say(&mut self, entry: wire::Entry) {
        if let Err(not_taken) = self.encoder.push(entry) {
            // Flushed as soon as it is full, so it has room: the entry itself exceeds a limit. Its call runs into its deadline.
            tracing::error!(session = %self.session, error = %not_taken, "an entry was not sent");
        }
        if self.encoder.is_full() {
            self.flush();
        }
    }

    /// Sends what there is to send, as far as the connection has room. The rest waits for its `Writable`; it is bounded by the calls in flight.
    fn flush(&mut self) {
        if !self.encoder.is_empty() {
            self.held.push_back(self.encoder.finish());
        }
        let State::Up(link) = &mut self.state else { return self.held.clear() };
        let room = self.options.outstanding_limit / 2;
        while link.outstanding() <= room
            && let Some(frames) = self.held.pop_front()
        {
            if let Err(error) = link.send(frames) {
                // The machine has these attempts as sent, and that is what they may be.
                return self.lost(&error.to_string());
            }
        }
    }

    fn done(&mut self, handle: Handle, ended: Ended) {
        let Some(open) = self.desk.conclude(handle) else { return };
        let nonce = ended.id.map(|id| match id {
            CallId::Sequenced(number) => {
                Nonce(Identity::Sequenced { registration: ended.registration, number })
            }
            CallId::Keyed(key) => Nonce(Identity::Keyed(key)),
        });
        let result = match ended.conclusion {
            Conclusion::Ok(body) => {
                self.pace.worked();
                Ok(body)
            }
            Conclusion::Failed(failure) => Err(self.failed(failure)),
        };
        self.bell.give(open.done, Finished { result, nonce, attempts: ended.attempts });
    }

    fn notice(&mut self, notice: &Notice) {
        let session = self.session;
        match notice {
            Notice::Welcomed { registration, resumed } => {
                self.reach.welcomed();
                tracing::info!(%session, %registration, resumed, "welcomed");
            }
            Notice::ContractDiffers { interface, compatible: true } => {
                tracing::warn!(%session, "the server has another version of {interface}; it is compatible");
            }
            Notice::ContractDiffers { interface, compatible: false } => {
                tracing::error!(
                    %session,
                    "the server's {interface} is incompatible with this client's, so calls to it are refused here; build both from one \
                     schema, or from one that only adds to the other"
                );
            }
            Notice::Retrying { handle, refusal, delay } => {
                let method = self.desk.call(*handle).map(|open| open.method);
                tracing::debug!(%session, method, ?refusal, ?delay, "retries");
            }
            Notice::SessionReplaced { before, now } => {
                tracing::warn!(%before, %now, "another client used this session; going on under a new one");
                self.session = *now;
            }
            Notice::Goodbye { reason } => {
                tracing::info!(%session, reason, "the server says goodbye");
                self.reach.failed(format_args!("the server says goodbye: {reason}"));
            }
        }
    }

    fn failed(&self, failure: Failure) -> Failed {
        let Failure { why, outcome, retry_after, mut message } = failure;
        let (kind, fault) = match why {
            Why::Declined { fault, body } => (Kind::Declined, Some((fault, body))),
            Why::Failed => (Kind::Failed, None),
            Why::Refused(refusal) => (Kind::Refused(refusal), None),
            Why::Deadline => (Kind::Deadline, None),
        };
        if kind == Kind::Deadline && !self.reach.is_welcomed() {
            let between = if message.is_empty() { "" } else { "; " };
            message = format!("{message}{between}{}", self.reach);
        }
        Failed { kind, outcome, retry_after, message, fault }
    }
}

/// What carries bodies of that length.
pub(super) fn dealer_options(body: u32) -> DealerOptions {
    let mut options = DealerOptions::dealer();
    options.frame_limit = options.frame_limit.max(u64::from(body));
    options.message_limit = options.message_limit.max(2 * u64::from(body));
    // Half of it is used before the longest message is added.
    options.outstanding_limit = options.outstanding_limit.max(4 * body as usize);
    options
}

/// What the driver waits for, besides commands and time.
enum Event {
    Dial,
    Dialled(Result<Link, DialError>),
    Link(DealerEvent),
}

/// Cancel-safe: what is under way stays in the state.
async fn step(state: &mut State) -> Event {
    match state {
        State::Down(at) => {
            tokio::time::sleep_until((*at).into()).await;
            Event::Dial
        }
        State::Dialling(dialling) => Event::Dialled(dialling.await.map(Link::Dealer)),
        State::Up(link) => Event::Link(link.next().await),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
