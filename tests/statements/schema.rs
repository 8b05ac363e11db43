//! One PostgreSQL for all tests that run at a time, and a schema in it for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use selfsame::{Fault, Request};
use selfsame_test_postgres::Server;
use tokio_postgres::{Client, NoTls};

use super::api::account::NoSuchUser;
use super::api::account::account::ChangePassword;

/// A database server. Only fixtures hold it, so it is gone when the last test is over: what else a test starts may be dropped later, or never.
pub type Database = Arc<Mutex<Server>>;

/// A schema for a store, and beside it a table for effects.
#[derive(Clone)]
pub struct Schema {
    name: String,
    url: String,
}

impl Schema {
    /// In the database that all tests share.
    pub async fn create() -> (Database, Schema) {
        Schema::create_at(shared).await
    }

    /// In a database that the test may end.
    pub async fn create_alone() -> (Database, Schema) {
        Schema::create_at(|| Arc::new(Mutex::new(Server::start()))).await
    }

    async fn create_at(database: fn() -> Database) -> (Database, Schema) {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", SCHEMAS.fetch_add(1, Ordering::SeqCst));
        let database = tokio::task::spawn_blocking(database).await.unwrap();
        let url = database.lock().unwrap().url();
        let schema = Schema { name, url };
        let table = format!("CREATE TABLE {}_effects (number bigserial, nonce text NOT NULL)", schema.name);
        schema.connect().await.batch_execute(&table).await.unwrap();
        (database, schema)
    }

    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Effects that are committed.
    pub async fn effects(&self) -> u64 {
        self.count("_effects").await
    }

    /// Sessions that the store knows.
    pub async fn sessions(&self) -> u64 {
        self.count(".session").await
    }

    async fn count(&self, table: &str) -> u64 {
        let count = format!("SELECT count(*) FROM {}{table}", self.name);
        self.connect().await.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) as u64
    }

    /// Writes an effect in the transaction of its call.
    pub async fn write_effect(&self, request: &Request<ChangePassword>) -> Result<u64, Fault<NoSuchUser>> {
        let insert = format!("INSERT INTO {}_effects (nonce) VALUES ($1) RETURNING number", self.name);
        let nonce = request.nonce().to_string();
        let row = request.transaction()?.query_one(&insert, &[&nonce]).await?;
        Ok(row.get::<_, i64>(0) as u64)
    }
}

/// Started for the first test that needs it, and ended with the last.
fn shared() -> Database {
    static RUNNING: Mutex<Weak<Mutex<Server>>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let database = Arc::new(Mutex::new(Server::start()));
        *running = Arc::downgrade(&database);
        database
    })
}
