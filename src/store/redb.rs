//! The store `durable`: one file, written by a thread of its own. Operations that wait are one batch and one fsync, and whatever arrives during a
//! flush is the next batch: group commit without a timer. Each is told done when the flush has ended.
//!
//! It is not read, except when it is opened: the machine above holds all of it in memory. And it does not try again: a write or fsync that has failed
//! stops it for good, since what the system has then dropped cannot be known.
//!
//! What a batch changes is appended to a log in front of redb's tables, and synced there ([`log`]). The tables have it in a transaction that stays open, which is
//! committed when the log is full, when a batch is too large for it, and at the end. Opening brings what only the log has into the tables.
//!
//! redb commits with one fsync: pages, their checksums and the switch to them are written together, and a commit that a crash has torn is noticed at the
//! next opening and undone as a whole; the log then still has what was in it. redb's two-phase commit and quick repair cost a second fsync. The first defends
//! against a peer that knows the file and times a crash; here it would have to forge XXH3 among random registrations. The second spares a walk through the file
//! after a crash; here the file is read as a whole at every opening. What the log cannot tell apart: a torn last entry, and a last entry whose bits
//! were flipped after a crash and before the opening. Both are undone.

mod batch;
mod codec;
mod guard;
mod log;
mod opening;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use redb::{Database, DatabaseError, StorageError, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use self::batch::Batch;
use self::codec::Broken;
use self::log::{Changes, Log};
use super::{Link, Opener};
use crate::error::{SetupError, panic_text};
use crate::protocol::Incarnation;
use crate::protocol::store::{Op, Opened, StoreEvent, Ticket};
use crate::sabotage::{kill_point, planted};

/// Operations in one batch. 4,096: four windows of 1,024 calls. More would save little of a flush each, and let the first wait longer.
const BATCH: usize = 4096;

/// Memory for pages of the file. 32 MiB: the paths to all rows of some million records; redb's default is 1 GiB, but everything is in the server's memory
/// as well, and a row is read only when it is changed.
const CACHE: usize = 32 * 1024 * 1024;

/// Where, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    path: PathBuf,
    /// See [`Store::rerun_unfinished`](super::Store::rerun_unfinished).
    pub rerun_unfinished: bool,
}

impl Settings {
    pub fn new(path: PathBuf) -> Self {
        Settings { path, rerun_unfinished: false }
    }
}

static FLUSHES: AtomicU64 = AtomicU64::new(0);

/// How often the durable stores of this process have synced their files: entries of the log, and commits of the tables. For benchmarks.
pub fn flushes() -> u64 {
    FLUSHES.load(Ordering::Relaxed)
}

/// Why a store cannot be opened, or stops.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Row(#[from] Broken),
    #[error("there is no head of a store in it")]
    NotAStore,
    #[error("the file is empty")]
    Empty,
    #[error("redb panicked: {0}")]
    Panic(String),
    #[error(transparent)]
    Redb(Box<redb::Error>),
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Redb(Box::new(error.into()))
            }
        })+
    };
}

from_redb!(
    io::Error,
    DatabaseError,
    StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

impl Failure {
    /// What happened, and what to do, for whoever tried to open the file.
    fn advice(&self) -> String {
        const DAMAGED: &str = "the file was left as it is. Move it away, and a new store is begun: no backup, which would not know the latest calls; \
                               callers of calls that this one knew are then told Unknown";
        const NO_STORE: &str =
            "it is not the file of a store; it was left as it is. Choose another path, or move it away";
        match self {
            Failure::Row(Broken::Version(_)) => {
                format!("{self}; the file was left as it is. Open it with the version of selfsame that wrote it")
            }
            Failure::NotAStore | Failure::Empty => format!("{self}: {NO_STORE}"),
            Failure::Row(_) | Failure::Panic(_) => format!("it is damaged ({self}); {DAMAGED}"),
            Failure::Redb(error) => match &**error {
                redb::Error::DatabaseAlreadyOpen => {
                    "another server has it open, and a store has one owner. End that one, or choose another path".into()
                }
                redb::Error::UpgradeRequired(version) => format!(
                    "it is a file of redb's format {version}, which this build does not read; the file was left as it is. Open it with the \
                     version of selfsame that wrote it"
                ),
                redb::Error::Io(error) => match error.kind() {
                    io::ErrorKind::InvalidData => format!("{error}: {NO_STORE}"),
                    io::ErrorKind::UnexpectedEof => format!("it is damaged ({error}); {DAMAGED}"),
                    io::ErrorKind::NotFound => format!("{error}: its folder has to exist"),
                    io::ErrorKind::PermissionDenied => {
                        format!("{error}: the file and its folder have to be readable and writable")
                    }
                    _ => error.to_string(),
                },
                error => format!("it is damaged ({error}); {DAMAGED}"),
            },
        }
    }
}

/// Opens the file and starts its thread.
pub(super) async fn open(settings: Settings, opener: Opener) -> Result<Link, SetupError> {
    let what = format!("open the store {}", settings.path.display());
    let (ops, asked) = mpsc::unbounded_channel();
    let (tell, events) = mpsc::unbounded_channel();
    let (open, is_open) = oneshot::channel();
    let thread = thread::Builder::new().name("selfsame-store".into()).spawn(move || {
        match caught(|| opening::open_file(&settings, opener.incarnation)) {
            Ok((writer, opened)) => {
                let _ = open.send(Ok(()));
                serve(writer, opened, asked, tell);
            }
            Err(failure) => drop(open.send(Err(failure.advice()))),
        }
    });
    thread.map_err(|error| SetupError::new(&what, format!("no thread could be started: {error}")))?;
    match is_open.await {
        Ok(Ok(())) => Ok(Link { ops, events }),
        Ok(Err(advice)) => Err(SetupError::new(what, advice)),
        Err(_) => Err(SetupError::new(what, "its thread has ended")),
    }
}

/// A damaged page may make redb panic. Nothing outlives that but the guard, which then writes nothing.
fn caught<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Failure::Panic(panic_text(&*panic).into())))
}

/// Serves until nobody asks any more. If something fails, that is told and nothing is done any more; but the file stays locked as long as its server is there.
/// `tell` is dropped last: who sees the channel closed finds the file closed.
fn serve(
    mut writer: Writer,
    opened: Opened,
    mut asked: mpsc::UnboundedReceiver<(Ticket, Op)>,
    tell: mpsc::UnboundedSender<StoreEvent>,
) {
    let _ = tell.send(StoreEvent::Opened(Box::new(opened)));
    if let Err(failure) = caught(|| writer.run(&mut asked, &tell)) {
        let _ = tell.send(StoreEvent::Stopped(failure.to_string()));
        while asked.blocking_recv().is_some() {}
    }
    drop(writer);
}

/// The only writer of the file.
struct Writer {
    /// Has what was done since the last commit of the tables. Dropped before the database.
    transaction: Option<WriteTransaction>,
    database: Database,
    log: Log,
    /// What the transaction has and the log has not.
    changes: Changes,
    incarnation: Incarnation,
}

impl Writer {
    fn new(database: Database, log: Log, incarnation: Incarnation) -> Self {
        Writer { transaction: None, database, log, changes: Changes::default(), incarnation }
    }

    fn run(
        &mut self,
        asked: &mut mpsc::UnboundedReceiver<(Ticket, Op)>,
        tell: &mpsc::UnboundedSender<StoreEvent>,
    ) -> Result<(), Failure> {
        let mut batch = Vec::new();
        while asked.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.flush(&mut batch, tell)?;
            self.tidy()?;
        }
        self.commit()
    }

    /// One batch: the operations in their order, made durable, then what became of them.
    fn flush(
        &mut self,
        batch: &mut Vec<(Ticket, Op)>,
        tell: &mpsc::UnboundedSender<StoreEvent>,
    ) -> Result<(), Failure> {
        let urgency = Urgency::of(batch);
        let mut done = Vec::with_capacity(batch.len());
        self.change(|tables| {
            for (ticket, op) in batch.drain(..) {
                done.push(StoreEvent::Done(ticket, tables.apply(op)?));
            }
            Ok(())
        })?;
        if urgency.claims {
            kill_point!("intent-written");
        }
        if urgency.finishes {
            kill_point!("completion-written");
        }
        if self.changes.are_many() || (urgency.durable && !planted!(SkippedFsync)) {
            self.sync()?;
        }
        if urgency.claims {
            kill_point!("intent-synced");
        }
        if urgency.finishes {
            kill_point!("completion-synced");
        }
        // Who does not listen any more is about to close.
        done.into_iter().for_each(|event| drop(tell.send(event)));
        Ok(())
    }

    /// In the transaction that is open, or a new one.
    fn change(&mut self, run: impl FnOnce(&mut Batch<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.database.begin_write()?,
        };
        run(&mut Batch::open(&transaction, self.incarnation, &mut self.changes)?)?;
        self.transaction = Some(transaction);
        Ok(())
    }

    /// Makes durable what was changed, as one entry of the log, or in the tables if that has no room.
    fn sync(&mut self) -> Result<(), Failure> {
        if self.changes.is_empty() {
            return Ok(());
        }
        if !self.log.append(&self.changes)? {
            return self.commit();
        }
        self.changes.clear();
        FLUSHES.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Between two batches: nobody waits for it that was there before.
    fn tidy(&mut self) -> Result<(), Failure> {
        if self.log.is_full() { self.commit() } else { Ok(()) }
    }

    /// Commits the tables. What was in the log is void then.
    fn commit(&mut self) -> Result<(), Failure> {
        let applied = self.log.number();
        self.change(|tables| tables.keep_applied(applied))?;
        if let Some(transaction) = self.transaction.take() {
            transaction.commit()?;
        }
        FLUSHES.fetch_add(1, Ordering::Relaxed);
        self.changes.clear();
        self.log.begin_again();
        Ok(())
    }
}

/// What is in a batch.
struct Urgency {
    /// Something has to be durable when it is told done. Closed numbers and expired records need not be: after a crash they are there as a whole or not
    /// at all, and no attempt of before the crash is admitted after it without a hello. The end of a session has to be: it may be told to its client.
    durable: bool,
    claims: bool,
    finishes: bool,
}

impl Urgency {
    fn of(batch: &[(Ticket, Op)]) -> Self {
        let any = |is: fn(&Op) -> bool| batch.iter().any(|(_, op)| is(op));
        Urgency {
            durable: any(|op| {
                matches!(op, Op::Register { .. } | Op::Claim(_) | Op::Finish { .. } | Op::End(_))
            }),
            claims: any(|op| matches!(op, Op::Claim(_))),
            finishes: any(|op| matches!(op, Op::Finish { .. })),
        }
    }
}
