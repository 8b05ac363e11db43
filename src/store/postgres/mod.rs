//! The stores `shared` and `atomic`: records in PostgreSQL 14 or later, for replicas of a service that answer each other's retries. Not the machine
//! that decides what is asked (`protocol::replica`), and not a way to SQL for a service, except within the transaction of a call.
//!
//! ```text
//!               ops   ┌──────────┐  batches   ┌────────┐
//! IO thread  ───────▶ │ dispatch │ ─────────▶ │ a pool │ ──▶ PostgreSQL
//!            ◀─────── │          │            └────────┘         ▲
//!              events └──────────┘  ┌────────┐                   │
//!            ◀───────────────────── │ keeper │ ──────────────────┘  opens, renews the lease, tells Down and Up
//!                                   └────────┘
//! ```
//!
//! All of it are tasks on one thread of the store's own, so that SQL never holds up the server's IO thread. What an operation does:
//!
//! - **Claim** (`claims`): inserts, and only in a later statement looks at the session; READ COMMITTED, so that the look sees what the insert has waited
//!   for. Under REPEATABLE READ, or with the order reversed, a call could run after its record was deleted.
//! - **Finish** (`finishes`): an update with the owner and the state in its condition, a compare-and-swap.
//! - **Settle** (`claims`): inserts the key again, which waits for the transaction in doubt, and rolls that back. A SELECT would not wait.
//! - **atomic** (`atomic`): the claim's transaction stays open for the handler and takes the answer in; one COMMIT for both.
//!
//! All times are the database's: no clock of a server is compared with another's.
//!
//! A connection pooler that hands one session to several clients by transaction must not stand in between.

mod atomic;
mod claims;
mod connection;
mod dispatch;
mod failure;
mod finishes;
mod handover;
mod keeper;
mod migrations;
mod rows;
mod sessions;
mod sql;
mod transaction;
mod upkeep;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::{Link, Opener};
use crate::error::{SetupError, SetupErrorKind};
use crate::protocol::Incarnation;
use crate::protocol::store::StoreEvent;

pub use transaction::{Transaction, TransactionError, Transactions};

/// What a user sets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub url: String,
    pub atomic: bool,
    pub schema: String,
    /// None: the level's default.
    pub connections: Option<usize>,
    pub lease: Duration,
    pub rerun_unfinished: bool,
    /// The transactions of calls that run. Empty unless `atomic`.
    pub transactions: Transactions,
}

/// Eight keep a disk busy: while one commits, the others gather their batches.
const SHARED_CONNECTIONS: usize = 8;
/// A call of an atomic store holds one while its handler runs, so this is how many run at once. PostgreSQL takes 100 unless told otherwise: room for
/// three replicas.
const ATOMIC_CONNECTIONS: usize = 24;
/// For whatever is not a handler's transaction.
const BESIDES: usize = 2;
/// Shorter leases would be lost to a busy database.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

impl Settings {
    pub fn new(url: String, atomic: bool) -> Self {
        Settings {
            url,
            atomic,
            schema: "selfsame".into(),
            connections: None,
            lease: Duration::from_secs(10),
            rerun_unfinished: false,
            transactions: Transactions::default(),
        }
    }

    fn connections(&self) -> usize {
        let default = if self.atomic { ATOMIC_CONNECTIONS } else { SHARED_CONNECTIONS };
        self.connections.unwrap_or(default).max(1)
    }
}

/// What all tasks of one open store share.
struct Core {
    settings: Settings,
    /// For handlers' transactions.
    handlers: Config,
    /// For all else.
    config: Config,
    incarnation: Incarnation,
    retention: Duration,
    events: mpsc::UnboundedSender<StoreEvent>,
    /// Known once the store is open.
    generation: OnceLock<u64>,
    /// It is open, and could be reached when last tried.
    up: AtomicBool,
    /// Something failed: see whether the database is still there.
    doubt: Notify,
    /// Why nothing will be done any more.
    stopped: watch::Sender<Option<String>>,
}

/// Begins to open the store. It is open when its events say so.
///
/// # Errors
/// If the URL or an option makes no sense. That nobody answers there is no error here.
pub(crate) fn open(settings: Settings, opener: Opener) -> Result<Link, SetupError> {
    let (ops, asked) = mpsc::unbounded_channel();
    let (events, told) = mpsc::unbounded_channel();
    let failed = |why: String| SetupError::new(SetupErrorKind::Store, "open the store in PostgreSQL", why);
    let config = parse(&settings).map_err(failed)?;
    let core = Arc::new(Core {
        handlers: with_options(&config, HANDLER_OPTIONS),
        config: with_options(&config, OPTIONS),
        settings,
        incarnation: opener.incarnation,
        retention: opener.retention,
        events,
        generation: OnceLock::new(),
        up: AtomicBool::new(false),
        doubt: Notify::new(),
        stopped: watch::channel(None).0,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("no runtime for the store: {error}")).because(error))?;
    std::thread::Builder::new()
        .name("selfsame-postgres".into())
        .spawn(move || {
            runtime.block_on(async {
                let keeper = tokio::spawn(keeper::keep(core.clone()));
                dispatch::run(core, asked).await;
                keeper.abort();
            });
            // Connections under way are closed, not waited for.
            runtime.shutdown_background();
        })
        .map_err(|error| failed(format!("no thread for the store: {error}")).because(error))?;
    Ok(Link { ops, events: told })
}

/// A backend that waits, for a lock or a client, must not do so for ever. `client_connection_check_interval`: one whose client is gone lets go
/// of its locks within that time even while it waits.
const OPTIONS: &str = "-c default_transaction_isolation=read\\ committed -c statement_timeout=10s \
    -c idle_in_transaction_session_timeout=10s -c client_connection_check_interval=2s";
/// A handler may think for a while between two statements, and its statements may take as long as the database's own settings let them.
const HANDLER_OPTIONS: &str = "-c default_transaction_isolation=read\\ committed \
    -c idle_in_transaction_session_timeout=60s -c client_connection_check_interval=2s";

fn with_options(config: &Config, options: &str) -> Config {
    let mut config = config.clone();
    // Theirs first: what must hold comes last, and wins.
    let all = format!("{} {options}", config.get_options().unwrap_or_default());
    config.options(all.trim());
    config
}

fn parse(settings: &Settings) -> Result<Config, String> {
    let mut config: Config = settings.url.parse().map_err(|error: tokio_postgres::Error| {
        format!(
            "not the URL of a database: {}; expected postgresql://user@host/database",
            failure::describe(&error)
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("the URL of the database names no host; expected postgresql://user@host/database".into());
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(
            "the URL asks for TLS, which this version does not speak; use a Unix socket or a tunnel".into()
        );
    }
    let mut letters = settings.schema.chars();
    let proper = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !proper || settings.schema.len() > 63 {
        return Err(format!(
            "{:?} is no name for a schema: lower-case letters, digits and underscores, at most 63, no digit first",
            settings.schema
        ));
    }
    if settings.lease < SHORTEST_LEASE {
        return Err(format!("a lease of {:?} is too short: at least {SHORTEST_LEASE:?}", settings.lease));
    }
    config
        .connect_timeout(connection::CONNECT)
        .tcp_user_timeout(Duration::from_secs(10))
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name("selfsame");
    }
    Ok(config)
}

impl Core {
    fn owner(&self) -> i64 {
        rows::bits(self.incarnation.0)
    }

    fn tell(&self, event: StoreEvent) {
        // The server may have gone: then nobody has to be told.
        let _ = self.events.send(event);
    }

    /// Nothing will be done any more.
    fn stop(&self, why: String) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(why);
            }
            first
        });
    }
}
