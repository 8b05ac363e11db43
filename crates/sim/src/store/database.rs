//! A database that replicas share: transactions with row locks, uncommitted inserts that nobody sees and that make others wait, leases by its own clock,
//! connections that break in the middle, restarts, and stores that are lost or put back to an earlier state. What an operation does step by
//! step is in `steps`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use selfsame::protocol::store::{Intent, Op, Opened, RecordId, StoreEvent, Ticket};
use selfsame::protocol::wire::Answer;
use selfsame::protocol::{Incarnation, Moment, Registration, WallTime};
use selfsame_check::Fact;

use super::Store;
use super::tables::Tables;
use crate::dice::Dice;
use crate::event::{Event, Life};
use crate::world::World;

/// How long a replica's running records are its own after it was last heard of.
pub const LEASE: Duration = Duration::from_millis(2_400);
/// How often a backup is made.
const BACKUPS: Duration = Duration::from_millis(600);

/// See the [module](self).
pub struct Database {
    id: u128,
    generation: u64,
    pub(super) ordinal: u64,
    born: WallTime,
    pub(super) atomic: bool,
    pub(super) tables: Tables,
    pub(super) leases: BTreeMap<Incarnation, Moment>,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) transactions: BTreeMap<u64, Transaction>,
    /// Rows that a transaction has inserted or changed, and holds until it ends.
    pub(super) locks: BTreeMap<RecordId, u64>,
    pub(super) waiting: BTreeMap<RecordId, VecDeque<u64>>,
    /// An earlier state, for the day on which somebody puts it back.
    backup: Option<Tables>,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub struct Job {
    pub life: Life,
    pub incarnation: Incarnation,
    pub ticket: Ticket,
    pub op: Op,
    pub phase: u8,
    pub transaction: Option<u64>,
    /// What an early look told: only a planted bug has one.
    pub early: Option<Option<super::tables::Bar>>,
}

/// A transaction with a row to write.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub life: Life,
    pub incarnation: Incarnation,
    /// The claim that opened it.
    pub ticket: Ticket,
    pub change: Change,
    pub effects: Vec<Fact>,
    /// The session that it has read and holds against deletion.
    pub shares: Option<Registration>,
    pub stage: Stage,
}

/// What a transaction does when it commits.
#[derive(Clone, Debug)]
pub enum Change {
    /// The record runs.
    Insert(Intent),
    /// The record has ended, or goes.
    Put(Intent, Option<Answer>),
}

impl Change {
    pub fn record(&self) -> RecordId {
        match self {
            Change::Insert(intent) | Change::Put(intent, _) => intent.record(),
        }
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its owner works on it.
    Open,
    /// Its owner has sent the commit, and lost touch: how it ends is planned.
    InDoubt {
        /// So.
        lands: bool,
    },
}

impl Database {
    pub fn new(atomic: bool, born: WallTime, dice: &mut Dice) -> Self {
        Database {
            id: dice.wide(),
            generation: dice.bits(),
            ordinal: 0,
            born,
            atomic,
            tables: Tables::default(),
            leases: BTreeMap::new(),
            jobs: BTreeMap::new(),
            transactions: BTreeMap::new(),
            locks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            backup: None,
        }
    }

    pub fn job_life(&self, job: u64) -> Option<Life> {
        Some(self.jobs.get(&job)?.life)
    }

    /// Records that run at nobody, and transactions that did not end.
    pub fn left_running(&self) -> usize {
        self.tables.running().count() + self.transactions.len()
    }

    pub fn stage(&mut self, life: Life, claim: Ticket, effect: Fact) {
        // It may be gone: rolled back for being idle. Then so is the effect.
        let its = |tx: &&mut Transaction| tx.life == life && tx.ticket == claim && tx.stage == Stage::Open;
        if let Some(transaction) = self.transactions.values_mut().find(its) {
            transaction.effects.push(effect);
        }
    }

    pub fn is_alive(&self, owner: Incarnation, now: Moment) -> bool {
        self.leases.get(&owner).is_some_and(|until| *until > now)
    }
}

impl World {
    pub(super) fn database(&mut self, store: usize) -> Option<&mut Database> {
        match &mut self.stores[store] {
            Store::Database(database) => Some(database),
            _ => None,
        }
    }

    /// How long the database keeps a session of which it hears nothing: a replica tells it every eighth of the retention.
    pub(super) fn kept(&self) -> Duration {
        self.profile.limits.retention * 5 / 4
    }

    pub(crate) fn connect_database(&mut self, store: usize, life: Life) {
        let delay = self.dice.ms(2, 40);
        let incarnation = self.servers[life.0].incarnation;
        let now = self.now;
        let Some(database) = self.database(store) else { return };
        database.ordinal += 1;
        database.leases.insert(incarnation, now + LEASE);
        let opened = Opened {
            store: database.id,
            generation: database.generation,
            ordinal: database.ordinal,
            born: database.born,
            floor: database.tables.floor,
            ..Opened::default()
        };
        self.plan(delay, Event::Told(life, Box::new(StoreEvent::Opened(Box::new(opened)))));
        self.plan(delay, Event::Lease(life));
    }

    pub(crate) fn renew_lease(&mut self, life: Life) {
        if !self.lives(life) {
            return;
        }
        let (store, incarnation, cut) =
            (self.servers[life.0].service, self.servers[life.0].incarnation, self.servers[life.0].cut);
        let now = self.now;
        if let Some(database) = self.database(store).filter(|_| !cut) {
            database.leases.insert(incarnation, now + LEASE);
        }
        self.plan(LEASE / 4, Event::Lease(life));
    }

    /// A server is dead, or has lost its connections: what was open is rolled back when the database finds out, and holds its locks until then.
    pub(crate) fn abandon_transactions(&mut self, store: usize, life: Life) {
        let Some(database) = self.database(store) else { return };
        let jobs: Vec<_> =
            database.jobs.iter().filter(|(_, job)| job.life == life).map(|(id, _)| *id).collect();
        for job in jobs {
            self.break_off(store, job);
        }
        let Some(database) = self.database(store) else { return };
        let open = |(_, tx): &(&u64, &Transaction)| tx.life == life && tx.stage == Stage::Open;
        let open: Vec<_> = database.transactions.iter().filter(open).map(|(id, _)| *id).collect();
        for transaction in open {
            let later = if self.healed { Duration::ZERO } else { self.dice.ms(0, 1_500) };
            self.end_later(store, transaction, false, later);
        }
    }

    pub(super) fn end_later(&mut self, store: usize, transaction: u64, lands: bool, later: Duration) {
        if let Some(tx) = self.database(store).and_then(|d| d.transactions.get_mut(&transaction)) {
            tx.stage = Stage::InDoubt { lands };
            self.plan(later, Event::Resolve(store, transaction, lands));
        }
    }

    /// A transaction whose end was in doubt ends.
    pub(crate) fn resolve(&mut self, store: usize, transaction: u64, lands: bool) {
        self.seen.visit("transaction in doubt", if lands { "committed" } else { "rolled back" });
        if lands {
            self.commit(store, transaction);
        } else {
            self.roll_back(store, transaction);
        }
    }

    /// A transaction was idle for too long: the database rolls it back.
    pub(crate) fn idle(&mut self, store: usize, transaction: u64) {
        let open = |tx: &Transaction| tx.stage == Stage::Open;
        if self.database(store).and_then(|d| d.transactions.get(&transaction)).is_some_and(open) {
            self.seen.visit("transaction", "idle for too long");
            self.roll_back(store, transaction);
        }
    }

    pub(super) fn commit(&mut self, store: usize, transaction: u64) {
        let now = self.now;
        let Some(database) = self.database(store) else { return };
        let Some(tx) = database.transactions.remove(&transaction) else { return };
        let record = tx.change.record();
        match tx.change {
            Change::Insert(intent) => database.tables.insert(intent, tx.incarnation),
            Change::Put(intent, keep) => database.tables.put(intent, keep),
        }
        for effect in tx.effects {
            self.log.fact(now, effect);
        }
        self.unlock(store, record, transaction);
    }

    pub(super) fn roll_back(&mut self, store: usize, transaction: u64) {
        let Some(database) = self.database(store) else { return };
        let Some(tx) = database.transactions.remove(&transaction) else { return };
        self.unlock(store, tx.change.record(), transaction);
    }

    fn unlock(&mut self, store: usize, record: RecordId, transaction: u64) {
        let Some(database) = self.database(store) else { return };
        if database.locks.get(&record) == Some(&transaction) {
            database.locks.remove(&record);
        }
        let Some(next) = database.waiting.remove(&record) else { return };
        // All try again, in order: the first gets the lock, the others wait on.
        for job in next {
            self.plan(Duration::ZERO, Event::Step(store, job));
        }
    }

    /// A server cannot reach its database for a while.
    pub(crate) fn cut_store(&mut self, at: usize, time: Duration) {
        let life = Life(at, self.servers[at].life);
        if self.servers[at].cut || !self.lives(life) {
            return;
        }
        self.log.say(self.now, || format!("server {life:?} cannot reach its database for {time:?}"));
        self.servers[at].cut = true;
        self.abandon_transactions(self.servers[at].service, life);
        self.plan(Duration::ZERO, Event::Told(life, Box::new(StoreEvent::Down("cut off".into()))));
        self.plan(time, Event::Uncut(life));
    }

    pub(crate) fn uncut(&mut self, life: Life) {
        if self.lives(life) && self.servers[life.0].cut {
            self.servers[life.0].cut = false;
            self.plan(Duration::ZERO, Event::Told(life, Box::new(StoreEvent::Up)));
        }
    }

    /// The database is restarted: all connections break, and nothing that was uncommitted stays.
    pub(crate) fn restart_store(&mut self, store: usize) {
        let time = self.dice.ms(50, 1_500);
        for at in self.servers_of(store) {
            self.cut_store(at, time);
        }
        let Some(database) = self.database(store) else { return };
        let all: Vec<_> = database.transactions.keys().copied().collect();
        for transaction in all {
            // The planned end comes too late then, and finds nothing.
            let stage =
                self.database(store).and_then(|d| d.transactions.get(&transaction)).map(|tx| tx.stage);
            self.resolve(store, transaction, stage == Some(Stage::InDoubt { lands: true }));
        }
    }

    /// Somebody makes backups, now and then.
    pub(crate) fn back_up_all(&mut self) {
        if self.healed {
            return;
        }
        self.plan(BACKUPS, Event::Backup);
        for store in 0..self.stores.len() {
            if let Some(database) = self.database(store) {
                database.backup = Some(database.tables.clone());
            }
        }
    }

    /// The database is another one: empty, or as it was at the last backup. Whoever was connected notices and stops.
    pub(crate) fn replace_store(&mut self, store: usize, restore: bool) {
        let born = self.wall();
        let mut dice = Dice::new(self.dice.bits());
        match &mut self.stores[store] {
            Store::None => return,
            Store::File(file) => file.lose(born, &mut dice),
            Store::Database(database) => {
                let backup = database.backup.take().filter(|_| restore);
                let fresh = Database::new(database.atomic, born, &mut dice);
                **database = match backup {
                    Some(tables) => Database { id: database.id, tables, born: database.born, ..fresh },
                    None => fresh,
                };
            }
        }
        for at in self.servers_of(store) {
            let again = self.dice.ms(10, 300);
            self.crash_server(at, again);
        }
    }
}
