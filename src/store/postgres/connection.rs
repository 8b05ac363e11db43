//! One connection to PostgreSQL, set up and proven to lead to the store that was opened; and a pool of them. Not what is done over it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::Core;
use super::failure::{Failure, describe};
use super::rows::bytes16;
use super::sql::{Statements, qualified};

/// How long to wait for a connection, from its first packet to its last check. A database across a continent answers within a second.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// As strong as the server's own setting, and never weaker than the disk of the server itself.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// What a handler may have left behind in a session that the next one gets.
const CLEAN: &str = "RESET SESSION AUTHORIZATION; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP";

/// Whose content it is: changes when a backup is restored or a standby promoted.
///
/// The timeline is that of the position where the server writes now, not that of its last checkpoint, which a promotion leaves behind for a while. All
/// of these may be called by everybody, unless an administrator has revoked it: then `GRANT EXECUTE ON FUNCTION pg_control_system() TO …`.
const IDENTITY: &str = "SELECT pg_is_in_recovery(), system_identifier::text,
        CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
    FROM pg_control_system()";

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// For now.
    Unreachable(String),
    /// And there never will be: it is not the store that was opened.
    Another(String),
}

impl From<tokio_postgres::Error> for NoConnection {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(
                &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::INVALID_SCHEMA_NAME,
            ) => NoConnection::Another(format!("the tables of the store are gone: {}", describe(&error))),
            _ => NoConnection::Unreachable(describe(&error)),
        }
    }
}

/// A connection before the store's tables are known to be there.
pub(super) struct Bare {
    pub client: Client,
    driver: AbortHandle,
    /// System identifier and timeline.
    pub cluster: (String, String),
}

/// A connection on which the statements are prepared.
pub(super) struct Connection {
    pub client: Client,
    pub statements: Statements,
    driver: AbortHandle,
    /// A COMMIT was sent, and not answered yet.
    committing: AtomicBool,
}

impl Drop for Connection {
    /// Closes the socket at once, whatever is under way: PostgreSQL rolls back.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Bare {
    /// Connects and sets the session up.
    pub async fn connect(config: &Config) -> Result<Bare, NoConnection> {
        tokio::time::timeout(CONNECT, Bare::set_up(config))
            .await
            .unwrap_or_else(|_| Err(NoConnection::Unreachable(format!("no connection within {CONNECT:?}"))))
    }

    async fn set_up(config: &Config) -> Result<Bare, NoConnection> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = describe(&error), "a connection to PostgreSQL has ended");
            }
        })
        .abort_handle();
        let mut bare = Bare { client, driver, cluster: Default::default() };
        bare.client.batch_execute(DURABLE).await?;
        let row = bare.client.query_one(IDENTITY, &[]).await?;
        if row.try_get(0)? {
            let why = "the server is a standby, which takes no writes; give the address of the primary";
            return Err(NoConnection::Unreachable(why.into()));
        }
        bare.cluster = (row.try_get(1)?, row.try_get(2)?);
        Ok(bare)
    }

    /// Prepares the statements.
    pub async fn prepared(self, core: &Core) -> Result<Connection, NoConnection> {
        let prepare = Statements::prepare(&self.client, &core.settings.schema);
        let statements = tokio::time::timeout(CONNECT, prepare)
            .await
            .map_err(|_| NoConnection::Unreachable(format!("no statement prepared within {CONNECT:?}")))??;
        Ok(Connection {
            client: self.client,
            statements,
            driver: self.driver,
            committing: AtomicBool::new(false),
        })
    }
}

impl Connection {
    /// Another connection to a store that is open.
    pub async fn connect(core: &Core, config: &Config) -> Result<Connection, NoConnection> {
        let bare = Bare::connect(config).await?;
        let store = qualified("SELECT store FROM @.meta", &core.settings.schema);
        let row = bare.client.query_one(&store, &[]).await?;
        let generation = generation(bytes16(row.try_get(0)?), &bare.cluster);
        if let Some(opened) = core.generation.get()
            && *opened != generation
        {
            return Err(NoConnection::Another(format!(
                "the database is another one than the one that was opened: generation {generation:016x} and not {opened:016x}. A backup was \
                 restored or a standby promoted, and records may be lost"
            )));
        }
        bare.prepared(core).await
    }

    /// Opens a transaction.
    pub async fn begin(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await
    }

    /// Commits the transaction that is open.
    ///
    /// # Errors
    /// `InDoubt` unless PostgreSQL says that it rolled back.
    pub async fn commit(&self) -> Result<(), Failure> {
        self.committing.store(true, Ordering::SeqCst);
        self.client.batch_execute("COMMIT").await.map_err(|error| Failure::at_commit(&error))?;
        self.committing.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Whether a COMMIT was sent of which the answer is not known.
    pub fn is_committing(&self) -> bool {
        self.committing.load(Ordering::SeqCst)
    }

    /// Leaves whatever transaction is open or broken. False: the connection is of no use any more.
    pub async fn roll_back(&self) -> bool {
        let rolled_back = tokio::time::timeout(CONNECT, self.client.batch_execute("ROLLBACK")).await;
        self.committing.store(false, Ordering::SeqCst);
        matches!(rolled_back, Ok(Ok(())))
    }

    /// Makes the session as it was when it began. An error means that it cannot be used any more.
    pub async fn clean(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(CLEAN).await?;
        self.client.batch_execute(DURABLE).await
    }
}

/// Of a store's content: any other database, any other copy of it, any other line of its history has another one.
pub(super) fn generation(store: u128, (system, timeline): &(String, String)) -> u64 {
    let parts = [b"selfsame generation", &store.to_be_bytes()[..], system.as_bytes(), timeline.as_bytes()];
    crate::nonce::hash(&parts) as u64
}

/// Connections that nobody uses now.
pub(super) struct Pool {
    core: Arc<Core>,
    /// For handlers' transactions.
    handlers: bool,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub fn new(core: Arc<Core>, handlers: bool) -> Arc<Self> {
        Arc::new(Pool { core, handlers, idle: Mutex::default() })
    }

    /// A connection, for the holder of a permit: their number is the pool's bound.
    pub async fn lend(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Lent, NoConnection> {
        let connection = match self.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lent { connection, pool: self.clone(), permit })
    }

    async fn connect(&self) -> Result<Connection, NoConnection> {
        let config = if self.handlers { &self.core.handlers } else { &self.core.config };
        Connection::connect(&self.core, config).await
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.client.is_closed());
        idle.pop()
    }

    /// The database has been away: what was connected to it may be dead without knowing.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection in use. To drop it closes it; [`give_back`](Lent::give_back) keeps it for the next.
pub(super) struct Lent {
    pub connection: Connection,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Lent {
    pub fn give_back(self) {
        let Lent { connection, pool, permit } = self;
        if !connection.client.is_closed() {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        drop(permit);
    }

    /// Closes this connection and takes another in its place.
    pub async fn replaced(self) -> Result<Lent, NoConnection> {
        let Lent { connection, pool, permit } = self;
        drop(connection);
        let connection = pool.connect().await?;
        Ok(Lent { connection, pool, permit })
    }
}
