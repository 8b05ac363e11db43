//! Where the records of a test live, and servers over it that crash and come back. Each test has a place of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use selfsame::protocol::Level;
use selfsame::{Server, ServerBuilder, ServerHandle, SetupError, Store};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::api::account::AccountServer;
use super::hand::{PATIENCE, in_time};
#[cfg(feature = "postgres")]
use super::schema::{Database, Schema};
use super::transport::{Over, anywhere};
use super::vault::{Effects, Vault};

pub struct Fixture {
    pub level: Level,
    place: Place,
}

enum Place {
    Memory,
    #[cfg(feature = "redb")]
    Folder {
        path: std::path::PathBuf,
        _own: Option<tempfile::TempDir>,
    },
    #[cfg(feature = "postgres")]
    Database(Database, Schema),
}

impl Fixture {
    pub async fn memory() -> Fixture {
        Fixture { level: Level::Memory, place: Place::Memory }
    }

    #[cfg(feature = "redb")]
    pub async fn durable() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        Fixture {
            level: Level::Durable,
            place: Place::Folder { path: folder.path().to_owned(), _own: Some(folder) },
        }
    }

    /// Over a folder of another process.
    #[cfg(feature = "redb")]
    pub fn durable_in(folder: &std::path::Path) -> Fixture {
        Fixture { level: Level::Durable, place: Place::Folder { path: folder.to_owned(), _own: None } }
    }

    #[cfg(feature = "redb")]
    pub fn folder(&self) -> &std::path::Path {
        match &self.place {
            Place::Folder { path, .. } => path,
            _ => panic!("it has no folder"),
        }
    }

    #[cfg(feature = "postgres")]
    pub async fn shared() -> Fixture {
        Fixture::in_database(Level::Shared, Schema::create().await)
    }

    #[cfg(feature = "postgres")]
    pub async fn atomic() -> Fixture {
        Fixture::in_database(Level::Atomic, Schema::create().await)
    }

    /// As [`shared`](Fixture::shared), over a database that the test may end.
    #[cfg(feature = "postgres")]
    pub async fn shared_alone() -> Fixture {
        Fixture::in_database(Level::Shared, Schema::create_alone().await)
    }

    /// As [`atomic`](Fixture::atomic), over a database that the test may end.
    #[cfg(feature = "postgres")]
    pub async fn atomic_alone() -> Fixture {
        Fixture::in_database(Level::Atomic, Schema::create_alone().await)
    }

    #[cfg(feature = "postgres")]
    fn in_database(level: Level, (database, schema): (Database, Schema)) -> Fixture {
        Fixture { level, place: Place::Database(database, schema) }
    }

    #[cfg(feature = "postgres")]
    pub fn database(&self) -> std::sync::MutexGuard<'_, selfsame_test_postgres::Server> {
        match &self.place {
            Place::Database(database, _) => database.lock().unwrap(),
            _ => panic!("it has no database"),
        }
    }

    /// Another place of the same kind, empty.
    pub async fn another(&self) -> Fixture {
        match self.level {
            Level::Memory => Fixture::memory().await,
            #[cfg(feature = "redb")]
            Level::Durable => Fixture::durable().await,
            #[cfg(feature = "postgres")]
            Level::Shared => Fixture::shared().await,
            #[cfg(feature = "postgres")]
            Level::Atomic => Fixture::atomic().await,
            #[allow(unreachable_patterns, reason = "with all stores there is no other")]
            level => panic!("no store of level {level:?} in this build"),
        }
    }

    pub fn store(&self) -> Store {
        match (&self.place, self.level) {
            (Place::Memory, _) => Store::memory(),
            #[cfg(feature = "redb")]
            (Place::Folder { path, .. }, _) => Store::durable(path.join("records")),
            #[cfg(feature = "postgres")]
            (Place::Database(_, schema), level) => {
                let url = schema.url();
                let store = if level == Level::Atomic { Store::atomic(url) } else { Store::shared(url) };
                // The shortest lease there is, so that nobody waits long for a server that died.
                store.schema(schema.name()).lease(Duration::from_secs(1)).connections(4)
            }
        }
    }

    fn effects(&self) -> Effects {
        match (&self.place, self.level) {
            #[cfg(feature = "postgres")]
            (Place::Database(_, schema), Level::Atomic) => Effects::Rows(schema.clone()),
            _ => Effects::Counted(AtomicU64::new(0)),
        }
    }

    /// A service whose handlers do not wait.
    pub fn vault(&self) -> Arc<Vault> {
        Vault::open(self.effects())
    }

    /// A service whose handlers wait at its gate.
    pub fn closed_vault(&self) -> Arc<Vault> {
        Vault::closed(self.effects())
    }

    /// Waits until the store itself, where it is more than what its servers remember, knows no session any more.
    pub async fn forgotten(&self) {
        #[cfg(feature = "postgres")]
        if let Place::Database(_, schema) = &self.place {
            in_time(async { while schema.sessions().await > 0 {} }).await;
        }
    }

    /// Several replicas serve from this store, so that each is a cache of what the store has.
    pub fn is_shared(&self) -> bool {
        self.level.is_shared()
    }

    /// What a handler did before it failed is undone.
    pub fn is_atomic(&self) -> bool {
        self.level == Level::Atomic
    }

    /// Starts a server over this place: the first, its next incarnation, or a second replica.
    pub async fn serve(&self, vault: &Arc<Vault>) -> Served {
        self.serve_as(vault, &anywhere(), |builder| builder).await
    }

    /// With an endpoint and limits of the test's own.
    pub async fn serve_as(
        &self,
        vault: &Arc<Vault>,
        endpoint: &str,
        set: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Served {
        let builder = || set(Server::builder().over().clock_error(Duration::ZERO).store(self.store()));
        let bound = async {
            loop {
                match builder().bind(endpoint).await {
                    Ok(server) => return server,
                    // The file, or the port, is let go of a moment after its last owner's crash.
                    Err(error) if is_taken(&error) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let server = in_time(bound).await;
        Served::start(server.service(AccountServer::new(vault.clone())))
    }
}

fn is_taken(error: &SetupError) -> bool {
    let text = error.to_string();
    text.contains("in use") || text.contains("has it open")
}

/// A server that serves, in a runtime of its own: as its process would be.
pub struct Served {
    pub endpoint: String,
    pub handle: ServerHandle,
    serving: JoinHandle<Result<(), SetupError>>,
    /// Taken when it ends.
    process: Option<Runtime>,
}

impl Served {
    fn start(server: Server) -> Served {
        let process =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (endpoint, handle) = (server.endpoint().to_owned(), server.handle());
        Served { endpoint, handle, serving: process.spawn(server.serve()), process: Some(process) }
    }

    /// Waits until it ends by itself; tells why.
    #[cfg(feature = "redb")]
    pub async fn stopped(&mut self) -> SetupError {
        in_time(&mut self.serving).await.unwrap().unwrap_err()
    }

    /// Ends at once, as `kill -9` would: nothing is drained, said or recorded any more, and handlers go where they wait.
    pub async fn crash(mut self) {
        // First the server, then its handlers: it would still record that they were dropped.
        self.serving.abort();
        assert!(
            (&mut self.serving).await.is_err_and(|error| error.is_cancelled()),
            "it had stopped by itself"
        );
        let process = self.process.take().expect("it serves");
        tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }
}
