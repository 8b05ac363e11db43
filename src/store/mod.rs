//! Where records live: what a user chooses, and the link between a server's IO thread and the store's own threads or tasks.
//!
//! What a store must do is said in `protocol::store`; when it is asked to do what is decided by the machine in `protocol::replica`. The stores here turn
//! operations into writes of a file or into SQL, and back.

#[cfg(feature = "redb")]
mod redb;

#[cfg(feature = "redb")]
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::SetupError;
use crate::protocol::store::{Op, StoreEvent, Ticket};
use crate::protocol::{Incarnation, Level};

/// Where a server keeps the records of its calls, and so what a retry survives.
#[derive(Clone, Debug, Default)]
pub struct Store(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Memory,
    #[cfg(feature = "redb")]
    Durable(redb::Options),
}

impl Store {
    /// In the server's memory: survives a lost connection and a crashed client, not the server's process. The default.
    pub fn memory() -> Self {
        Store(Kind::Memory)
    }

    /// In one file, which is made if it does not exist: survives the server's process and its machine. One server owns it at a time. An intent is
    /// synced before its handler begins, and an answer before it is sent; all calls that wait at the same time share one fsync.
    ///
    /// A call whose handler ran when the server died becomes a recorded Unknown: whether it had an effect cannot be known from here.
    #[cfg(feature = "redb")]
    pub fn durable(path: impl Into<PathBuf>) -> Self {
        Store(Kind::Durable(redb::Options { path: path.into(), rerun_unfinished: false }))
    }

    /// A call whose handler ran when its server died is run again by its next attempt, instead of becoming a recorded Unknown. Default: no, since it
    /// may then have two effects. Say so only if all handlers can bear that: their effects are idempotent by themselves.
    #[cfg(feature = "redb")]
    #[must_use]
    pub fn rerun_unfinished(mut self, rerun: bool) -> Self {
        match &mut self.0 {
            Kind::Memory => {}
            Kind::Durable(options) => options.rerun_unfinished = rerun,
        }
        self
    }
}

/// What a store needs to know of the server that opens it.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    /// The server's life: the owner of what it claims.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub incarnation: Incarnation,
    /// How long an idle session is kept.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub retention: Duration,
}

/// A store that is open, or being opened, as its server sees it. Bounded by the server's window of open calls: each has one operation under way.
pub(crate) struct Link {
    pub ops: mpsc::UnboundedSender<(Ticket, Op)>,
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
    /// What it survives.
    pub(crate) fn level(&self) -> Level {
        match self.0 {
            Kind::Memory => Level::Memory,
            #[cfg(feature = "redb")]
            Kind::Durable(_) => Level::Durable,
        }
    }

    /// Opens the store. None: records live in the machine alone.
    pub(crate) async fn open(self, _opener: Opener) -> Result<Option<Link>, SetupError> {
        match self.0 {
            Kind::Memory => Ok(None),
            #[cfg(feature = "redb")]
            Kind::Durable(options) => redb::open(options).await.map(Some),
        }
    }
}
