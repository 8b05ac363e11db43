//! Stores that keep the rules of `selfsame::protocol::store`, and fail in every way that these allow: a file with a single owner, and a database with
//! transactions. A memory store is none at all.

mod database;
mod file;
mod steps;
mod tables;

use std::time::Duration;

use selfsame::protocol::store::{Done, Op, StoreEvent, Ticket};
use selfsame::protocol::{Level, WallTime};
use selfsame_check::Fact;

use crate::dice::Dice;
use crate::event::{Event, Life};
use crate::world::World;
use database::Database;
use file::File;

/// The store of one service.
pub enum Store {
    /// Records live in the servers' memory.
    None,
    /// One file, one owner.
    File(Box<File>),
    /// Shared by replicas.
    Database(Box<Database>),
}

impl Store {
    /// An empty one.
    pub fn new(level: Level, at: usize, born: WallTime, dice: &mut Dice) -> Self {
        match level {
            Level::Memory => Store::None,
            Level::Durable => Store::File(Box::new(File::new(at, born, dice))),
            Level::Shared | Level::Atomic => {
                Store::Database(Box::new(Database::new(level == Level::Atomic, born, dice)))
            }
        }
    }

    /// The server that an operation under way belongs to.
    pub fn job_life(&self, job: u64) -> Option<Life> {
        match self {
            Store::Database(database) => database.job_life(job),
            _ => None,
        }
    }

    /// An effect that commits with the transaction of this claim.
    pub fn stage(&mut self, life: Life, claim: Ticket, effect: Fact) {
        if let Store::Database(database) = self {
            database.stage(life, claim, effect);
        }
    }
}

impl World {
    /// A server opens its store.
    pub(crate) fn open_store(&mut self, life: Life) {
        let store = self.servers[life.0].service;
        let delay = self.dice.ms(2, 40);
        match &self.stores[store] {
            Store::None => {}
            Store::File(_) => self.plan(delay, Event::Open(store, life)),
            Store::Database(_) => self.connect_database(store, life),
        }
    }

    /// A server asks its store.
    pub(crate) fn ask_store(&mut self, life: Life, ticket: Ticket, op: Op) {
        let store = self.servers[life.0].service;
        match &self.stores[store] {
            Store::None => {}
            Store::File(_) => self.ask_file(store, life, ticket, op),
            Store::Database(_) => self.ask_database(store, life, ticket, op),
        }
    }

    /// A server is dead.
    pub(crate) fn abandon_store(&mut self, life: Life) {
        let store = self.servers[life.0].service;
        match &self.stores[store] {
            Store::None => {}
            Store::File(_) => self.abandon_file(store, life),
            Store::Database(_) => self.abandon_transactions(store, life),
        }
    }

    /// Tells a server that an operation has ended.
    pub(crate) fn done(&mut self, life: Life, ticket: Ticket, done: Done) {
        let latency = self.store_latency();
        self.plan(latency, Event::Told(life, Box::new(StoreEvent::Done(ticket, done))));
    }

    /// How long a store takes for something small.
    pub(crate) fn store_latency(&mut self) -> Duration {
        if !self.healed && self.dice.per_mille(self.profile.faults.slow_store) {
            return self.dice.ms(50, 1_500);
        }
        Duration::from_micros(self.dice.between(50, 1_200))
    }

    /// A server may die between any two steps of an operation of its store. True: it just did.
    pub(crate) fn crashes_here(&mut self, life: Life) -> bool {
        if self.healed || !self.dice.per_mille(self.profile.faults.crash_at_step) {
            return false;
        }
        let again = self.dice.ms(10, 1_500);
        self.crash_server(life.0, again);
        true
    }
}
