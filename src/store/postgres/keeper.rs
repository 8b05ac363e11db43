//! Keeps the store open: opens it first, then renews this server's lease, and tells when the database is out of reach and when it is back. On a
//! connection of its own, so that calls cannot hold up the lease.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::Client;

use super::connection::{Bare, CONNECT, Connection, NoConnection, generation};
use super::migrations::{Unfit, migrate};
use super::rows::{bytes16, unbits, wall_time};
use super::sql::qualified;
use super::{Core, rows};
use crate::protocol::store::{Opened, StoreEvent};

/// The first pause between two tries to connect; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// And the longest: calls should not be refused for long once the database is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Until the store stops: then says why.
pub(super) async fn keep(core: Arc<Core>) {
    let Err(why) = keep_on(&core).await;
    core.up.store(false, Ordering::SeqCst);
    core.stop(why);
}

/// Returns why there will never be a connection again.
async fn keep_on(core: &Core) -> Result<Infallible, String> {
    let mut pauses = Pauses::default();
    let (mut connection, opened) = loop {
        match open(core).await {
            Ok(open) => break open,
            Err(why) => pauses.after(why, "the store in PostgreSQL cannot be opened yet").await?,
        }
    };
    core.up.store(true, Ordering::SeqCst);
    core.tell(StoreEvent::Opened(Box::new(opened)));
    loop {
        let why = renew_until_lost(core, &connection).await;
        core.up.store(false, Ordering::SeqCst);
        tracing::warn!(why, "the store in PostgreSQL is down");
        core.tell(StoreEvent::Down(why));
        drop(connection);
        connection = reconnect(core).await?;
        tracing::info!("the store in PostgreSQL is up again");
        core.up.store(true, Ordering::SeqCst);
        core.tell(StoreEvent::Up);
    }
}

/// A connection over which the lease was renewed.
async fn reconnect(core: &Core) -> Result<Connection, String> {
    let mut pauses = Pauses::default();
    loop {
        let why = match Connection::connect(core, &core.config).await {
            Ok(connection) => match renew(core, &connection).await {
                Ok(()) => return Ok(connection),
                Err(why) => why,
            },
            Err(why) => why,
        };
        pauses.after(why, "the store in PostgreSQL is still down").await?;
    }
}

/// Longer and longer pauses between tries.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Pauses(PAUSE)
    }
}

impl Pauses {
    /// Waits, if there is something to wait for.
    async fn after(&mut self, why: NoConnection, what: &'static str) -> Result<(), String> {
        match why {
            NoConnection::Another(why) => return Err(why),
            NoConnection::Unreachable(why) if self.0 == PAUSE => tracing::warn!(why, "{what}"),
            NoConnection::Unreachable(why) => tracing::debug!(why, "{what}"),
        }
        // Replicas that lost the same database should not all come back in the same millisecond.
        let spread = crate::random::u64() % (self.0.as_millis() as u64 / 2 + 1);
        tokio::time::sleep(self.0 / 2 + Duration::from_millis(spread)).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Renews the lease until that fails; why.
async fn renew_until_lost(core: &Core, connection: &Connection) -> String {
    let interval = core.settings.lease / 3;
    loop {
        // A failure elsewhere is a reason to look at once.
        let _ = tokio::time::timeout(interval, core.doubt.notified()).await;
        if let Err(NoConnection::Unreachable(why) | NoConnection::Another(why)) =
            renew(core, connection).await
        {
            return why;
        }
    }
}

async fn renew(core: &Core, connection: &Connection) -> Result<(), NoConnection> {
    let lease = core.settings.lease.as_millis() as i64;
    let owner = core.owner();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&owner, &lease];
    let renewed = connection.client.execute(&connection.statements.renew, &parameters);
    match tokio::time::timeout(CONNECT, renewed).await {
        Ok(renewed) => Ok(renewed.map(drop)?),
        Err(_) => Err(NoConnection::Unreachable(format!("PostgreSQL did not answer within {CONNECT:?}"))),
    }
}

/// Opens the store: migrates its tables, counts this incarnation, takes a lease.
async fn open(core: &Core) -> Result<(Connection, Opened), NoConnection> {
    let bare = Bare::connect(&core.config).await?;
    let begun = tokio::time::timeout(CONNECT * 2, begin(core, &bare.client)).await;
    let mut opened = match begun.unwrap_or_else(|_| Ok(Err(late())))? {
        Ok(opened) => opened,
        Err(unfit) => return Err(unfit),
    };
    opened.generation = *core.generation.get_or_init(|| generation(opened.store, &bare.cluster));
    let connection = bare.prepared(core).await?;
    renew(core, &connection).await?;
    Ok((connection, opened))
}

fn late() -> NoConnection {
    NoConnection::Unreachable("the tables could not be prepared in time".into())
}

/// In one transaction, so that a server that dies here leaves nothing half done.
async fn begin(core: &Core, client: &Client) -> Result<Result<Opened, NoConnection>, tokio_postgres::Error> {
    let schema = &core.settings.schema;
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    match migrate(client, schema).await {
        Ok(()) => {}
        Err(Unfit::Failed(error)) => return Err(error),
        Err(Unfit::Newer { found, known }) => {
            return Ok(Err(NoConnection::Another(format!(
                "the tables in schema {schema:?} have version {found}, and this version of selfsame knows {known} at most: it is older \
                 than another server's. Update this server"
            ))));
        }
    }
    let create = "INSERT INTO @.meta (store, born)
        VALUES ($1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) ON CONFLICT DO NOTHING";
    let store = crate::random::u128().to_be_bytes().to_vec();
    client.execute(&qualified(create, schema), &[&store]).await?;
    let count =
        "UPDATE @.meta SET incarnations = incarnations + 1 RETURNING store, born, floor, incarnations";
    let row = client.query_one(&qualified(count, schema), &[]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Ok(Opened {
        store: bytes16(row.try_get(0)?),
        generation: 0,
        ordinal: unbits(row.try_get(3)?),
        born: wall_time(row.try_get(1)?),
        floor: rows::wall_time(row.try_get(2)?),
        ..Opened::default()
    }))
}
