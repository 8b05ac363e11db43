//! A server process: the machine, and around it what the engine of a real server does: a queue, handlers' places, housekeeping, an orderly end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use selfsame::protocol::dedup::{Attempt, Execution, Minted, Now, Shed, Terminal};
use selfsame::protocol::replica::{Action, Begun, Replica};
use selfsame::protocol::store::{Opened, StoreEvent};
use selfsame::protocol::wire::{Answer, Call, Entry, Goodbye, Reply, Welcome};
use selfsame::protocol::{
    ConnectionId, Incarnation, Level, Moment, Refusal, Registration, RetryClass, Stamp,
};
use selfsame_check::{Fact, Replied};

use crate::client::{Client, nonce};
use crate::dice::{Dice, hash};
use crate::event::{Event, Life};
use crate::handler::{Run, class_of_method, principal};
use crate::network::GHOSTS;
use crate::profile::Profile;
use crate::world::World;

/// How often housekeeping runs.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How long a draining server waits for its handlers.
const DRAIN: Duration = Duration::from_millis(600);

/// See the [module](self).
pub struct Server {
    pub(crate) life: u64,
    pub(crate) up: bool,
    pub(crate) frozen: Moment,
    pub(crate) service: usize,
    pub(crate) incarnation: Incarnation,
    pub(crate) replica: Replica,
    /// When its monotonic clock began.
    origin: Moment,
    pub(crate) skew: i64,
    queue: VecDeque<(Execution, Moment)>,
    /// Admitted calls whose handler has not begun.
    pub(crate) works: BTreeMap<Execution, Admitted>,
    /// Places taken: by handlers, and by calls that wait for the store.
    places: usize,
    pub(crate) runs: BTreeMap<u64, Run>,
    /// Sessions that were welcomed on each connection: a ping keeps them all, since a hello may have come twice.
    sessions: BTreeMap<u64, Vec<Registration>>,
    draining: bool,
    /// The client for its handlers' calls.
    pub(crate) inner: Option<usize>,
    tick: Option<Moment>,
    /// It cannot reach its store.
    pub(crate) cut: bool,
}

/// A call whose handler has not begun.
pub struct Admitted {
    pub(crate) call: Call,
    pub(crate) principal: u64,
    deadline: Moment,
}

impl Server {
    /// One that has not been started.
    pub fn new(service: usize, profile: &Profile, dice: &mut Dice) -> Self {
        Server {
            life: 0,
            up: false,
            frozen: Moment::ZERO,
            service,
            incarnation: Incarnation(0),
            replica: Replica::new(Incarnation(0), profile.level, profile.limits.clone()),
            origin: Moment::ZERO,
            skew: dice.between(0, 300) as i64 - 150,
            queue: VecDeque::new(),
            works: BTreeMap::new(),
            places: 0,
            runs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            draining: false,
            inner: None,
            tick: None,
            cut: false,
        }
    }
}

impl World {
    fn clocks(&self, at: usize) -> Now {
        let server = &self.servers[at];
        Now { moment: self.now - server.origin + Duration::from_secs(1), wall: self.wall_of(server.skew) }
    }

    /// A process begins, and opens its store.
    pub(crate) fn boot_server(&mut self, at: usize) {
        if self.servers[at].up {
            return;
        }
        let incarnation = Incarnation(self.dice.bits().max(1));
        let (level, limits) = (self.profile.level, self.profile.limits.clone());
        let fresh = Server::new(self.servers[at].service, &self.profile, &mut self.dice);
        let before = &self.servers[at];
        let server = Server {
            life: before.life + 1,
            up: true,
            incarnation,
            replica: Replica::new(incarnation, level, limits),
            origin: self.now,
            skew: before.skew,
            inner: before.inner,
            ..fresh
        };
        let life = Life(at, server.life);
        self.servers[at] = server;
        self.log.say(self.now, || format!("server {life:?} begins as {incarnation}"));
        self.plan(HOUSEKEEPING, Event::House(life));
        if self.profile.nested && self.servers[at].service == 0 {
            self.boot_inner(life);
        }
        if level == Level::Memory {
            let now = self.clocks(at);
            let (store, generation) = (self.dice.wide(), incarnation.0);
            let opened = Opened { store, generation, born: now.wall, ..Opened::default() };
            self.servers[at].replica.opened(opened, now);
        } else {
            self.open_store(life);
        }
    }

    fn boot_inner(&mut self, life: Life) {
        let at = self.servers[life.0].inner.unwrap_or_else(|| {
            let endpoints = self.servers_of(1);
            // One principal for all servers, so that a replica finds what another had called for.
            let client = Client::new(9, endpoints, Some(life), &self.profile, &mut self.dice);
            self.clients.push(client);
            self.clients.len() - 1
        });
        self.servers[life.0].inner = Some(at);
        self.clients[at].inner = Some(life);
        self.boot_client(at);
    }

    /// A process is killed.
    pub(crate) fn crash_server(&mut self, at: usize, again: Duration) {
        if !self.servers[at].up {
            return;
        }
        let life = Life(at, self.servers[at].life);
        self.log.say(self.now, || format!("server {life:?} dies"));
        self.hang_up_server(life);
        self.orphan_runs(life);
        self.servers[at].up = false;
        self.servers[at].frozen = Moment::ZERO;
        self.abandon_store(life);
        if let Some(inner) = self.servers[at].inner {
            self.end_client(inner);
        }
        self.plan(again, Event::ServerBoot(at));
    }

    /// An entry has arrived.
    pub(crate) fn serve(&mut self, life: Life, from: ConnectionId, entry: Entry) {
        let now = self.clocks(life.0);
        let whose = self.network.client(from.0).map_or(0, |client| self.clients[client.0].principal);
        let everyone = principal(whose);
        self.log.say(self.now, || format!("server {life:?} gets from {from}: {entry:?}"));
        let at = life.0;
        match entry {
            Entry::Hello(_) if self.servers[at].draining => {
                self.send_to_client(from, Entry::Goodbye(goodbye()));
            }
            Entry::Hello(hello) => {
                let registration = Registration(self.dice.wide().max(1));
                let minted = Minted { registration, stamp: Stamp(self.dice.bits().max(1)) };
                self.servers[at].replica.hello(from, &hello, everyone, minted, now);
            }
            Entry::Call(call) => self.take_call(life, from, whose, call, now),
            Entry::Ack(ack) => self.servers[at].replica.ack(&ack, everyone, now),
            Entry::Cancel(cancel) => {
                if let Some(execution) = self.servers[at].replica.cancel(&cancel, everyone, now) {
                    let server = &mut self.servers[at];
                    if let Some(place) = server.queue.iter().position(|(queued, _)| *queued == execution) {
                        server.queue.remove(place);
                        server.works.remove(&execution);
                        server.replica.complete(execution, Terminal::Cancelled, now);
                        self.seen.terminal(&Terminal::Cancelled);
                    }
                }
            }
            Entry::Ping(number) => {
                for registration in self.servers[at].sessions.get(&from.0).cloned().unwrap_or_default() {
                    self.servers[at].replica.touch(registration, everyone, now);
                }
                self.send_to_client(from, Entry::Pong(number));
            }
            _ => {}
        }
        self.settle_server(life);
    }

    fn take_call(&mut self, life: Life, from: ConnectionId, whose: u64, call: Call, now: Now) {
        if call.retry != RetryClass::Once {
            self.unkept.insert(nonce(whose, call.registration, call.id));
        }
        let shed = self.shed(life.0, &call);
        let class = class_of_method(call.method).unwrap_or(call.retry);
        let digest = u128::from(hash(&call.body));
        let attempt = Attempt { call: &call, digest, principal: principal(whose), from, class };
        let server = &mut self.servers[life.0];
        let Some(execution) = server.replica.call(&attempt, shed, now) else { return };
        self.seen.visit("admission", "execute");
        let deadline = self.now + call.time_left;
        server.works.insert(execution, Admitted { call, principal: whose, deadline });
        if server.places < self.profile.concurrency {
            self.begin(life, execution);
        } else {
            self.seen.visit("admission", "queued");
            server.queue.push_back((execution, deadline));
        }
    }

    fn shed(&mut self, at: usize, call: &Call) -> Option<Shed> {
        let server = &self.servers[at];
        let refusal = if class_of_method(call.method).is_none() {
            Refusal::UnknownMethod
        } else if server.draining {
            Refusal::ShuttingDown
        } else if call.time_left.is_zero() {
            Refusal::Deadline
        } else if !self.healed
            && (server.queue.len() >= self.profile.queue || self.dice.per_mille(self.profile.faults.shed))
        {
            Refusal::Overloaded
        } else {
            return None;
        };
        let retry_after = self.dice.percent(20).then(|| Duration::from_millis(30));
        Some(Shed { refusal, retry_after, message: String::new() })
    }

    /// A place is free for this call.
    fn begin(&mut self, life: Life, execution: Execution) {
        let server = &mut self.servers[life.0];
        match server.replica.begin(execution) {
            Begun::Run => {
                server.places += 1;
                self.start_handler(life, execution);
            }
            Begun::Wait => server.places += 1,
            Begun::Over => {
                server.works.remove(&execution);
            }
        }
    }

    /// An execution is over, and its place is free.
    pub(crate) fn complete(&mut self, life: Life, execution: Execution, terminal: Terminal) {
        let now = self.clocks(life.0);
        let server = &mut self.servers[life.0];
        server.places = server.places.saturating_sub(1);
        server.replica.complete(execution, terminal, now);
        self.settle_server(life);
    }

    fn start_queued(&mut self, life: Life) {
        while self.servers[life.0].places < self.profile.concurrency {
            let Some((execution, deadline)) = self.servers[life.0].queue.pop_front() else { return };
            if deadline <= self.now {
                self.not_started(life, execution, Refusal::Deadline);
            } else {
                self.begin(life, execution);
            }
        }
    }

    /// An execution that holds no place is over.
    fn not_started(&mut self, life: Life, execution: Execution, refusal: Refusal) {
        let now = self.clocks(life.0);
        let server = &mut self.servers[life.0];
        server.works.remove(&execution);
        let terminal = Terminal::NotStarted(Shed::new(refusal));
        self.seen.terminal(&terminal);
        server.replica.complete(execution, terminal, now);
    }

    /// Does what the machine says, until it says no more; and plans when to look at it again.
    pub(crate) fn settle_server(&mut self, life: Life) {
        if !self.lives(life) {
            return;
        }
        let now = self.clocks(life.0);
        self.servers[life.0].replica.tick(now);
        while self.lives(life) {
            if let Some(action) = self.servers[life.0].replica.poll_action() {
                self.act(life, action);
                continue;
            }
            let idle = self.servers[life.0].queue.is_empty();
            if idle || self.servers[life.0].places >= self.profile.concurrency {
                break;
            }
            self.start_queued(life);
        }
        let server = &mut self.servers[life.0];
        let next = server.replica.next_tick().map(|at| at + server.origin - Duration::from_secs(1));
        if let Some(next) = next.filter(|next| server.tick.is_none_or(|planned| *next < planned)) {
            server.tick = Some(next);
            self.plan_at(next, Event::ServerTick(life));
        }
    }

    fn act(&mut self, life: Life, action: Action) {
        let at = life.0;
        match action {
            Action::Welcome { to, welcome, .. } => {
                if to.0 < GHOSTS {
                    let sessions = self.servers[at].sessions.entry(to.0).or_default();
                    if !sessions.contains(&welcome.registration) {
                        sessions.push(welcome.registration);
                    }
                }
                self.seen.visit("hello", "welcomed");
                let welcome =
                    Welcome { heartbeat: Duration::from_millis(700), body_limit: 1 << 20, ..*welcome };
                self.send_to_client(to, Entry::Welcome(welcome));
            }
            Action::Refuse { to, refused } => {
                self.seen.visit("hello", "turned away");
                let goodbye = Goodbye { reason: refused.message, refusal: Some(refused.refusal) };
                self.send_to_client(to, Entry::Goodbye(goodbye));
            }
            Action::Reply { to, reply } => self.reply(life, to, reply),
            Action::Run(execution) => {
                let late =
                    self.servers[at].works.get(&execution).is_some_and(|work| work.deadline <= self.now);
                if late {
                    self.servers[at].places -= 1;
                    self.not_started(life, execution, Refusal::Deadline);
                } else {
                    self.start_handler(life, execution);
                }
            }
            Action::Skip(execution) => {
                let server = &mut self.servers[at];
                if server.works.remove(&execution).is_some() {
                    server.places -= 1;
                }
            }
            Action::Ask(ticket, op) => {
                self.log.say(self.now, || format!("server {life:?} asks {ticket:?} {op:?}"));
                self.seen.asked(&op);
                self.ask_store(life, ticket, op);
            }
            Action::Stop(why) => {
                self.log.say(self.now, || format!("server {life:?} stops: {why}"));
                let again = self.dice.ms(100, 1_000);
                self.crash_server(at, again);
            }
        }
    }

    fn reply(&mut self, life: Life, to: ConnectionId, reply: Reply) {
        self.seen.reply(&reply);
        let whose = self.network.client(to.0).map_or(0, |client| self.clients[client.0].principal);
        let replied = match &reply.answer {
            Answer::Ok(body) => Some(Replied::Ok(hash(body))),
            Answer::Declined { body, .. } => Some(Replied::Declined(hash(body))),
            Answer::Failed(message) => Some(Replied::Failed(hash(message.as_bytes()))),
            Answer::Refused(refused) => match refused.refusal {
                Refusal::RecordedUnknown => Some(Replied::RecordedUnknown),
                Refusal::Stale => Some(Replied::Stale),
                Refusal::SessionUnknown => Some(Replied::SessionUnknown),
                Refusal::Expired => Some(Replied::Expired),
                Refusal::ReplyEvicted => Some(Replied::ReplyEvicted),
                _ => None,
            },
        };
        let nonce = nonce(whose, reply.registration, reply.id);
        // Where two copies of a client use one nonce for calls of two classes, its replies say nothing.
        let told = self.network.is_heard(to.0) && !self.unkept.contains(&nonce);
        if let Some(replied) = replied.filter(|_| told) {
            self.fact(Fact::Reply {
                nonce,
                attempt: reply.attempt,
                replica: life.0 as u64,
                incarnation: self.servers[life.0].incarnation.0,
                replied,
            });
        }
        self.send_to_client(to, Entry::Reply(reply));
    }

    /// The store says something.
    pub(crate) fn told(&mut self, life: Life, event: StoreEvent) {
        if !self.lives(life) || self.crashes_here(life) {
            return;
        }
        let now = self.clocks(life.0);
        self.log.say(self.now, || format!("server {life:?} hears {event:?}"));
        self.seen.store_event(&event);
        self.servers[life.0].replica.store_event(event, now);
        self.settle_server(life);
    }

    pub(crate) fn server_tick(&mut self, life: Life) {
        if self.lives(life) {
            self.servers[life.0].tick = None;
            self.settle_server(life);
        }
    }

    pub(crate) fn keep_house(&mut self, life: Life) {
        if !self.lives(life) {
            return;
        }
        self.plan(HOUSEKEEPING, Event::House(life));
        let now = self.clocks(life.0);
        for _ in 0..64 {
            if self.servers[life.0].replica.sweep(now).is_none_or(|again| again > now.moment) {
                break;
            }
        }
        let overdue: Vec<_> =
            self.servers[life.0].queue.iter().filter(|(_, at)| *at <= self.now).map(|(e, _)| *e).collect();
        for execution in overdue {
            self.servers[life.0].queue.retain(|(queued, _)| *queued != execution);
            self.not_started(life, execution, Refusal::Deadline);
        }
        self.settle_server(life);
    }

    /// A server says goodbye, refuses what waits, and ends when its handlers have, or a little later.
    pub(crate) fn drain(&mut self, at: usize) {
        let life = Life(at, self.servers[at].life);
        self.servers[at].draining = true;
        self.log.say(self.now, || format!("server {life:?} drains"));
        for connection in self.network.of_server(life) {
            self.send_to_client(ConnectionId(connection), Entry::Goodbye(goodbye()));
        }
        while let Some((execution, _)) = self.servers[at].queue.pop_front() {
            self.not_started(life, execution, Refusal::ShuttingDown);
        }
        self.settle_server(life);
        self.plan(DRAIN, Event::Drained(life));
    }

    pub(crate) fn drained(&mut self, life: Life) {
        if self.lives(life) {
            let again = self.dice.ms(10, 800);
            self.crash_server(life.0, again);
        }
    }

    /// What the machine of a server holds when everything has come to rest.
    pub(crate) fn measure_server(&mut self, at: usize) {
        let server = &self.servers[at];
        let (counters, pending) = (server.replica.counters(), server.replica.pending());
        let (works, queued) = (server.works.len() as u64, server.queue.len() as u64);
        let places = server.places as u64;
        let limits = self.profile.limits.clone();
        // What a copied client has given up lives as long as its connection.
        let given_up = if self.profile.faults.fork.is_some() { u64::from(limits.window) } else { 0 };
        self.held("sequenced-records", (counters.records - counters.keyed) as u64, given_up);
        self.held("keyed-records", counters.keyed as u64, limits.keyed as u64);
        self.held("sessions", counters.sessions as u64, limits.sessions as u64);
        // The database is asked to keep house every second, now perhaps.
        self.held("operations-pending", pending as u64, 1);
        self.held("places-taken", places, 0);
        self.held("calls-in-queue", queued, 0);
        self.held("calls-waiting", works, 0);
        let bytes = limits.session_bytes as u64 * 5 / 4 * counters.sessions as u64
            + (limits.keyed * limits.reply_bytes) as u64;
        self.held("reply-bytes", counters.bytes as u64, bytes);
    }
}

fn goodbye() -> Goodbye {
    Goodbye { reason: "shutting down".into(), refusal: None }
}
