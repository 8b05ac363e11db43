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

mod codec;
mod guard;
mod log;
mod opening;
mod tables;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use redb::{Database, DatabaseError, StorageError};
use tokio::sync::{mpsc, oneshot};

use self::codec::Broken;
use self::log::{Changes, Log};
use self::tables::Tables;
use super::{Link, Opener};
use crate::error::{SetupError, SetupErrorKind, panic_text};
use crate::io::spin::{Spin, Waits};
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
    fn kind(&self) -> SetupErrorKind {
        match self {
            Failure::Redb(error) if matches!(**error, redb::Error::DatabaseAlreadyOpen) => {
                SetupErrorKind::InUse
            }
            _ => SetupErrorKind::Store,
        }
    }

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
                serve(writer, opened, asked, tell, opener.spin);
            }
            Err(failure) => drop(open.send(Err(failure))),
        }
    });
    let failed = |why: &str| SetupError::new(SetupErrorKind::Store, &what, why);
    thread.map_err(|error| failed(&format!("no thread could be started: {error}")).because(error))?;
    match is_open.await {
        Ok(Ok(())) => Ok(Link { ops, events }),
        Ok(Err(failure)) => Err(SetupError::new(failure.kind(), &what, failure.advice()).because(failure)),
        Err(_) => Err(failed("its thread has ended")),
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
    spin: Spin,
) {
    // Who does not listen any more is about to close.
    let tell = |event| drop(tell.send(event));
    let mut waits = Waits::new(spin);
    let mut next = |batch: &mut Vec<_>| {
        let is_there = |asked: &mpsc::UnboundedReceiver<_>| !asked.is_empty();
        waits.take(&mut asked, is_there, |asked| asked.blocking_recv_many(batch, BATCH)) > 0
    };
    tell(StoreEvent::Opened(Box::new(opened)));
    if let Err(failure) = caught(|| writer.run(&mut next, tell)) {
        tell(StoreEvent::Stopped(failure.to_string()));
        while asked.blocking_recv().is_some() {}
    }
    drop(writer);
}

/// Operations that are done together.
type Ops = Vec<(Ticket, Op)>;

/// The only writer of the file.
struct Writer {
    database: Database,
    log: Log,
    incarnation: Incarnation,
}

impl Writer {
    fn new(database: Database, log: Log, incarnation: Incarnation) -> Self {
        Writer { database, log, incarnation }
    }

    /// Does one batch after the other, until there is no next one: makes it durable, then tells what became of each of its operations.
    fn run(
        &mut self,
        mut next: impl FnMut(&mut Ops) -> bool,
        mut tell: impl FnMut(StoreEvent),
    ) -> Result<(), Failure> {
        while self.run_until_commit(&mut next, &mut tell)? {}
        Ok(())
    }

    /// From one commit of the tables to the next; they stay open meanwhile, which spares each batch a third of its time besides the disk's. False: there was no
    /// next batch.
    fn run_until_commit(
        &mut self,
        next: &mut impl FnMut(&mut Ops) -> bool,
        tell: &mut impl FnMut(StoreEvent),
    ) -> Result<bool, Failure> {
        let transaction = self.database.begin_write()?;
        let mut tables = Tables::open(&transaction, self.incarnation)?;
        let (mut ops, mut done) = (Vec::new(), Vec::new());
        let mut urgency = Urgency::default();
        let mut goes_on = true;
        // Committing between two batches keeps nobody waiting that was there before.
        while !self.log.is_full() {
            goes_on = next(&mut ops);
            if !goes_on {
                break;
            }
            urgency = Urgency::of(&ops);
            for (ticket, op) in ops.drain(..) {
                done.push(StoreEvent::Done(ticket, tables.apply(op)?));
            }
            urgency.written();
            if !self.sync(&mut tables.changes, &urgency)? {
                break;
            }
            urgency.synced();
            done.drain(..).for_each(&mut *tell);
        }
        tables.keep_applied(self.log.number())?;
        drop(tables);
        transaction.commit()?;
        FLUSHES.fetch_add(1, Ordering::Relaxed);
        // The tables have all that is in it, durably.
        self.log.begin_again();
        if !done.is_empty() {
            urgency.synced();
            done.drain(..).for_each(tell);
        }
        Ok(goes_on)
    }

    /// Makes durable what was changed, if it has to be, as one entry of the log. False: that has no room.
    fn sync(&mut self, changes: &mut Changes, urgency: &Urgency) -> Result<bool, Failure> {
        let due = changes.are_many() || (urgency.durable && !planted!(SkippedFsync));
        if !due || changes.is_empty() {
            return Ok(true);
        }
        if !self.log.append(changes)? {
            return Ok(false);
        }
        changes.clear();
        FLUSHES.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}

/// What is in a batch.
#[derive(Default)]
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

    fn written(&self) {
        if self.claims {
            kill_point!("intent-written");
        }
        if self.finishes {
            kill_point!("completion-written");
        }
    }

    fn synced(&self) {
        if self.claims {
            kill_point!("intent-synced");
        }
        if self.finishes {
            kill_point!("completion-synced");
        }
    }
}
