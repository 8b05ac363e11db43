//! Upkeep: sessions that are idle, keyed records that have expired, records whose owners are gone. A bounded number at a time, and by one server at a
//! time; what is left is for the next round.

use tokio_postgres::types::ToSql;

use super::Core;
use super::connection::Connection;
use super::failure::Failure;
use super::finishes;
use super::rows::{self, Answers};
use super::sql::lock_number;
use crate::protocol::Registration;
use crate::protocol::store::{Done, RecordId};
use crate::sabotage::planted;

/// Rows a round and kind: some ten milliseconds of work, once a second.
const ROUND: i64 = 1_000;
/// Sessions a round: each may have a window of records.
const SESSIONS: i64 = 64;
/// By how much an expired record outlives its expiry: a clock of a client that is off by the 500 ms that are allowed still finds it.
const EXPIRY_MARGIN: i64 = 1_000;

/// Looks at a record that somebody runs, and takes it from an owner whose lease has expired.
pub(super) async fn look(
    core: &Core,
    connection: &Connection,
    record: RecordId,
    abandon: bool,
) -> Result<Done, Failure> {
    let key = rows::key(record);
    // No owner has the number 0.
    let abandoned = if abandon { core.owner() } else { 0 };
    if core.settings.rerun_unfinished || planted!(ExpiredLeaseRunsAgain) {
        let parameters: [&(dyn ToSql + Sync); 2] = [&key, &abandoned];
        // The COMMIT apart, as for every removal (see `finishes`).
        let let_go = connection.client.execute(&connection.statements.let_go, &parameters);
        let (begun, let_go) = tokio::join!(connection.begin(), let_go);
        begun?;
        let_go?;
        connection.commit().await?;
    } else {
        let Answers { states, codes, bodies, .. } = Answers::one(Vec::new(), &rows::recorded_unknown());
        let parameters: [&(dyn ToSql + Sync); 5] = [&states[0], &codes[0], &&bodies[0][..], &key, &abandoned];
        connection.client.execute(&connection.statements.give_up, &parameters).await?;
    }
    Ok(finishes::look(connection, key).await?.map_or(Done::Absent, Done::Found))
}

/// One round of everything.
pub(super) async fn sweep(core: &Core, connection: &Connection) -> Result<Done, Failure> {
    let Connection { client, statements, .. } = connection;
    connection.begin().await?;
    let lock = lock_number("sweep", &core.settings.schema);
    let row = client.query_one(&statements.one_at_a_time, &[&lock]).await?;
    if row.try_get::<_, bool>(0)? {
        give_up(core, connection).await?;
        evict(core, connection).await?;
        expire(connection).await?;
        let lease = 2 * core.settings.lease.as_millis() as i64;
        client.execute(&statements.forget_owners, &[&lease]).await?;
    }
    connection.commit().await?;
    Ok(Done::Stored)
}

/// Records whose owners do not live become recorded Unknowns, or go if they may run again.
async fn give_up(core: &Core, connection: &Connection) -> Result<(), Failure> {
    let Connection { client, statements, .. } = connection;
    if core.settings.rerun_unfinished {
        client.execute(&statements.let_go_some, &[&ROUND]).await?;
    } else {
        let Answers { states, codes, bodies, .. } = Answers::one(Vec::new(), &rows::recorded_unknown());
        let parameters: [&(dyn ToSql + Sync); 4] = [&states[0], &codes[0], &&bodies[0][..], &ROUND];
        client.execute(&statements.give_up_some, &parameters).await?;
    }
    Ok(())
}

/// Sessions that were idle for longer than the retention go with their records, except those for which something runs.
async fn evict(core: &Core, connection: &Connection) -> Result<(), Failure> {
    let Connection { client, statements, .. } = connection;
    let retention = i64::try_from(core.retention.as_millis()).unwrap_or(i64::MAX / 1_000);
    let idle: Vec<Vec<u8>> = column(&client.query(&statements.idle, &[&retention, &SESSIONS]).await?)?;
    if idle.is_empty() {
        return Ok(());
    }
    let edge = |number: u64| {
        let key = move |bytes: &Vec<u8>| rows::sequenced_key(Registration(rows::bytes16(bytes)), number);
        move |sessions: &[Vec<u8>]| sessions.iter().map(key).collect::<Vec<_>>()
    };
    let (first, last) = (edge(0), edge(u64::MAX));
    let busy: Vec<Vec<u8>> =
        column(&client.query(&statements.busy, &[&idle, &first(&idle), &last(&idle)]).await?)?;
    let (kept, gone): (Vec<_>, Vec<_>) = idle.into_iter().partition(|session| busy.contains(session));
    client.execute(&statements.keep, &[&kept]).await?;
    client.execute(&statements.evict, &[&gone]).await?;
    client.execute(&statements.collect, &[&first(&gone), &last(&gone)]).await?;
    Ok(())
}

/// Expired keyed records go, and the floor rises to the last of them: from then on no nonce that old is taken.
async fn expire(connection: &Connection) -> Result<(), Failure> {
    let Connection { client, statements, .. } = connection;
    let expired = client.query(&statements.expired, &[&EXPIRY_MARGIN, &ROUND]).await?;
    let Some(latest) = expired.last() else { return Ok(()) };
    if !planted!(ExpireWithoutFloor) {
        client.execute(&statements.raise_floor, &[&latest.try_get::<_, i64>(1)?]).await?;
    }
    let keys: Vec<Vec<u8>> = column(&expired)?;
    client.execute(&statements.unclaim, &[&keys]).await?;
    Ok(())
}

fn column(rows: &[tokio_postgres::Row]) -> Result<Vec<Vec<u8>>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
