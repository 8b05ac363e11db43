//! A durable store as one file has it: one owner, operations in order, whatever arrives during a sync is the next batch, and what was not synced at a
//! crash is lost, or not.

use std::time::Duration;

use selfsame::protocol::store::{Done, Kept, Op, Opened, StoreEvent, Ticket};
use selfsame::protocol::{Incarnation, Moment, WallTime};
use selfsame::sabotage::{Bug, is_planted};

use super::Store;
use super::tables::{Bar, Tables, nobody_knows};
use crate::dice::Dice;
use crate::event::{Event, Life};
use crate::world::World;

/// See the [module](self).
pub struct File {
    at: usize,
    id: u128,
    ordinal: u64,
    born: WallTime,
    durable: Tables,
    /// The disk is full, or a sync is going to fail.
    pub(crate) broken: bool,
    owner: Option<Owner>,
}

/// The file as its owner has it open.
struct Owner {
    life: Life,
    incarnation: Incarnation,
    /// With everything that was asked.
    image: Tables,
    /// Asked and not yet begun.
    queue: Vec<(Ticket, Op)>,
    /// Being written.
    batch: Vec<(Ticket, Op, Done)>,
    /// Told as done, to be written with the next batch.
    lazy: Vec<Op>,
    flushing: bool,
    stopped: bool,
}

impl File {
    pub fn new(at: usize, born: WallTime, dice: &mut Dice) -> Self {
        File { at, id: dice.wide(), ordinal: 0, born, durable: Tables::default(), broken: false, owner: None }
    }

    /// Records that run at nobody.
    pub fn left_running(&self) -> usize {
        self.owner.as_ref().map_or(0, |owner| owner.image.running().count())
    }

    /// Another, empty file takes its place.
    pub fn lose(&mut self, born: WallTime, dice: &mut Dice) {
        *self = File::new(self.at, born, dice);
    }

    fn owned_by(&mut self, life: Life) -> Option<&mut Owner> {
        self.owner.as_mut().filter(|owner| owner.life == life)
    }
}

fn apply(tables: &mut Tables, op: &Op, owner: Incarnation, now: Moment) -> Done {
    match op {
        Op::Register { registration, principal } => tables.register(*registration, *principal, now),
        Op::Claim(intent) => {
            if let Some(found) = tables.found(intent.record()) {
                return Done::Found(found);
            }
            match tables.bar(intent) {
                Some(Bar::Gone) => return Done::Gone,
                Some(Bar::Passed) => return Done::Passed,
                Some(Bar::Expired) => return Done::Expired,
                None => {}
            }
            tables.insert(*intent, owner);
            return Done::Claimed;
        }
        Op::Finish { intent, keep, .. } => {
            if !tables.runs_at(intent.record(), owner) {
                return tables.found(intent.record()).map_or(Done::Absent, Done::Found);
            }
            tables.put(*intent, keep.clone());
        }
        Op::Close { registration, below, ranges } => {
            if !tables.close(*registration, *below, ranges, now) {
                return Done::Gone;
            }
        }
        Op::End(registration) => tables.end(*registration),
        Op::Expire(keys) => tables.expire(keys),
        Op::Settle(intent) => {
            return match tables.found(intent.record()) {
                Some(found) if found.state == Kept::Running(owner) => Done::Claimed,
                Some(found) => Done::Found(found),
                None => Done::Absent,
            };
        }
        Op::Resume { .. } | Op::Look { .. } | Op::Sweep => {
            return Done::NotDone("not asked of a store with a single owner".into());
        }
    }
    Done::Stored
}

impl World {
    fn file(&mut self, store: usize) -> Option<&mut File> {
        match &mut self.stores[store] {
            Store::File(file) => Some(file),
            _ => None,
        }
    }

    /// The owner reads what is there; what was begun and not ended becomes a recorded Unknown.
    pub(crate) fn open_file(&mut self, store: usize, life: Life) {
        if !self.lives(life) || self.crashes_here(life) {
            return;
        }
        let incarnation = self.servers[life.0].incarnation;
        let Some(file) = self.file(store) else { return };
        if file.broken {
            let again = self.dice.ms(200, 1_000);
            return self.crash_server(life.0, again);
        }
        file.ordinal += 1;
        let unfinished: Vec<_> = file.durable.running().map(|(record, _)| record).collect();
        for record in unfinished {
            let Some(row) = file.durable.rows.get(&record) else { continue };
            let keep = (!is_planted(Bug::UnfinishedForgottenAtOpen)).then(nobody_knows);
            let intent = row.intent;
            file.durable.put(intent, keep);
        }
        let opened = Opened {
            store: file.id,
            generation: 1,
            ordinal: file.ordinal,
            born: file.born,
            floor: file.durable.floor,
            sessions: file.durable.stored_sessions(),
            records: file.durable.ended(),
        };
        file.owner = Some(Owner {
            life,
            incarnation,
            image: file.durable.clone(),
            queue: Vec::new(),
            batch: Vec::new(),
            lazy: Vec::new(),
            flushing: false,
            stopped: false,
        });
        self.plan(Duration::ZERO, Event::Told(life, Box::new(StoreEvent::Opened(Box::new(opened)))));
    }

    pub(crate) fn ask_file(&mut self, store: usize, life: Life, ticket: Ticket, op: Op) {
        let now = self.now;
        let Some(owner) = self.file(store).and_then(|file| file.owned_by(life)) else { return };
        if owner.stopped {
            return;
        }
        // Closed numbers need not be durable at once.
        if matches!(op, Op::Close { .. }) && owner.queue.is_empty() {
            let done = apply(&mut owner.image, &op, owner.incarnation, now);
            owner.lazy.push(op);
            return self.done(life, ticket, done);
        }
        owner.queue.push((ticket, op));
        if !owner.flushing {
            self.begin_flush(store, life);
        }
    }

    fn begin_flush(&mut self, store: usize, life: Life) {
        let now = self.now;
        let Some(owner) = self.file(store).and_then(|file| file.owned_by(life)) else { return };
        for (ticket, op) in std::mem::take(&mut owner.queue) {
            let done = apply(&mut owner.image, &op, owner.incarnation, now);
            owner.batch.push((ticket, op, done));
        }
        owner.flushing = true;
        let mut time = self.store_latency();
        if is_planted(Bug::SkippedFsync) {
            // It is told as durable now, and is so when the system gets round to it.
            let Some(owner) = self.file(store).and_then(|file| file.owned_by(life)) else { return };
            let told: Vec<_> = owner.batch.iter().map(|(ticket, _, done)| (*ticket, done.clone())).collect();
            owner.lazy.extend(owner.batch.drain(..).map(|(_, op, _)| op));
            owner.flushing = false;
            for (ticket, done) in told {
                self.done(life, ticket, done);
            }
            time = Duration::from_millis(400);
        }
        self.plan(time, Event::Flushed(store, life));
    }

    /// The batch is on disk; or that failed, and the store is stopped.
    pub(crate) fn flushed(&mut self, store: usize, life: Life) {
        if !self.lives(life) || self.crashes_here(life) {
            return;
        }
        let landed = self.dice.percent(50);
        let now = self.now;
        let Some(file) = self.file(store) else { return };
        let broken = file.broken;
        if broken {
            if landed {
                file.land(now);
            }
            let Some(owner) = file.owned_by(life) else { return };
            owner.stopped = true;
            let why = "the disk is full".to_string();
            return self.plan(Duration::ZERO, Event::Told(life, Box::new(StoreEvent::Stopped(why))));
        }
        file.land(now);
        let Some(owner) = file.owned_by(life) else { return };
        owner.flushing = false;
        let more = !owner.queue.is_empty();
        let told: Vec<_> = owner.batch.drain(..).map(|(ticket, _, done)| (ticket, done)).collect();
        if more {
            self.begin_flush(store, life);
        }
        for (ticket, done) in told {
            self.done(life, ticket, done);
        }
    }

    /// The owner is dead: what was being written is on disk, or not.
    pub(crate) fn abandon_file(&mut self, store: usize, life: Life) {
        let landed = self.dice.percent(40);
        let now = self.now;
        let Some(file) = self.file(store) else { return };
        if file.owned_by(life).is_none() {
            return;
        }
        if landed && !is_planted(Bug::SkippedFsync) {
            file.land(now);
        }
        file.owner = None;
    }

    /// The disk has room again.
    pub(crate) fn repair(&mut self, store: usize) {
        if let Some(file) = self.file(store) {
            file.broken = false;
        }
    }
}

impl File {
    /// What was written is durable.
    fn land(&mut self, now: Moment) {
        let Some(owner) = &mut self.owner else { return };
        for op in owner.lazy.drain(..) {
            apply(&mut self.durable, &op, owner.incarnation, now);
        }
        for (_, op, _) in &owner.batch {
            apply(&mut self.durable, op, owner.incarnation, now);
        }
    }
}
