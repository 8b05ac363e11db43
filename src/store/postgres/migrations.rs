//! The store's tables, brought to this version's form when a server opens it. Not done by hand, and never undone: a store of a later version is refused.

use tokio_postgres::{Client, Error};

use super::sql::{lock_number, qualified};

/// One for each version, in order. What was released is never changed.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// Why the tables are not as they should be.
pub(super) enum Unfit {
    /// The database failed.
    Failed(Error),
    /// A later version of this library was here.
    Newer { found: i32, known: usize },
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Unfit::Failed(error)
    }
}

/// Brings the tables up to date, in the transaction that is open. Several servers may do so at once: they take turns.
pub(super) async fn migrate(client: &Client, schema: &str) -> Result<(), Unfit> {
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&lock_number("migrate", schema)]).await?;
    // Asked first: to create a schema "if not exists" takes the privilege to create one even if it does exist.
    let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1),
        EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'version')";
    let row = client.query_one(there, &[&schema]).await?;
    if !row.try_get::<_, bool>(0)? {
        client.batch_execute(&qualified("CREATE SCHEMA @", schema)).await?;
    }
    if !row.try_get::<_, bool>(1)? {
        let create = "CREATE TABLE @.version
            (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT clock_timestamp())";
        client.batch_execute(&qualified(create, schema)).await?;
    }
    let latest = qualified("SELECT coalesce(max(version), 0) FROM @.version", schema);
    let found: i32 = client.query_one(&latest, &[]).await?.try_get(0)?;
    let done = match usize::try_from(found) {
        Ok(done) if done <= MIGRATIONS.len() => done,
        _ => return Err(Unfit::Newer { found, known: MIGRATIONS.len() }),
    };
    for (version, migration) in (1i32..).zip(MIGRATIONS).skip(done) {
        client.batch_execute(&qualified(migration, schema)).await?;
        client
            .execute(&qualified("INSERT INTO @.version (version) VALUES ($1)", schema), &[&version])
            .await?;
    }
    Ok(())
}
