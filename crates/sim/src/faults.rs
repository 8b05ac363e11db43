//! Faults that come by themselves, healing, and what is measured in the end.

use std::time::Duration;

use selfsame::protocol::Level;
use selfsame_check::Fact;

use crate::event::{Event, Kind, Life};
use crate::network::SERVERS;
use crate::store::Store;
use crate::world::World;

/// How long a process stands still at most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(6);

impl World {
    fn interval(&self, kind: Kind) -> Option<Duration> {
        let faults = &self.profile.faults;
        match kind {
            Kind::Partition => faults.partition,
            Kind::Reset => faults.reset,
            Kind::ClientCrash => faults.client_crash,
            Kind::Fork => faults.fork,
            Kind::ServerCrash => faults.server_crash,
            Kind::Drain => faults.drain,
            Kind::Pause => faults.pause,
            Kind::Clock => faults.clock.map(|(interval, _)| interval),
            Kind::CutStore => faults.cut_store,
            Kind::RestartStore => faults.restart_store,
            Kind::BrokenDisk => faults.broken_disk,
            Kind::LostStore => faults.lost_store,
            Kind::RestoredStore => faults.restored_store,
        }
    }

    pub(crate) fn plan_faults(&mut self) {
        for kind in [
            Kind::Partition,
            Kind::Reset,
            Kind::ClientCrash,
            Kind::Fork,
            Kind::ServerCrash,
            Kind::Drain,
            Kind::Pause,
            Kind::Clock,
            Kind::CutStore,
            Kind::RestartStore,
            Kind::BrokenDisk,
            Kind::LostStore,
            Kind::RestoredStore,
        ] {
            self.plan_fault(kind);
        }
    }

    fn plan_fault(&mut self, kind: Kind) {
        let Some(mean) = self.interval(kind) else { return };
        let share = self.dice.between(100, 2000) as u32;
        self.plan(mean * share / 1000, Event::Fault(kind));
    }

    pub(crate) fn fault(&mut self, kind: Kind) {
        if self.healed {
            if kind == Kind::Reset && self.after_grace() {
                self.reset_all();
            }
            return;
        }
        self.plan_fault(kind);
        self.seen.fault(kind);
        let client = self.dice.below(self.clients.len() as u64) as usize;
        let server = self.dice.below(self.servers.len() as u64) as usize;
        let store = self.dice.below(self.stores.len() as u64) as usize;
        self.log.say(self.now, || format!("fault {kind:?}"));
        match kind {
            Kind::Partition => self.partition(client, SERVERS + server),
            Kind::Reset => self.reset(),
            Kind::ClientCrash => self.crash_client(client),
            Kind::Fork => {
                // Few copies teach as much as many.
                if self.clients[client].up && self.clients[client].inner.is_none() && self.clients.len() < 9 {
                    self.fork(client);
                }
            }
            Kind::ServerCrash => {
                let again = self.dice.ms(5, 2_000);
                self.crash_server(server, again);
            }
            Kind::Drain => {
                if self.servers[server].up {
                    self.drain(server);
                }
            }
            Kind::Pause => self.pause(client, server),
            Kind::Clock => self.step_clock(client, server),
            Kind::CutStore => {
                let time = self.dice.ms(100, 4_000);
                self.cut_store(server, time);
            }
            Kind::RestartStore => self.restart_store(store),
            Kind::BrokenDisk => self.break_disk(store),
            Kind::LostStore => self.replace_store(store, false),
            Kind::RestoredStore => self.replace_store(store, true),
        }
    }

    fn partition(&mut self, client: usize, server: usize) {
        let time = self.dice.ms(200, 6_000);
        let which = self.dice.below(3);
        if which != 1 {
            self.network.cut(client, server);
            self.plan(time, Event::Mended(client, server));
        }
        if which != 0 {
            self.network.cut(server, client);
            self.plan(time, Event::Mended(server, client));
        }
    }

    fn reset(&mut self) {
        let standing = self.network.standing();
        if standing.is_empty() {
            return;
        }
        let connection = standing[self.dice.below(standing.len() as u64) as usize];
        let (near, far) = (self.dice.ms(0, 10), self.dice.ms(0, 10));
        self.plan(near, Event::Gone(connection, true));
        self.plan(far, Event::Gone(connection, false));
    }

    fn crash_client(&mut self, client: usize) {
        if self.clients[client].up && self.clients[client].inner.is_none() {
            self.end_client(client);
            let again = self.dice.ms(10, 3_000);
            self.plan(again, Event::ClientBoot(client));
        }
    }

    /// Mostly a server, mostly for longer than leases and heartbeats last.
    fn pause(&mut self, client: usize, server: usize) {
        let until = self.now + self.dice.ms(300, 5_990);
        if self.dice.percent(70) {
            if self.servers[server].frozen > self.now {
                return;
            }
            self.servers[server].frozen = until;
            // Its handlers' client is the same process.
            if let Some(inner) = self.servers[server].inner {
                self.clients[inner].frozen = until;
            }
        } else if self.clients[client].inner.is_none() {
            // What waits for its end keeps its order only if that does not move.
            let frozen = self.clients[client].frozen;
            self.clients[client].frozen = if frozen > self.now { frozen } else { until };
        }
    }

    fn step_clock(&mut self, client: usize, server: usize) {
        let Some((_, most)) = self.profile.faults.clock else { return };
        let most = i64::try_from(most.as_millis()).unwrap_or(i64::MAX);
        let skew = self.dice.below(2 * most as u64) as i64 - most;
        if self.dice.percent(70) {
            self.servers[server].skew = skew;
            if let Some(inner) = self.servers[server].inner {
                self.clients[inner].skew = skew;
            }
        } else {
            self.clients[client].skew = skew;
        }
    }

    fn break_disk(&mut self, store: usize) {
        let time = self.dice.ms(100, 2_500);
        if let Store::File(file) = &mut self.stores[store] {
            file.broken = true;
            self.plan(time, Event::Repaired(store));
        }
    }

    /// From now on nothing goes wrong any more: processes live and run, everything gets through, stores do what they are asked.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.fact(Fact::Healed);
        self.network.mend_all();
        for at in 0..self.servers.len() {
            let life = Life(at, self.servers[at].life);
            self.uncut(life);
            if !self.servers[at].up {
                self.boot_server(at);
            }
        }
        for at in 0..self.clients.len() {
            if !self.clients[at].up && self.clients[at].inner.is_none() {
                self.boot_client(at);
            }
        }
        for store in 0..self.stores.len() {
            self.repair(store);
        }
        self.ask_for_the_rest();
        // In the middle of the last calls, one clean break of every connection: what runs then is joined by an attempt from elsewhere.
        self.plan(crate::world::GRACE + crate::world::PROBES / 2, Event::Fault(Kind::Reset));
    }

    /// What is held in the end, against what may be.
    pub(crate) fn measure(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].up {
                self.measure_client(at);
                let open = self.clients[at].machine.open() as u64;
                self.held("open-calls-in-the-end", open, 0);
            }
        }
        for at in 0..self.servers.len() {
            self.measure_server(at);
        }
        for store in 0..self.stores.len() {
            let left = match &self.stores[store] {
                Store::None => continue,
                Store::File(file) => file.left_running(),
                Store::Database(database) => database.left_running(),
            };
            self.held("records-that-run-at-nobody", left as u64, 0);
        }
        let level = match self.profile.level {
            Level::Memory => "memory",
            Level::Durable => "durable",
            Level::Shared => "shared",
            Level::Atomic => "atomic",
        };
        self.seen.visit("level", level);
    }

    /// Every connection is broken at once, cleanly.
    pub(crate) fn reset_all(&mut self) {
        for connection in self.network.standing() {
            self.plan(Duration::ZERO, Event::Gone(connection, true));
            self.plan(Duration::ZERO, Event::Gone(connection, false));
        }
    }
}
