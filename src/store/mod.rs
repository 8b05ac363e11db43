//! Where records live: what a user chooses, and the link between a server's IO thread and the store's own threads or tasks.
//!
//! What a store must do is said in `protocol::store`; when it is asked to do what is decided by the machine in `protocol::replica`. The stores here turn
//! operations into writes of a file or into SQL, and back.

use tokio::sync::mpsc;

use crate::error::SetupError;
use crate::protocol::Level;
use crate::protocol::store::{Op, StoreEvent, Ticket};

/// Where a server keeps the records of its calls, and so what a retry survives.
#[derive(Clone, Debug, Default)]
pub struct Store(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Memory,
}

impl Store {
    /// In the server's memory: survives a lost connection and a crashed client, not the server's process. The default.
    pub fn memory() -> Self {
        Store(Kind::Memory)
    }
}

/// What a store needs to know of the server that opens it.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    /// The server's life: the owner of what it claims.
    pub incarnation: crate::protocol::Incarnation,
    /// How long an idle session is kept.
    pub retention: std::time::Duration,
}

/// A store that is open, or being opened, as its server sees it. Bounded by the server's window of open calls: each has one operation under way.
pub(crate) struct Link {
    pub ops: mpsc::UnboundedSender<(Ticket, Op)>,
    pub events: mpsc::UnboundedReceiver<StoreEvent>,
}

impl Store {
    /// What it survives.
    pub(crate) fn level(&self) -> Level {
        match self.0 {
            Kind::Memory => Level::Memory,
        }
    }

    /// Opens the store. None: records live in the machine alone.
    pub(crate) async fn open(self, _opener: Opener) -> Result<Option<Link>, SetupError> {
        match self.0 {
            Kind::Memory => Ok(None),
        }
    }
}
