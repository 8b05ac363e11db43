//! Takes operations from the server's IO thread and gives them to connections: those of a kind that wait at the same time as one batch. Not the
//! operations themselves.
//!
//! No timer gathers batches: whatever arrives while all connections are busy is the next batch. A batch that fails is done again one by one, so that one
//! operation that cannot be done does not take others with it. Bounded by what the machine asks: one operation for each open call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::connection::{Connection, Lent, NoConnection, Pool};
use super::failure::Failure;
use super::finishes::End;
use super::sessions::Closing;
use super::{BESIDES, Core, atomic, claims, finishes, sessions, upkeep};
use crate::protocol::store::{Done, Intent, Op, StoreEvent, Ticket};

/// How long a batch may take. Then its connection is closed: a database that answers later has lost its caller anyway.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Operations in a batch: beyond some hundred a commit costs less than its rows.
const BATCH: usize = 256;
/// Bytes of answers in a batch.
const BATCH_BYTES: usize = 4 << 20;

/// Operations that wait for a connection.
#[derive(Default)]
struct Waiting {
    claims: VecDeque<(Ticket, Intent)>,
    finishes: VecDeque<(Ticket, End)>,
    closings: VecDeque<(Ticket, Closing)>,
    others: VecDeque<(Ticket, Op)>,
    /// Claims of an atomic store, which need connections for handlers.
    to_open: VecDeque<(Ticket, Intent)>,
    /// Ends of calls of an atomic store, each over the connection that it has. They do not wait, but are waited for when the store closes.
    ends: JoinSet<()>,
    /// Whose turn it is.
    turn: usize,
}

/// What one connection does at a time.
enum Batch {
    Claims(Vec<(Ticket, Intent)>),
    Finishes(Vec<(Ticket, End)>),
    Closings(Vec<(Ticket, Closing)>),
    One(Ticket, Op),
}

/// Connections and their number.
#[derive(Clone)]
struct Connections {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

impl Connections {
    fn new(core: &Arc<Core>, number: usize, handlers: bool) -> Self {
        let number = number.min(Semaphore::MAX_PERMITS);
        Connections { pool: Pool::new(core.clone(), handlers), permits: Arc::new(Semaphore::new(number)) }
    }

    /// When one is free.
    async fn permit(&self) -> OwnedSemaphorePermit {
        self.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Until the server lets go of the store, or the store stops.
pub(super) async fn run(core: Arc<Core>, mut asked: mpsc::UnboundedReceiver<(Ticket, Op)>) {
    let connections = core.settings.connections();
    let besides = if core.settings.atomic { BESIDES } else { connections };
    let (general, handlers) =
        (Connections::new(&core, besides, false), Connections::new(&core, connections, true));
    let mut waiting = Waiting::default();
    let mut stopped = core.stopped.subscribe();
    loop {
        tokio::select! {
            biased;
            Ok(stopped) = stopped.wait_for(Option::is_some) => {
                core.settings.transactions.clear();
                core.tell(StoreEvent::Stopped(stopped.clone().unwrap_or_default()));
                return;
            }
            op = asked.recv() => {
                let Some((ticket, op)) = op else { break };
                take_in(&core, &mut waiting, ticket, op);
            }
            permit = general.permit(), if !waiting.is_empty() => {
                let Some(batch) = waiting.next_batch() else { continue };
                tokio::spawn(run_batch(core.clone(), general.clone(), permit, batch));
            }
            permit = handlers.permit(), if !waiting.to_open.is_empty() => {
                let Some((ticket, intent)) = waiting.to_open.pop_front() else { continue };
                tokio::spawn(open_transaction(core.clone(), handlers.clone(), permit, ticket, intent));
            }
            Some(_) = waiting.ends.join_next() => {}
        }
    }
    let finished = finish_up(&core, &general, besides, waiting);
    if tokio::time::timeout(2 * PATIENCE, finished).await.is_err() {
        tracing::warn!("the store in PostgreSQL was closed before all was done that it was asked");
    }
    core.settings.transactions.clear();
}

/// Does what was asked before the server let go of the store; except claims of calls that nobody will run.
async fn finish_up(core: &Arc<Core>, general: &Connections, number: usize, mut waiting: Waiting) {
    while !waiting.is_empty() {
        let permit = general.permit().await;
        let Some(batch) = waiting.next_batch() else { break };
        tokio::spawn(run_batch(core.clone(), general.clone(), permit, batch));
    }
    while waiting.ends.join_next().await.is_some() {}
    // Until all connections are idle again.
    for _ in 0..number {
        general.permit().await.forget();
    }
}

/// Puts an operation where it waits, or answers it at once if the database is out of reach.
fn take_in(core: &Arc<Core>, waiting: &mut Waiting, ticket: Ticket, op: Op) {
    match op {
        // It has a connection, if it has anything.
        Op::Finish { claim, intent, keep } if core.settings.atomic => {
            let core = core.clone();
            waiting.ends.spawn(async move {
                let done = atomic::finish(&core, claim, &(intent, keep)).await;
                core.answer(ticket, done);
            });
        }
        _ if !core.up.load(Ordering::SeqCst) => {
            core.answer(ticket, Done::NotDone("PostgreSQL cannot be reached".into()));
        }
        Op::Claim(intent) if core.settings.atomic => waiting.to_open.push_back((ticket, intent)),
        Op::Claim(intent) => waiting.claims.push_back((ticket, intent)),
        Op::Finish { intent, keep, .. } => waiting.finishes.push_back((ticket, (intent, keep))),
        Op::Close { registration, below, ranges } => {
            waiting.closings.push_back((ticket, Closing { registration, below, ranges }));
        }
        op => waiting.others.push_back((ticket, op)),
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.claims.is_empty()
            && self.finishes.is_empty()
            && self.closings.is_empty()
            && self.others.is_empty()
    }

    /// What waits of one kind, the kinds in turn.
    fn next_batch(&mut self) -> Option<Batch> {
        for _ in 0..4 {
            self.turn = (self.turn + 1) % 4;
            let batch = match self.turn {
                0 if !self.finishes.is_empty() => Batch::Finishes(some_finishes(&mut self.finishes)),
                1 if !self.claims.is_empty() => Batch::Claims(some(&mut self.claims)),
                2 if !self.closings.is_empty() => Batch::Closings(some(&mut self.closings)),
                3 if !self.others.is_empty() => {
                    let (ticket, op) = self.others.pop_front()?;
                    Batch::One(ticket, op)
                }
                _ => continue,
            };
            return Some(batch);
        }
        None
    }
}

fn some<T>(queue: &mut VecDeque<T>) -> Vec<T> {
    queue.drain(..queue.len().min(BATCH)).collect()
}

fn some_finishes(queue: &mut VecDeque<(Ticket, End)>) -> Vec<(Ticket, End)> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some(finish) = queue.pop_front() else { break };
        bytes += finish.1.1.as_ref().map_or(0, crate::protocol::dedup::answer_bytes);
        batch.push(finish);
    }
    batch
}

impl Batch {
    fn tickets(&self) -> Vec<Ticket> {
        match self {
            Batch::Claims(batch) => batch.iter().map(|(ticket, _)| *ticket).collect(),
            Batch::Finishes(batch) => batch.iter().map(|(ticket, _)| *ticket).collect(),
            Batch::Closings(batch) => batch.iter().map(|(ticket, _)| *ticket).collect(),
            Batch::One(ticket, _) => vec![*ticket],
        }
    }

    /// One by one.
    fn apart(self) -> Vec<Batch> {
        match self {
            Batch::Claims(batch) => batch.into_iter().map(|one| Batch::Claims(vec![one])).collect(),
            Batch::Finishes(batch) => batch.into_iter().map(|one| Batch::Finishes(vec![one])).collect(),
            Batch::Closings(batch) => batch.into_iter().map(|one| Batch::Closings(vec![one])).collect(),
            one @ Batch::One(..) => vec![one],
        }
    }
}

/// What a batch came to: an answer for each, or for those that are known, and why not for the others.
struct Outcome {
    dones: Vec<Option<Done>>,
    failure: Option<Failure>,
}

async fn run_batch(core: Arc<Core>, connections: Connections, permit: OwnedSemaphorePermit, batch: Batch) {
    let mut lent = match connections.pool.lend(permit).await {
        Ok(lent) => lent,
        Err(why) => {
            let why = core.no_connection(&connections.pool, why);
            return core.answer_all(&batch.tickets(), Vec::new(), &Failure::Undone(why));
        }
    };
    let mut batches = VecDeque::from([batch]);
    while let Some(batch) = batches.pop_front() {
        let tickets = batch.tickets();
        let Outcome { dones, failure } = perform_in_time(&core, &lent.connection, &batch).await;
        let Some(failure) = failure else {
            core.answer_all(&tickets, dones, &Failure::Undone("not answered".into()));
            continue;
        };
        let unsure = matches!(failure, Failure::InDoubt(_));
        let usable = !unsure && !lent.connection.client.is_closed() && lent.connection.roll_back().await;
        if usable && tickets.len() > 1 {
            batches.extend(batch.apart());
            continue;
        }
        core.answer_all(&tickets, dones, &failure);
        if !usable {
            core.doubt.notify_one();
            lent = match lent.replaced().await {
                Ok(lent) => lent,
                Err(why) => {
                    let why = Failure::Undone(core.no_connection(&connections.pool, why));
                    return batches
                        .iter()
                        .for_each(|batch| core.answer_all(&batch.tickets(), Vec::new(), &why));
                }
            };
        }
    }
    lent.give_back();
}

async fn perform_in_time(core: &Core, connection: &Connection, batch: &Batch) -> Outcome {
    let mut decided = Vec::new();
    let performed = tokio::time::timeout(PATIENCE, perform(core, connection, batch, &mut decided)).await;
    let failure = match performed {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        // A claim is one transaction. Others may be statements that commit by themselves; none of them minds being asked again.
        Err(_) => {
            let is_claim = matches!(batch, Batch::Claims(_));
            Some(Failure::late(!is_claim || connection.is_committing(), PATIENCE))
        }
    };
    Outcome { dones: decided, failure }
}

async fn perform(
    core: &Core,
    connection: &Connection,
    batch: &Batch,
    decided: &mut Vec<Option<Done>>,
) -> Result<(), Failure> {
    let all = |dones: Vec<Done>| dones.into_iter().map(Some).collect();
    match batch {
        Batch::Claims(batch) => {
            let intents: Vec<Intent> = batch.iter().map(|(_, intent)| *intent).collect();
            claims::claim(core, connection, &intents, decided).await?;
        }
        Batch::Finishes(batch) => {
            let ends: Vec<&End> = batch.iter().map(|(_, end)| end).collect();
            *decided = all(finishes::finish(core, connection, &ends).await?);
        }
        Batch::Closings(batch) => {
            let closings: Vec<&Closing> = batch.iter().map(|(_, closing)| closing).collect();
            *decided = all(sessions::close(core, connection, &closings).await?);
        }
        Batch::One(_, op) => *decided = vec![Some(one(core, connection, op).await?)],
    }
    Ok(())
}

async fn one(core: &Core, connection: &Connection, op: &Op) -> Result<Done, Failure> {
    match op {
        Op::Register { registration, principal } => {
            sessions::register(connection, *registration, *principal).await
        }
        Op::Resume { registration, principal } => {
            sessions::resume(connection, *registration, *principal).await
        }
        Op::Settle(intent) => Ok(match claims::settle(core, connection, intent).await {
            Ok(done) => done,
            Err(Failure::Busy(why)) => return Err(Failure::InDoubt(format!("still in doubt: {why}"))),
            Err(failure) => return Err(failure),
        }),
        Op::Look { record, abandon } => upkeep::look(core, connection, *record, *abandon).await,
        Op::Sweep => upkeep::sweep(core, connection).await,
        // Of a store with a single owner, or in a batch.
        Op::End(_) | Op::Expire(_) | Op::Claim(_) | Op::Finish { .. } | Op::Close { .. } => {
            Ok(Done::NotDone("not an operation of a store that replicas share".into()))
        }
    }
}

async fn open_transaction(
    core: Arc<Core>,
    connections: Connections,
    permit: OwnedSemaphorePermit,
    ticket: Ticket,
    intent: Intent,
) {
    let lent: Lent = match connections.pool.lend(permit).await {
        Ok(lent) => lent,
        Err(why) => {
            let why = core.no_connection(&connections.pool, why);
            return core.answer(ticket, Done::NotDone(why));
        }
    };
    // If it takes too long, the connection goes with the future, and PostgreSQL rolls back.
    let claimed = tokio::time::timeout(PATIENCE, atomic::claim(&core, lent, ticket, &intent)).await;
    let done = match claimed {
        Ok(Ok(done)) => done,
        Ok(Err((failure, lent))) => {
            if !lent.connection.client.is_closed() && lent.connection.roll_back().await {
                lent.give_back();
            } else {
                core.doubt.notify_one();
            }
            failure.into_done()
        }
        Err(_) => {
            core.doubt.notify_one();
            Failure::late(false, PATIENCE).into_done()
        }
    };
    core.answer(ticket, done);
}

impl Core {
    fn answer(&self, ticket: Ticket, done: Done) {
        self.tell(StoreEvent::Done(ticket, done));
    }

    /// Answers a batch; what is not known has failed.
    fn answer_all(&self, tickets: &[Ticket], dones: Vec<Option<Done>>, failure: &Failure) {
        let known = dones.into_iter().chain(std::iter::repeat(None));
        for (&ticket, done) in tickets.iter().zip(known) {
            self.answer(ticket, done.unwrap_or_else(|| failure.clone().into_done()));
        }
    }

    /// The reason, after whoever should know it has been told.
    fn no_connection(&self, pool: &Pool, why: NoConnection) -> String {
        pool.clear();
        self.doubt.notify_one();
        match why {
            NoConnection::Unreachable(why) => why,
            NoConnection::Another(why) => {
                self.stop(why.clone());
                why
            }
        }
    }
}
