//! The world of a run: everything that lives in it, its clock, and what is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use selfsame::protocol::{Level, Moment, WallTime};
use selfsame_check::{Expect, Fact, Nonce, Report};

use crate::client::Client;
use crate::dice::Dice;
use crate::event::{Event, Keyed, Life};
use crate::log::{Log, Tracing, micros};
use crate::network::Network;
use crate::profile::Profile;
use crate::server::Server;
use crate::store::Store;

/// After healing, what was under way has this long to come to an end: leases, back-offs, the window of the retry budget, retention.
pub const GRACE: Duration = Duration::from_secs(14);
/// Then calls are made for so long, each of which has to end well.
pub const PROBES: Duration = Duration::from_millis(1_500);
/// And then everything has to come to rest.
const REST: Duration = Duration::from_secs(14);
/// How much later than its deadline a caller may be told.
const SLACK: Duration = Duration::from_millis(1);
/// The wall clock of the world at its beginning, in milliseconds.
const BEGINNING: u64 = 1_800_000_000_000;

/// See the [module](self).
pub struct World {
    pub(crate) profile: Profile,
    pub(crate) dice: Dice,
    pub(crate) now: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    planned: u64,
    pub(crate) log: Log,
    pub(crate) healed: bool,
    /// When that is to be.
    pub(crate) heal_at: Moment,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    pub(crate) servers: Vec<Server>,
    /// One of each service.
    pub(crate) stores: Vec<Store>,
    /// Keys that were called under, with the principal whose they are.
    pub(crate) keys: Vec<(u64, Keyed)>,
    /// Nonces under which a call came that leaves no record.
    pub(crate) unkept: BTreeSet<Nonce>,
    pub(crate) calls: u64,
    pub(crate) serial: u64,
    pub(crate) seen: crate::coverage::Seen,
}

/// What a run came to.
pub struct Outcome {
    /// The verdict.
    pub report: Report,
    /// The trace, if it was kept.
    pub trace: String,
    /// What was reached.
    pub seen: crate::coverage::Seen,
    /// Calls made.
    pub calls: u64,
    /// Things that happened.
    pub events: u64,
}

/// Plays a seed.
pub fn run(seed: u64, level: Option<Level>, tracing: Tracing) -> Outcome {
    // Nothing of a run before counts for this one.
    selfsame::sabotage::visits();
    World::new(seed, level, tracing).run()
}

impl World {
    fn new(seed: u64, level: Option<Level>, tracing: Tracing) -> Self {
        let mut dice = Dice::new(seed);
        let profile = Profile::draw(&mut dice, level);
        let expect = Expect {
            atomic: profile.level == Level::Atomic && profile.is_roomy(),
            one_clock: profile.replicas == 1 && profile.faults.clock.is_none(),
            // Who stands still is told when it goes on.
            slack: micros(if profile.faults.pause.is_some() { crate::faults::LONGEST_PAUSE } else { SLACK }),
            grace: profile.is_roomy().then_some(micros(GRACE)),
        };
        let mut world = World {
            log: Log::new(expect, tracing),
            profile,
            dice,
            now: Duration::from_secs(1),
            events: BTreeMap::new(),
            planned: 0,
            healed: false,
            heal_at: Duration::ZERO,
            network: Network::default(),
            clients: Vec::new(),
            servers: Vec::new(),
            stores: Vec::new(),
            keys: Vec::new(),
            unkept: BTreeSet::new(),
            calls: 0,
            serial: 0,
            seen: crate::coverage::Seen::default(),
        };
        world.heal_at = world.now + world.profile.trouble;
        let profile = world.profile.clone();
        world.log.say(world.now, || format!("profile {profile:?}"));
        world.populate();
        world
    }

    fn populate(&mut self) {
        let services = 1 + usize::from(self.profile.nested);
        for service in 0..services {
            self.stores.push(Store::new(self.profile.level, service, self.wall(), &mut self.dice));
            let servers = if service == 0 { self.profile.replicas } else { 1 };
            for _ in 0..servers {
                let at = self.servers.len();
                let server = Server::new(service, &self.profile, &mut self.dice);
                self.servers.push(server);
                self.plan(Duration::ZERO, Event::ServerBoot(at));
            }
        }
        for at in 0..self.profile.clients {
            let endpoints = self.servers_of(0);
            let client = Client::new(at as u64 % 2, endpoints, None, &self.profile, &mut self.dice);
            self.clients.push(client);
            self.plan(Duration::from_millis(20), Event::ClientBoot(at));
        }
        self.plan_faults();
        if self.profile.faults.restored_store.is_some() {
            self.plan(Duration::from_secs(1), Event::Backup);
        }
        self.plan_at(self.heal_at, Event::Heal);
    }

    pub(crate) fn servers_of(&self, service: usize) -> Vec<usize> {
        (0..self.servers.len()).filter(|&at| self.servers[at].service == service).collect()
    }

    /// The true time of day.
    pub(crate) fn wall(&self) -> WallTime {
        self.wall_of(0)
    }

    /// The time of day by a clock that is off by so many milliseconds.
    pub(crate) fn wall_of(&self, skew: i64) -> WallTime {
        let now = BEGINNING + u64::try_from(self.now.as_millis()).unwrap_or_default();
        WallTime(now.saturating_add_signed(skew))
    }

    pub(crate) fn plan(&mut self, delay: Duration, event: Event) {
        self.plan_at(self.now + delay, event);
    }

    pub(crate) fn plan_at(&mut self, at: Moment, event: Event) {
        self.planned += 1;
        self.events.insert((at.max(self.now), self.planned), event);
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.log.fact(self.now, fact);
    }

    /// Whether new calls are made: in trouble, and once more when all has calmed down.
    pub(crate) fn calls_are_made(&self) -> bool {
        !self.healed || self.after_grace()
    }

    /// No call is made any more.
    pub(crate) fn is_over(&self) -> bool {
        self.now > self.heal_at + GRACE + PROBES
    }

    /// Everything that went wrong has had its time to pass.
    pub(crate) fn after_grace(&self) -> bool {
        self.healed && self.now >= self.heal_at + GRACE
    }

    fn run(mut self) -> Outcome {
        let end = self.heal_at + GRACE + PROBES + REST;
        let mut events = 0;
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            events += 1;
            self.happen(event);
        }
        self.now = end;
        self.measure();
        self.seen.add_visits(selfsame::sabotage::visits());
        let (report, trace) = self.log.finish();
        Outcome { report, trace, seen: self.seen, calls: self.calls, events }
    }

    fn happen(&mut self, event: Event) {
        if let Some(until) = self.standstill(&event) {
            return self.plan_at(until, event);
        }
        match event {
            Event::Call(life) => self.make_call(life),
            Event::Ask(life, key) => self.ask_again(life, key),
            Event::Dial(life) => self.dial(life),
            Event::Connected(connection) => self.connected(connection),
            Event::Gone(connection, client) => self.gone(connection, client),
            Event::ClientTick(life) => self.client_tick(life),
            Event::ClientBoot(client) => self.boot_client(client),
            Event::ToServer(parcel) => self.at_server(parcel),
            Event::ToClient(parcel) => self.at_client(parcel),
            Event::ServerBoot(server) => self.boot_server(server),
            Event::ServerTick(life) => self.server_tick(life),
            Event::House(life) => self.keep_house(life),
            Event::Drained(life) => self.drained(life),
            Event::Effect(life, run) => self.effect(life, run),
            Event::Finish(life, run) => self.finish(life, run),
            Event::LateEffect(fact) => self.fact(*fact),
            Event::Told(life, event) => self.told(life, *event),
            Event::Flushed(store, life) => self.flushed(store, life),
            Event::Open(store, life) => self.open_file(store, life),
            Event::Step(store, job) => self.step(store, job),
            Event::LockTimeout(store, job) => self.lock_timeout(store, job),
            Event::Resolve(store, transaction, lands) => self.resolve(store, transaction, lands),
            Event::Idle(store, transaction) => self.idle(store, transaction),
            Event::Lease(life) => self.renew_lease(life),
            Event::Backup => self.back_up_all(),
            Event::Uncut(life) => self.uncut(life),
            Event::Fault(kind) => self.fault(kind),
            Event::Mended(from, to) => self.network.mend(from, to),
            Event::Repaired(store) => self.repair(store),
            Event::Heal => self.heal(),
        }
    }

    /// Until when the process that this happens to stands still, if it does.
    fn standstill(&self, event: &Event) -> Option<Moment> {
        let until = match event {
            Event::Call(life) | Event::Ask(life, _) | Event::Dial(life) | Event::ClientTick(life) => {
                self.clients[life.0].frozen
            }
            Event::Gone(connection, true) => self.clients[self.network.client(*connection)?.0].frozen,
            Event::Gone(connection, false) => self.servers[self.network.server(*connection)?.0].frozen,
            Event::Connected(connection) => self.clients[self.network.client(*connection)?.0].frozen,
            Event::ToClient(parcel) => self.clients[self.network.client(parcel.connection)?.0].frozen,
            Event::ToServer(parcel) => self.servers[self.network.server(parcel.connection)?.0].frozen,
            Event::ServerTick(life)
            | Event::House(life)
            | Event::Drained(life)
            | Event::Effect(life, _)
            | Event::Finish(life, _)
            | Event::Told(life, _)
            | Event::Flushed(_, life)
            | Event::Lease(life) => self.servers[life.0].frozen,
            Event::Step(store, job) => self.servers[self.stores[*store].job_life(*job)?.0].frozen,
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    /// A server's life goes on.
    pub(crate) fn lives(&self, life: Life) -> bool {
        self.servers[life.0].up && self.servers[life.0].life == life.1
    }
}
