//! Sessions: registered, resumed, and told what their clients have closed. Not their eviction, which is upkeep.

use std::collections::HashMap;
use std::time::Duration;

use super::Core;
use super::connection::Connection;
use super::failure::Failure;
use super::rows::{self, Key};
use crate::protocol::dedup::Closed;
use crate::protocol::store::Done;
use crate::protocol::{PrincipalId, Registration};

/// Numbers that a client has closed.
pub(super) struct Closing {
    pub registration: Registration,
    pub below: u64,
    pub ranges: Vec<(u64, u64)>,
}

pub(super) async fn register(
    connection: &Connection,
    registration: Registration,
    principal: PrincipalId,
) -> Result<Done, Failure> {
    let (registration, principal) = (rows::registration_bytes(registration), rows::bits(principal.0));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&registration, &principal];
    let inserted = connection.client.execute(&connection.statements.register, &parameters).await;
    match inserted.map_err(|error| Failure::at_commit(&error))? {
        // It was minted at random just now: 128 bits do not meet, but a broken source of them would.
        0 => Ok(Done::NotDone("the registration exists already".into())),
        _ => Ok(Done::Registered { ordinal: ordinal(connection).await? }),
    }
}

pub(super) async fn resume(
    connection: &Connection,
    registration: Registration,
    principal: PrincipalId,
) -> Result<Done, Failure> {
    let (registration, principal) = (rows::registration_bytes(registration), rows::bits(principal.0));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&registration, &principal];
    let row = connection.client.query_opt(&connection.statements.resume, &parameters).await?;
    let Some(row) = row else { return Ok(Done::Gone) };
    let closed = rows::closed(row.try_get(0)?, row.try_get(1)?);
    let ordinal = ordinal(connection).await?;
    Ok(Done::Session { below: closed.below(), ranges: closed.above().collect(), ordinal })
}

/// The count of incarnations that have opened the store.
async fn ordinal(connection: &Connection) -> Result<u64, Failure> {
    let row = connection.client.query_one(&connection.statements.incarnations, &[]).await?;
    Ok(rows::unbits(row.try_get(0)?))
}

/// How old the time at which a session was last seen may get before it is written again: five seconds, and less if the retention is short. A client that
/// only pings is told of every eighth of the retention (`Replica::heard`).
fn stale(retention: Duration) -> i64 {
    (retention / 8).min(Duration::from_secs(5)).as_millis() as i64
}

/// Raises watermarks and deletes what they pass, in one transaction. Records that run stay: a later close, or the session's end, takes them.
pub(super) async fn close(
    core: &Core,
    connection: &Connection,
    closings: &[&Closing],
) -> Result<Vec<Done>, Failure> {
    let Connection { client, statements, .. } = connection;
    let registrations: Vec<Vec<u8>> =
        closings.iter().map(|closing| rows::registration_bytes(closing.registration)).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&registrations];
    let (begun, known) = tokio::join!(connection.begin(), client.query(&statements.closing, &parameters));
    begun?;
    let mut sessions = HashMap::new();
    for row in known? {
        let registration = Registration(rows::bytes16(row.try_get(0)?));
        sessions.insert(registration, rows::closed(row.try_get(1)?, row.try_get(2)?));
    }
    let dones = closings.iter().map(|closing| match sessions.get_mut(&closing.registration) {
        Some(closed) => {
            closed.raise(closing.below);
            for &(first, last) in &closing.ranges {
                closed.close(first, last, rows::RANGES);
            }
            Done::Stored
        }
        None => Done::Gone,
    });
    let dones: Vec<Done> = dones.collect();
    if !sessions.is_empty() {
        write(core, connection, &sessions).await?;
    }
    connection.commit().await?;
    Ok(dones)
}

async fn write(
    core: &Core,
    connection: &Connection,
    sessions: &HashMap<Registration, Closed>,
) -> Result<(), Failure> {
    let Connection { client, statements, .. } = connection;
    let (mut registrations, mut below, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut last): (Vec<Key>, Vec<Key>) = (Vec::new(), Vec::new());
    for (&registration, closed) in sessions {
        registrations.push(rows::registration_bytes(registration));
        below.push(rows::bits(closed.below()));
        ranges.push(rows::ranges(closed));
        // The watermark itself is the first number that is open, unless it is the last number of all.
        let passed = (0, closed.below().saturating_sub(1));
        for (from, to) in std::iter::once(passed).chain(closed.above()) {
            first.push(rows::sequenced_key(registration, from));
            last.push(rows::sequenced_key(registration, to));
        }
    }
    let stale = stale(core.retention);
    let update: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&registrations, &below, &ranges, &stale];
    let collect: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&first, &last];
    let (updated, collected) = tokio::join!(
        client.execute(&statements.close, &update),
        client.execute(&statements.collect, &collect),
    );
    updated?;
    collected?;
    Ok(())
}
