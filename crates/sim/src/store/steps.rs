//! The operations of a database, statement by statement. Between two steps anything may happen: the server may die or stand still, the connection may
//! break, and others go on.

use std::time::Duration;

use selfsame::protocol::Registration;
use selfsame::protocol::store::{Done, Intent, Kept, Op, RecordId, Ticket};
use selfsame::sabotage::{Bug, is_planted};

use super::database::{Change, Database, Job, Stage, Transaction};
use super::tables::{Bar, nobody_knows};
use crate::event::{Event, Life};
use crate::world::World;

/// How long a statement waits for a lock.
const LOCK_WAIT: Duration = Duration::from_millis(900);
/// How long a transaction may be idle.
const IDLE: Duration = Duration::from_millis(4_000);

/// What becomes of a commit.
enum Fate {
    Done,
    NotDone,
    InDoubt { lands: bool },
}

impl World {
    pub(crate) fn ask_database(&mut self, store: usize, life: Life, ticket: Ticket, op: Op) {
        let incarnation = self.servers[life.0].incarnation;
        let job = self.serial();
        let latency = self.store_latency();
        let phase = 0;
        let asked = Job { life, incarnation, ticket, op, phase, transaction: None, early: None };
        if let Some(database) = self.database(store) {
            database.jobs.insert(job, asked);
        }
        self.plan(latency, Event::Step(store, job));
    }

    /// An operation goes a step on.
    pub(crate) fn step(&mut self, store: usize, id: u64) {
        let Some(job) = self.database(store).and_then(|database| database.jobs.get(&id)).cloned() else {
            return;
        };
        if !self.lives(job.life) || self.crashes_here(job.life) {
            return;
        }
        if self.servers[job.life.0].cut {
            return self.answer(store, id, Done::NotDone("cut off".into()));
        }
        match &job.op {
            Op::Claim(intent) => self.claim(store, id, &job, *intent),
            Op::Settle(intent) => self.settle(store, id, &job, *intent),
            Op::Finish { .. } => self.finish_record(store, id, &job),
            Op::Look { record, abandon } => self.look(store, id, &job, *record, *abandon),
            Op::Register { .. } | Op::Resume { .. } | Op::Close { .. } | Op::Sweep => {
                self.simple(store, id, &job)
            }
            Op::End(_) | Op::Expire(_) => {
                self.answer(store, id, Done::NotDone("only asked of a store with a single owner".into()));
            }
        }
    }

    /// The operation has ended.
    fn answer(&mut self, store: usize, id: u64, done: Done) {
        let Some(job) = self.database(store).and_then(|database| database.jobs.remove(&id)) else { return };
        self.seen.store_done(&job.op, &done);
        self.done(job.life, job.ticket, done);
    }

    fn next(&mut self, store: usize, id: u64, phase: u8, transaction: Option<u64>) {
        if let Some(job) = self.database(store).and_then(|database| database.jobs.get_mut(&id)) {
            job.phase = phase;
            job.transaction = transaction;
        }
        let latency = self.store_latency();
        self.plan(latency, Event::Step(store, id));
    }

    /// The connection on which an operation is under way is gone.
    pub(super) fn break_off(&mut self, store: usize, id: u64) {
        let atomic = self.database(store).is_some_and(|database| database.atomic);
        let Some(job) = self.database(store).and_then(|database| database.jobs.get(&id)).cloned() else {
            return;
        };
        // Only after its last statement may it have taken effect.
        let committing = match job.op {
            Op::Claim(_) => !atomic && job.phase == 2,
            Op::Finish { .. } => job.phase == 1,
            _ => false,
        };
        if let (true, Some(transaction)) = (committing, job.transaction) {
            let (lands, later) = (self.dice.percent(50), self.doubtful_time());
            self.end_later(store, transaction, lands, later);
            return self.answer(store, id, Done::InDoubt("the connection broke".into()));
        }
        if let Some(transaction) = job.transaction {
            let later = self.doubtful_time();
            self.end_later(store, transaction, false, later);
        }
        self.answer(store, id, Done::NotDone("the connection broke".into()));
    }

    fn doubtful_time(&mut self) -> Duration {
        if self.healed { Duration::ZERO } else { self.dice.ms(0, 1_500) }
    }

    fn fate(&mut self) -> Fate {
        if self.healed {
            Fate::Done
        } else if self.dice.per_mille(self.profile.faults.not_done) {
            Fate::NotDone
        } else if self.dice.per_mille(self.profile.faults.in_doubt) {
            Fate::InDoubt { lands: self.dice.percent(50) }
        } else {
            Fate::Done
        }
    }

    /// Somebody else holds the record: waits until it is let go of. True if so.
    fn waits(&mut self, store: usize, id: u64, record: RecordId) -> bool {
        let Some(database) = self.database(store) else { return false };
        if !database.locks.contains_key(&record) {
            return false;
        }
        database.waiting.entry(record).or_default().push_back(id);
        self.seen.visit("transaction", "waits for a lock");
        self.plan(LOCK_WAIT, Event::LockTimeout(store, id));
        true
    }

    /// A lock was waited for long enough.
    pub(crate) fn lock_timeout(&mut self, store: usize, id: u64) {
        let Some(database) = self.database(store) else { return };
        let Some(job) = database.jobs.get(&id) else { return };
        let waits = database.waiting.values().any(|queue| queue.contains(&id));
        let busy = if matches!(job.op, Op::Claim(_)) {
            Done::Busy
        } else {
            Done::NotDone("waited for too long".into())
        };
        if waits {
            database.waiting.values_mut().for_each(|queue| queue.retain(|waiting| *waiting != id));
            self.answer(store, id, busy);
        }
    }

    fn begin_transaction(
        &mut self,
        store: usize,
        job: &Job,
        change: Change,
        shares: Option<Registration>,
    ) -> u64 {
        let transaction = self.serial();
        let record = change.record();
        let (life, incarnation, ticket) = (job.life, job.incarnation, job.ticket);
        let tx = Transaction {
            life,
            incarnation,
            ticket,
            change,
            effects: Vec::new(),
            shares,
            stage: Stage::Open,
        };
        if let Some(database) = self.database(store) {
            database.locks.insert(record, transaction);
            database.transactions.insert(transaction, tx);
        }
        self.plan(IDLE, Event::Idle(store, transaction));
        transaction
    }

    /// Insert; then, in a later statement, look whether it may stand; then commit, or leave it open for the handler.
    fn claim(&mut self, store: usize, id: u64, job: &Job, intent: Intent) {
        let Some(database) = self.database(store) else { return };
        let record = intent.record();
        match (job.phase, job.transaction) {
            (0, _) => {
                if is_planted(Bug::CheckBeforeInsert) && job.early.is_none() {
                    let early = Some(database.tables.bar(&intent));
                    if let Some(job) = database.jobs.get_mut(&id) {
                        job.early = early;
                    }
                    return self.next(store, id, 0, None);
                }
                if self.waits(store, id, record) {
                    return;
                }
                if let Some(found) = self.database(store).and_then(|database| database.tables.found(record)) {
                    return self.answer(store, id, Done::Found(found));
                }
                let shares = matches!(record, RecordId::Sequenced(..)).then_some(intent.registration);
                let transaction = self.begin_transaction(store, job, Change::Insert(intent), shares);
                self.next(store, id, 1, Some(transaction));
            }
            (1, Some(transaction)) if database.transactions.contains_key(&transaction) => {
                let bar = job.early.unwrap_or_else(|| database.tables.bar(&intent));
                if let Some(bar) = bar {
                    self.roll_back(store, transaction);
                    return self.answer(store, id, barred(bar));
                }
                if self.database(store).is_some_and(|database| database.atomic) {
                    return self.answer(store, id, Done::Claimed);
                }
                self.next(store, id, 2, Some(transaction));
            }
            (_, Some(transaction)) if database.transactions.contains_key(&transaction) => {
                self.end_with(store, id, transaction, Done::Claimed);
            }
            _ => self.answer(store, id, Done::NotDone("the transaction was idle for too long".into())),
        }
    }

    /// Commits, with all that may come of it.
    fn end_with(&mut self, store: usize, id: u64, transaction: u64, done: Done) {
        match self.fate() {
            Fate::Done => {
                self.commit(store, transaction);
                self.answer(store, id, done);
            }
            Fate::NotDone => {
                self.roll_back(store, transaction);
                self.answer(store, id, Done::NotDone("the commit failed".into()));
            }
            Fate::InDoubt { lands } => {
                let later = self.doubtful_time();
                self.end_later(store, transaction, lands, later);
                self.answer(store, id, Done::InDoubt("the connection broke during the commit".into()));
            }
        }
    }

    /// Inserts the same record again: that waits until the transaction in doubt has ended.
    fn settle(&mut self, store: usize, id: u64, job: &Job, intent: Intent) {
        let record = intent.record();
        if !is_planted(Bug::SettleBySelect) && self.waits(store, id, record) {
            return;
        }
        let Some(database) = self.database(store) else { return };
        let done = match database.tables.found(record) {
            Some(found) if found.state == Kept::Running(job.incarnation) => Done::Claimed,
            Some(found) => Done::Found(found),
            None => match database.tables.bar(&intent) {
                Some(Bar::Gone) => Done::Gone,
                Some(Bar::Passed) => Done::Passed,
                Some(Bar::Expired) | None => Done::Absent,
            },
        };
        self.answer(store, id, done);
    }

    fn finish_record(&mut self, store: usize, id: u64, job: &Job) {
        let Op::Finish { claim, intent, keep } = &job.op else { return };
        let Some(database) = self.database(store) else { return };
        if database.atomic {
            return self.finish_transaction(store, id, job, *claim);
        }
        match (job.phase, job.transaction) {
            (0, _) => {
                if self.waits(store, id, intent.record()) {
                    return;
                }
                let Some(database) = self.database(store) else { return };
                let ours = database.tables.runs_at(intent.record(), job.incarnation);
                let any =
                    is_planted(Bug::FinishWithoutSwap) && database.tables.found(intent.record()).is_some();
                if !ours && !any {
                    let done = database.tables.found(intent.record()).map_or(Done::Absent, Done::Found);
                    return self.answer(store, id, done);
                }
                let transaction =
                    self.begin_transaction(store, job, Change::Put(*intent, keep.clone()), None);
                self.next(store, id, 1, Some(transaction));
            }
            (_, Some(transaction)) if database.transactions.contains_key(&transaction) => {
                self.end_with(store, id, transaction, Done::Stored);
            }
            _ => self.answer(store, id, Done::NotDone("the transaction was idle for too long".into())),
        }
    }

    /// Commits what the handler did together with its record; or rolls both back.
    fn finish_transaction(&mut self, store: usize, id: u64, job: &Job, claim: Ticket) {
        let Op::Finish { intent, keep, .. } = &job.op else { return };
        let Some(database) = self.database(store) else { return };
        let its = |(_, tx): &(&u64, &Transaction)| {
            tx.life == job.life && tx.ticket == claim && tx.stage == Stage::Open
        };
        let Some(transaction) = database.transactions.iter().find(its).map(|(id, _)| *id) else {
            return self.answer(store, id, Done::NotDone("the transaction is gone".into()));
        };
        if keep.is_none() {
            self.roll_back(store, transaction);
            return self.answer(store, id, Done::Stored);
        }
        if job.phase == 0 {
            let failed = matches!(keep, Some(selfsame::protocol::wire::Answer::Failed(_)));
            if let Some(tx) = database.transactions.get_mut(&transaction) {
                tx.change = Change::Put(*intent, keep.clone());
                if failed {
                    // Back to the savepoint from before the handler.
                    tx.effects.clear();
                }
            }
            return self.next(store, id, 1, Some(transaction));
        }
        self.end_with(store, id, transaction, Done::Stored);
    }

    /// Reads a record that somebody else runs; if that one is dead, it becomes an Unknown by compare-and-swap.
    fn look(&mut self, store: usize, id: u64, job: &Job, record: RecordId, abandon: bool) {
        let now = self.now;
        let Some(database) = self.database(store) else { return };
        let Some(found) = database.tables.found(record) else {
            return self.answer(store, id, Done::Absent);
        };
        let Kept::Running(owner) = found.state else {
            return self.answer(store, id, Done::Found(found));
        };
        let dead = !database.is_alive(owner, now) || abandon && owner == job.incarnation;
        if !dead {
            return self.answer(store, id, Done::Found(found));
        }
        if self.waits(store, id, record) {
            return;
        }
        self.seen.visit("record of a dead owner", "looked at");
        if is_planted(Bug::ExpiredLeaseRunsAgain) {
            if let Some(database) = self.database(store) {
                database.tables.rows.remove(&record);
            }
            return self.answer(store, id, Done::Absent);
        }
        match self.fate() {
            Fate::NotDone => return self.answer(store, id, Done::NotDone("the update failed".into())),
            Fate::InDoubt { lands } => {
                if lands {
                    self.bury(store, record);
                }
                return self.answer(store, id, Done::InDoubt("the connection broke".into()));
            }
            Fate::Done => self.bury(store, record),
        }
        let found = self.database(store).and_then(|database| database.tables.found(record));
        self.answer(store, id, found.map_or(Done::Absent, Done::Found));
    }

    /// What runs at a dead owner becomes an Unknown.
    fn bury(&mut self, store: usize, record: RecordId) {
        let Some(database) = self.database(store) else { return };
        if database.locks.contains_key(&record) {
            return;
        }
        if let Some(row) =
            database.tables.rows.get(&record).filter(|row| matches!(row.state, Kept::Running(_)))
        {
            let intent = row.intent;
            database.tables.put(intent, Some(nobody_knows()));
        }
    }

    /// What one statement does.
    fn simple(&mut self, store: usize, id: u64, job: &Job) {
        let (lands, told) = match self.fate() {
            Fate::Done => (true, None),
            Fate::NotDone => (false, Some(Done::NotDone("it failed".into()))),
            Fate::InDoubt { lands } => (lands, Some(Done::InDoubt("the connection broke".into()))),
        };
        let done = if lands { self.apply(store, &job.op) } else { Done::Stored };
        self.answer(store, id, told.unwrap_or(done));
    }

    fn apply(&mut self, store: usize, op: &Op) -> Done {
        let now = self.now;
        if matches!(op, Op::Sweep) {
            self.sweep_database(store);
            return Done::Stored;
        }
        let Some(database) = self.database(store) else { return Done::Stored };
        let ordinal = database.ordinal;
        match op {
            Op::Register { registration, principal } => {
                database.tables.register(*registration, *principal, now);
                Done::Registered { ordinal }
            }
            Op::Resume { registration, principal } => {
                let session = database.tables.sessions.get_mut(registration);
                match session.filter(|session| session.principal == *principal) {
                    Some(session) => {
                        session.seen = now;
                        Done::Session { below: session.below, ranges: session.ranges.clone(), ordinal }
                    }
                    None => Done::Gone,
                }
            }
            Op::Close { registration, below, ranges } => {
                if database.tables.close(*registration, *below, ranges, now) {
                    Done::Stored
                } else {
                    Done::Gone
                }
            }
            _ => Done::Stored,
        }
    }

    /// Idle sessions, expired keys, and what dead owners left.
    fn sweep_database(&mut self, store: usize) {
        let (now, wall, kept) = (self.now, self.wall(), self.kept());
        let Some(database) = self.database(store) else { return };
        let dead: Vec<_> = database
            .tables
            .running()
            .filter(|(_, owner)| !database.is_alive(*owner, now))
            .map(|(record, _)| record)
            .collect();
        for record in dead {
            self.seen.visit("record of a dead owner", "swept");
            self.bury(store, record);
        }
        let Some(database) = self.database(store) else { return };
        let held = |database: &Database, registration: Registration| {
            database.transactions.values().any(|tx| tx.shares == Some(registration))
        };
        let idle: Vec<_> = database
            .tables
            .sessions
            .iter()
            .filter(|(registration, session)| {
                session.seen + kept < now
                    && !database.tables.has_running(**registration)
                    && !held(database, **registration)
            })
            .map(|(registration, _)| *registration)
            .collect();
        for registration in idle {
            database.tables.end(registration);
        }
        let expired: Vec<_> = database
            .tables
            .rows
            .values()
            .filter(|row| matches!(row.state, Kept::Ended(_)))
            .filter_map(|row| match row.intent.id {
                selfsame::protocol::CallId::Keyed(key) if key.expiry <= wall => {
                    Some((row.intent.principal, key.key, key.expiry))
                }
                _ => None,
            })
            .collect();
        let floor = database.tables.floor;
        database.tables.expire(&expired);
        if is_planted(Bug::ExpireWithoutFloor) {
            database.tables.floor = floor;
        }
    }
}

fn barred(bar: Bar) -> Done {
    match bar {
        Bar::Gone => Done::Gone,
        Bar::Passed => Done::Passed,
        Bar::Expired => Done::Expired,
    }
}
