//! Ends of claimed records, many in one statement each way; and the look at a record. Compare-and-swap: a record that somebody else has taken stays
//! as it is. Not the ends of an atomic store, which belong to the handler's transaction.
//!
//! A record that is removed may be inserted again, by the same owner: the next run of the call. So a removal must not come into effect later than it is
//! answered. Its COMMIT is sent only when it is known to be done: one that was given up and arrives late has none and is rolled back, and while a COMMIT is in
//! doubt the row is held, so that whoever asks again waits.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;

use super::Core;
use super::connection::Connection;
use super::failure::Failure;
use super::rows::{self, Answers, Key};
use crate::protocol::store::{Done, Found, Intent};
use crate::protocol::wire::Answer;
use crate::sabotage::{kill_point, planted};

/// One end: the record, and what is kept of it.
pub(super) type End = (Intent, Option<Answer>);

/// A batch. To keep is one statement, which commits by itself. If there is something to remove, all is one transaction.
///
/// # Errors
/// `InDoubt` unless PostgreSQL says that it did nothing. To ask again is always right: what was done is then found.
pub(super) async fn finish(
    core: &Core,
    connection: &Connection,
    ends: &[&End],
) -> Result<Vec<Done>, Failure> {
    let mut answers = Answers::default();
    let mut dropped: Vec<Key> = Vec::new();
    for (intent, keep) in ends {
        let key = rows::key(intent.record());
        match keep {
            Some(answer) => answers.push(key, answer),
            None => dropped.push(key),
        }
    }
    let keeping = async {
        if answers.keys.is_empty() { Ok(HashSet::new()) } else { keep(core, connection, &answers).await }
    };
    let removes = !dropped.is_empty();
    let begin = async { if removes { connection.begin().await } else { Ok(()) } };
    let removing =
        async { if removes { remove(core, connection, &dropped).await } else { Ok(HashSet::new()) } };
    kill_point!("completion-written");
    // In one round trip, and in this order.
    let (begun, kept, removed) = tokio::join!(begin, keeping, removing);
    begun?;
    let (kept, removed) = (kept?, removed?);
    if removes {
        connection.commit().await?;
    }
    kill_point!("completion-synced");
    let mut dones = Vec::with_capacity(ends.len());
    for (intent, _) in ends {
        let key = rows::key(intent.record());
        dones.push(if kept.contains(&key) || removed.contains(&key) {
            Done::Stored
        } else {
            look(connection, key).await?.map_or(Done::Absent, Done::Found)
        });
    }
    Ok(dones)
}

/// Keeps answers; of which records.
pub(super) async fn keep(
    core: &Core,
    connection: &Connection,
    answers: &Answers,
) -> Result<HashSet<Key>, Failure> {
    let statements = &connection.statements;
    let statement = if planted!(FinishWithoutSwap) { &statements.finish_blindly } else { &statements.finish };
    let Answers { keys, states, codes, ambiguous, pauses, bodies } = answers;
    let bodies: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
    let owner = core.owner();
    let parameters: [&(dyn ToSql + Sync); 7] = [keys, states, codes, ambiguous, pauses, &bodies, &owner];
    changed(connection, statement, &parameters).await
}

async fn remove(core: &Core, connection: &Connection, keys: &[Key]) -> Result<HashSet<Key>, Failure> {
    changed(connection, &connection.statements.remove, &[&keys, &core.owner()]).await
}

async fn changed(
    connection: &Connection,
    statement: &tokio_postgres::Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<HashSet<Key>, Failure> {
    let rows =
        connection.client.query(statement, parameters).await.map_err(|error| Failure::at_commit(&error))?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The record as it is committed.
pub(super) async fn look(connection: &Connection, key: Key) -> Result<Option<Found>, Failure> {
    let keys = [key];
    let row = connection.client.query_opt(&connection.statements.records, &[&&keys[..]]).await?;
    Ok(row.as_ref().map(rows::found).transpose()?.map(|(_, found)| found))
}
