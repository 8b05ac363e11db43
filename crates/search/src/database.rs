//! The store that several servers share: a database with transactions, as PostgreSQL has them under READ COMMITTED. An insert of a key waits for whoever
//! holds that key; a statement sees what was committed when it began; a commit whose answer is lost lands, or does not, at any later time.

use std::collections::BTreeMap;

use selfsame::protocol::store::{Done, Found, Intent, Kept, Op, Opened, RecordId};
use selfsame::protocol::wire::{Answer, Refused};
use selfsame::protocol::{Incarnation, PrincipalId, Refusal, Registration, WallTime};
use selfsame::sabotage::{Bug, is_planted};

use crate::client::Purpose;
use crate::file::Closed;

/// How a step of an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Luck {
    /// As it should.
    Good,
    /// Its commit is sent, and the connection is lost.
    Doubt,
    /// It is rolled back.
    Undone,
    /// The lease of the record's owner has expired.
    Expired,
}

/// A record.
#[derive(Clone, Debug)]
struct Row {
    intent: Intent,
    owner: Incarnation,
    /// None: it runs.
    answer: Option<Answer>,
}

/// A transaction that holds the key of a record.
#[derive(Clone, Debug)]
struct Transaction {
    server: u8,
    intent: Intent,
    /// Session and watermark were looked at.
    checked: bool,
    /// The key is inserted. Always so, unless the rule that it comes first is switched off.
    holds: bool,
}

/// A commit in doubt. It holds its key until it has landed or not.
#[derive(Clone, Debug)]
struct Doubt {
    row: Option<Row>,
    id: RecordId,
    /// With it an effect of the handler.
    effect: bool,
    /// It is the start of a call.
    start: bool,
}

/// The content of the database.
#[derive(Clone, Debug, Default)]
pub struct Database {
    lives: u64,
    sessions: BTreeMap<Registration, (PrincipalId, Closed)>,
    rows: BTreeMap<RecordId, Row>,
    transactions: Vec<Transaction>,
    doubts: Vec<Doubt>,
    floor: WallTime,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Which server.
    pub server: u8,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Whether effects are part of the transactions.
    pub atomic: bool,
}

/// What a step did.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The operation is over.
    pub done: Option<Done>,
    /// A call was taken in, under this registration.
    pub starts: Option<(Purpose, Registration)>,
    /// An effect was committed.
    pub effect: Option<Purpose>,
}

impl From<Done> for Step {
    fn from(done: Done) -> Self {
        Step { done: Some(done), ..Step::default() }
    }
}

fn purpose(intent: &Intent) -> Purpose {
    intent.imprint.digest as Purpose
}

fn unknown() -> Answer {
    let (refusal, message) = (Refusal::RecordedUnknown, String::new());
    Answer::Refused(Refused { refusal, ambiguous: true, retry_after: None, message })
}

impl Row {
    fn found(&self) -> Done {
        let state = match &self.answer {
            Some(answer) => Kept::Ended(answer.clone()),
            None => Kept::Running(self.owner),
        };
        Done::Found(Found { imprint: self.intent.imprint, state })
    }
}

impl Database {
    /// A server opens it.
    pub fn opens(&mut self) -> Opened {
        self.lives += 1;
        let floor = self.floor;
        Opened { store: 1, generation: 1, ordinal: self.lives, floor, ..Opened::default() }
    }

    /// The connections of a server are gone: its transactions are rolled back.
    pub fn crashes(&mut self, server: u8) {
        self.transactions.retain(|transaction| transaction.server != server);
    }

    /// Sessions that live.
    pub fn sessions(&self) -> impl Iterator<Item = Registration> {
        self.sessions.keys().copied()
    }

    /// Whether all numbers below are closed; of a session that is gone all are.
    pub fn has_closed(&self, registration: Registration, below: u64) -> bool {
        self.sessions
            .get(&registration)
            .is_none_or(|(_, closed)| (1..below).all(|number| closed.contains(number)))
    }

    /// A session was idle for longer than its retention. It goes with its records.
    pub fn evicts(&mut self, registration: Registration) {
        self.sessions.remove(&registration);
        let held: Vec<_> = self.held().collect();
        let of = |id: &RecordId| matches!(id, RecordId::Sequenced(of, _) if *of == registration);
        self.rows.retain(|id, _| !of(id) || held.contains(id));
    }

    /// How many commits are in doubt.
    pub fn doubts(&self) -> usize {
        self.doubts.len()
    }

    /// A commit in doubt lands, or is found to be rolled back.
    pub fn settles(&mut self, at: usize, lands: bool) -> Step {
        let Doubt { row, id, effect, start } = self.doubts.remove(at);
        if !lands {
            return Step::default();
        }
        let mut step = Step::default();
        if let Some(row) = &row {
            step.effect = effect.then(|| purpose(&row.intent));
            step.starts = start.then(|| (purpose(&row.intent), row.intent.registration));
        }
        self.write(id, row);
        step
    }

    fn write(&mut self, id: RecordId, row: Option<Row>) {
        match row {
            Some(row) => self.rows.insert(id, row),
            None => self.rows.remove(&id),
        };
    }

    fn held(&self) -> impl Iterator<Item = RecordId> {
        let holding = self.transactions.iter().filter(|transaction| transaction.holds);
        let transactions = holding.map(|transaction| transaction.intent.record());
        transactions.chain(self.doubts.iter().map(|doubt| doubt.id))
    }

    fn is_held(&self, id: RecordId) -> bool {
        self.held().any(|held| held == id)
    }

    /// Does the next step of an operation. None: it has to wait, or cannot go this way.
    pub fn does(&mut self, asker: Asker, op: &Op, luck: Luck) -> Option<Step> {
        match (op, luck) {
            (Op::Claim(intent), _) => self.claim(asker, *intent, luck),
            (Op::Finish { intent, keep, .. }, _) if asker.atomic => self.commit(asker, *intent, keep, luck),
            (Op::Finish { intent, keep, .. }, _) => self.finish(asker, *intent, keep, luck),
            (Op::Look { record, abandon }, Luck::Good | Luck::Expired) => {
                self.look(asker, *record, *abandon, luck)
            }
            (Op::Settle(intent), Luck::Good) => self.settle(asker, *intent),
            (_, Luck::Doubt | Luck::Undone | Luck::Expired) => None,
            (Op::Register { registration, principal }, _) => {
                self.sessions.insert(*registration, (*principal, Closed::default()));
                Some(Done::Registered { ordinal: self.lives }.into())
            }
            (Op::Resume { registration, principal }, _) => {
                Some(self.resume(*registration, *principal).into())
            }
            (Op::Close { registration, below, ranges }, _) => {
                Some(self.close(*registration, *below, ranges).into())
            }
            (Op::End(_) | Op::Expire(_) | Op::Sweep, _) => Some(Done::Stored.into()),
        }
    }

    fn resume(&self, registration: Registration, principal: PrincipalId) -> Done {
        match self.sessions.get(&registration) {
            Some((of, Closed { below, ranges })) if *of == principal => {
                Done::Session { below: *below, ranges: ranges.clone(), ordinal: self.lives }
            }
            _ => Done::Gone,
        }
    }

    fn close(&mut self, registration: Registration, below: u64, ranges: &[(u64, u64)]) -> Done {
        let held: Vec<_> = self.held().collect();
        let Some((_, closed)) = self.sessions.get_mut(&registration) else { return Done::Gone };
        let before = closed.clone();
        closed.below = closed.below.max(below);
        for range in ranges.iter().filter(|range| range.1 >= below) {
            if !closed.ranges.contains(range) {
                closed.ranges.push(*range);
                closed.ranges.sort_unstable();
            }
        }
        let committed = closed.clone();
        if is_planted(Bug::DeletionWithoutWatermark) {
            *closed = before;
        }
        let closed = committed;
        self.rows.retain(|id, row| match id {
            RecordId::Sequenced(of, number) => {
                row.answer.is_none() || *of != registration || !closed.contains(*number) || held.contains(id)
            }
            RecordId::Keyed(..) => true,
        });
        Done::Stored
    }

    /// Why a call may not be taken in.
    fn bars(&self, intent: &Intent) -> Option<Done> {
        match intent.record() {
            RecordId::Sequenced(registration, number) => match self.sessions.get(&registration) {
                None => Some(Done::Gone),
                Some((_, closed)) => closed.contains(number).then_some(Done::Passed),
            },
            RecordId::Keyed(..) => None,
        }
    }

    fn claim(&mut self, asker: Asker, intent: Intent, luck: Luck) -> Option<Step> {
        let id = intent.record();
        let mine = |t: &Transaction| t.server == asker.server && t.intent.record() == id && !t.checked;
        let Some(at) = self.transactions.iter().position(mine) else {
            if self.is_held(id) || luck != Luck::Good {
                return None;
            }
            if let Some(row) = self.rows.get(&id) {
                return Some(row.found().into());
            }
            let holds = !is_planted(Bug::CheckBeforeInsert);
            if !holds && let Some(bar) = self.bars(&intent) {
                return Some(bar.into());
            }
            self.transactions.push(Transaction { server: asker.server, intent, checked: false, holds });
            return Some(Step::default());
        };
        if !self.transactions[at].holds {
            return self.insert_unchecked(asker, at, luck);
        }
        if luck == Luck::Undone {
            self.transactions.remove(at);
            return Some(Done::NotDone("rolled back".into()).into());
        }
        // A later statement than the insert, so it sees what was committed before the key was ours.
        if let Some(bar) = self.bars(&intent) {
            self.transactions.remove(at);
            return (luck == Luck::Good).then(|| bar.into());
        }
        let starts = Some((purpose(&intent), intent.registration));
        if asker.atomic {
            self.transactions[at].checked = true;
            let done = Some(Done::Claimed);
            return (luck == Luck::Good).then_some(Step { done, starts, effect: None });
        }
        self.transactions.remove(at);
        let row = Row { intent, owner: asker.incarnation, answer: None };
        match luck {
            Luck::Doubt => {
                self.doubts.push(Doubt { row: Some(row), id, effect: false, start: true });
                Some(Done::InDoubt("the connection was lost".into()).into())
            }
            Luck::Good => {
                self.write(id, Some(row));
                Some(Step { done: Some(Done::Claimed), starts, effect: None })
            }
            Luck::Undone | Luck::Expired => None,
        }
    }

    /// The rule switched off: what was looked at before the insert is not looked at again.
    fn insert_unchecked(&mut self, asker: Asker, at: usize, luck: Luck) -> Option<Step> {
        let intent = self.transactions[at].intent;
        let id = intent.record();
        if luck != Luck::Good || asker.atomic || self.is_held(id) {
            return None;
        }
        self.transactions.remove(at);
        if let Some(row) = self.rows.get(&id) {
            return Some(row.found().into());
        }
        self.write(id, Some(Row { intent, owner: asker.incarnation, answer: None }));
        let starts = Some((purpose(&intent), intent.registration));
        Some(Step { done: Some(Done::Claimed), starts, effect: None })
    }

    fn owned(&self, asker: Asker, id: RecordId) -> bool {
        self.rows.get(&id).is_some_and(|row| row.answer.is_none() && row.owner == asker.incarnation)
    }

    fn finish(&mut self, asker: Asker, intent: Intent, keep: &Option<Answer>, luck: Luck) -> Option<Step> {
        let id = intent.record();
        if self.is_held(id) {
            return None;
        }
        if luck == Luck::Undone {
            return Some(Done::NotDone("rolled back".into()).into());
        }
        if !self.owned(asker, id) && !is_planted(Bug::FinishWithoutSwap) {
            let found = self.rows.get(&id).map_or(Done::Absent, Row::found);
            return (luck == Luck::Good).then(|| found.into());
        }
        let row = keep.as_ref().map(|answer| Row {
            intent,
            owner: asker.incarnation,
            answer: Some(answer.clone()),
        });
        match luck {
            Luck::Doubt => {
                self.doubts.push(Doubt { row, id, effect: false, start: false });
                Some(Done::InDoubt("the connection was lost".into()).into())
            }
            Luck::Good => {
                self.write(id, row);
                Some(Done::Stored.into())
            }
            Luck::Undone | Luck::Expired => None,
        }
    }

    /// The end of a transaction in which the handler worked.
    fn commit(&mut self, asker: Asker, intent: Intent, keep: &Option<Answer>, luck: Luck) -> Option<Step> {
        let id = intent.record();
        let mine = |t: &Transaction| t.server == asker.server && t.intent.record() == id && t.checked;
        let Some(at) = self.transactions.iter().position(mine) else {
            return (luck == Luck::Good).then(|| Done::NotDone("no such transaction".into()).into());
        };
        self.transactions.remove(at);
        let Some(answer) = keep else {
            return (luck == Luck::Good).then(|| Done::Stored.into());
        };
        let effect = matches!(answer, Answer::Ok(_));
        let row = Row { intent, owner: asker.incarnation, answer: Some(answer.clone()) };
        match luck {
            Luck::Good => {
                self.write(id, Some(row));
                let effect = effect.then(|| purpose(&intent));
                Some(Step { done: Some(Done::Stored), starts: None, effect })
            }
            Luck::Doubt => {
                self.doubts.push(Doubt { row: Some(row), id, effect, start: false });
                Some(Done::InDoubt("the connection was lost".into()).into())
            }
            Luck::Undone => Some(Done::NotDone("rolled back".into()).into()),
            Luck::Expired => None,
        }
    }

    /// Inserts the key again, which waits for whoever holds it, and takes that back.
    fn settle(&mut self, asker: Asker, intent: Intent) -> Option<Step> {
        let id = intent.record();
        if self.is_held(id) && !is_planted(Bug::SettleBySelect) {
            return None;
        }
        let done = match self.rows.get(&id) {
            Some(_) if self.owned(asker, id) => Done::Claimed,
            Some(row) => row.found(),
            None => self.bars(&intent).unwrap_or(Done::Absent),
        };
        Some(done.into())
    }

    fn look(&mut self, asker: Asker, id: RecordId, abandon: bool, luck: Luck) -> Option<Step> {
        let Some(row) = self.rows.get(&id) else {
            return (luck == Luck::Good).then(|| Done::Absent.into());
        };
        let running = row.answer.is_none();
        let ours = abandon && row.owner == asker.incarnation;
        if !running || luck == Luck::Good && !ours {
            return (luck == Luck::Good).then(|| row.found().into());
        }
        if self.is_held(id) {
            return None;
        }
        if is_planted(Bug::ExpiredLeaseRunsAgain) {
            self.rows.remove(&id);
            return Some(Done::Absent.into());
        }
        let row = Row { answer: Some(unknown()), ..row.clone() };
        let found = row.found();
        self.write(id, Some(row));
        Some(found.into())
    }

    /// The owner of a record that runs.
    pub fn owner(&self, id: RecordId) -> Option<Incarnation> {
        self.rows.get(&id).filter(|row| row.answer.is_none()).map(|row| row.owner)
    }
}
