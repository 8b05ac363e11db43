//! Where records live: what a user chooses, and the link between a server's IO thread and the store's own threads or tasks.
//!
//! What a store must do is said in `protocol::store`; when it is asked to do what is decided by the machine in `protocol::replica`. The stores here turn
//! operations into writes of a file or into SQL, and back.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redb")]
mod redb;

#[cfg(feature = "redb")]
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::SetupError;
use crate::io::Spin;
use crate::protocol::store::{Op, StoreEvent, Ticket};
use crate::protocol::{Incarnation, Level};

#[cfg(feature = "redb")]
pub use redb::flushes;

/// Where a server keeps the records of its calls, and so what a retry survives.
#[derive(Clone, Debug, Default)]
pub struct Store(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Memory,
    #[cfg(feature = "redb")]
    Durable(redb::Settings),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Settings),
}

impl Store {
    /// In the server's memory: survives a lost connection and a crashed client, not the server's process. The default.
    pub fn memory() -> Self {
        Store(Kind::Memory)
    }

    /// In one file, which is made if it does not exist, in a folder that does: survives the server's process and, if the disk keeps what it has confirmed,
    /// its machine. One server owns it at a time. An intent is synced before its handler begins, and an answer before it is sent; all calls that wait at
    /// the same time share one fsync. Only its owner can read the file, since it holds replies. A damaged file is refused and not written to.
    ///
    /// A call whose handler ran when the server died becomes a recorded Unknown: whether it had an effect cannot be known from here.
    #[cfg(feature = "redb")]
    pub fn durable(path: impl Into<PathBuf>) -> Self {
        Store(Kind::Durable(redb::Settings::new(path.into())))
    }

    /// In a PostgreSQL database that the replicas of a service share: any of them may answer a retry. `postgresql://user@host/database`.
    ///
    /// The server starts, and takes calls that need no record, whether or not the database can be reached; the others are refused as not executed until
    /// it can. A call whose handler ran when its server died becomes a recorded Unknown once the server's lease has expired.
    ///
    /// Its tables are made, and later brought up to date, in a schema of their own: the role needs CREATE on the database, or that schema has to exist
    /// and be its own. PostgreSQL 14 or later.
    #[cfg(feature = "postgres")]
    pub fn shared(url: impl Into<String>) -> Self {
        Store(Kind::Postgres(postgres::Settings::new(url.into(), false)))
    }

    /// As [`shared`](Store::shared); and the handler's writes to that database, made within the transaction of its request, are committed together with the
    /// record of its answer: exactly once, also over a crash of server or database. What a handler does elsewhere has no part in that.
    #[cfg(feature = "postgres")]
    pub fn atomic(url: impl Into<String>) -> Self {
        Store(Kind::Postgres(postgres::Settings::new(url.into(), true)))
    }

    /// The schema of the tables in PostgreSQL. Default `selfsame`. Services that share a database need one each.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        if let Kind::Postgres(settings) = &mut self.0 {
            settings.schema = name.into();
        }
        self
    }

    /// How many connections to PostgreSQL one server opens at most, besides one for its lease and, at level `atomic`, two for what is not a call.
    ///
    /// Default for `shared`: 8. All calls that wait while those are busy go together, so more of them make no more calls a second. Default for `atomic`:
    /// 24. There a call holds one while its handler runs, so this is how many run at once, and 24 leave room for three servers below the 100 connections
    /// that PostgreSQL takes unless told otherwise.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn connections(mut self, number: usize) -> Self {
        if let Kind::Postgres(settings) = &mut self.0 {
            settings.connections = Some(number);
        }
        self
    }

    /// For how long a server that the database does not hear of is believed to live. Default 10 s, renewed every third of that: longer than a fail-over
    /// of the database or a pause of a virtual machine takes as a rule; so long a call of a server that died stays without an answer. A server that was only
    /// slow finds its calls recorded as Unknown, and answers what the record says. At least 1 s.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        if let Kind::Postgres(settings) = &mut self.0 {
            settings.lease = lease;
        }
        self
    }

    /// A call whose handler ran when its server died is run again by its next attempt, instead of becoming a recorded Unknown. Default: no, since it
    /// may then have two effects. Say so only if all handlers can bear that: their effects are idempotent by themselves. A server that is not dead but
    /// out of touch for longer than its lease counts as dead here.
    #[cfg(any(feature = "redb", feature = "postgres"))]
    #[must_use]
    pub fn rerun_unfinished(mut self, rerun: bool) -> Self {
        match &mut self.0 {
            Kind::Memory => {}
            #[cfg(feature = "redb")]
            Kind::Durable(settings) => settings.rerun_unfinished = rerun,
            #[cfg(feature = "postgres")]
            Kind::Postgres(settings) => settings.rerun_unfinished = rerun,
        }
        self
    }
}

/// What a store needs to know of the server that opens it.
#[derive(Clone, Debug)]
pub struct Opener {
    /// The server's life: the owner of what it claims.
    pub incarnation: Incarnation,
    /// How long an idle session is kept.
    pub retention: Duration,
    /// Whether its thread spins; a store has one only if it writes files itself.
    pub spin: Spin,
}

/// A store that is open, or being opened, as its server sees it. Bounded by the server's window of open calls: each has one operation under way.
#[derive(Debug)]
pub struct Link {
    /// To be done.
    pub ops: mpsc::UnboundedSender<(Ticket, Op)>,
    /// What was done, and more.
    pub events: mpsc::UnboundedReceiver<StoreEvent>,
}

impl Link {
    /// Lets the store finish what it was asked, and waits until it has let go of everything that it held.
    pub async fn close(mut self) {
        drop(self.ops);
        while self.events.recv().await.is_some() {}
    }
}

impl Store {
    /// For one more server that is set up alike: nothing is shared with the one before.
    pub(crate) fn anew(&self) -> Self {
        #[cfg_attr(not(feature = "postgres"), allow(unused_mut))]
        let mut store = self.clone();
        #[cfg(feature = "postgres")]
        if let Kind::Postgres(settings) = &mut store.0 {
            settings.transactions = postgres::Transactions::default();
        }
        store
    }

    /// What it survives.
    pub(crate) fn level(&self) -> Level {
        match &self.0 {
            Kind::Memory => Level::Memory,
            #[cfg(feature = "redb")]
            Kind::Durable(_) => Level::Durable,
            #[cfg(feature = "postgres")]
            Kind::Postgres(settings) if settings.atomic => Level::Atomic,
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => Level::Shared,
        }
    }

    /// Where the transactions of its calls are found, if it has any: by the ticket of a call's claim.
    #[cfg(feature = "postgres")]
    #[doc(hidden)]
    pub fn transactions(&self) -> Option<postgres::Transactions> {
        match &self.0 {
            Kind::Postgres(settings) if settings.atomic => Some(settings.transactions.clone()),
            _ => None,
        }
    }

    /// Opens the store. None: records live in the machine alone.
    ///
    /// # Errors
    /// If what was chosen makes no sense, or the file cannot be used.
    #[doc(hidden)]
    pub async fn open(self, opener: Opener) -> Result<Option<Link>, SetupError> {
        #[cfg(not(any(feature = "redb", feature = "postgres")))]
        let _ = opener;
        match self.0 {
            Kind::Memory => Ok(None),
            #[cfg(feature = "redb")]
            Kind::Durable(settings) => redb::open(settings, opener).await.map(Some),
            #[cfg(feature = "postgres")]
            Kind::Postgres(settings) => postgres::open(settings, opener).map(Some),
        }
    }
}
