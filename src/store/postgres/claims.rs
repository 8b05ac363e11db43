//! Claims: running records inserted, many in one transaction; and what became of one that ended in doubt. Not what a handler does in the meantime.
//!
//! The order is the whole point (protocol page, "Stores"). The insert comes first: where another transaction holds the key, it waits. Only a later
//! statement looks at the session, so it sees the watermark of whoever was waited for.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::Core;
use super::connection::Connection;
use super::failure::Failure;
use super::finishes;
use super::rows::{self, Answers, Intents, Key};
use crate::protocol::dedup::Closed;
use crate::protocol::store::{Done, Found, Intent, Kept};
use crate::protocol::{CallId, PrincipalId, Registration, WallTime};
use crate::sabotage::{kill_point, planted};

/// Nobody holds a record longer than a commit takes, except a handler of an atomic store or a transaction in doubt.
pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '1s'";
/// How often a record may go while it is looked at before the caller is told to come again.
const ROUNDS: usize = 3;

/// A batch in one transaction.
///
/// # Errors
/// Of the claims that would have been made. `decided` has then what is true of the others.
pub(super) async fn claim(
    core: &Core,
    connection: &Connection,
    intents: &[Intent],
    decided: &mut Vec<Option<Done>>,
) -> Result<(), Failure> {
    let mut dones = admit(core, connection, intents).await?;
    kill_point!("intent-written");
    let undone: Vec<Key> = barred(intents, &dones);
    if !undone.is_empty() {
        connection.client.execute(&connection.statements.unclaim, &[&undone]).await?;
    }
    *decided = dones.iter().map(|done| (*done != Done::Claimed).then(|| done.clone())).collect();
    connection.commit().await?;
    kill_point!("intent-synced");
    *decided = dones.drain(..).map(Some).collect();
    Ok(())
}

/// Keys that were inserted and may not stay.
fn barred(intents: &[Intent], dones: &[Done]) -> Vec<Key> {
    let is_barred = |done: &Done| matches!(done, Done::Passed | Done::Gone | Done::Expired);
    intents
        .iter()
        .zip(dones)
        .filter(|(_, done)| is_barred(done))
        .map(|(intent, _)| rows::key(intent.record()))
        .collect()
}

/// Opens a transaction, inserts the records and then looks whether they may stay. Leaves it open. Those that may not stay are still there.
pub(super) async fn admit(
    core: &Core,
    connection: &Connection,
    intents: &[Intent],
) -> Result<Vec<Done>, Failure> {
    let mut dones: Vec<Option<Done>> = vec![None; intents.len()];
    for round in 0..ROUNDS {
        let open: Vec<usize> = (0..intents.len()).filter(|&at| dones[at].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let batch: Vec<&Intent> = open.iter().map(|&at| &intents[at]).collect();
        let seen = insert_and_look(core, connection, &batch, round == 0).await?;
        for (&at, intent) in open.iter().zip(batch) {
            dones[at] = seen.judge(intent);
        }
    }
    // Inserted by others and removed again each time: whoever asks next may be luckier.
    Ok(dones.into_iter().map(|done| done.unwrap_or(Done::Busy)).collect())
}

/// What one round of statements has shown.
struct Seen {
    inserted: std::collections::HashSet<Key>,
    records: HashMap<Key, Found>,
    sessions: HashMap<Registration, (PrincipalId, Closed)>,
    floor: WallTime,
}

/// All statements in one round trip. PostgreSQL does them one after another, in the order in which they are first polled: as they are written.
async fn insert_and_look(
    core: &Core,
    connection: &Connection,
    intents: &[&Intent],
    begin: bool,
) -> Result<Seen, Failure> {
    let Connection { client, statements, .. } = connection;
    let columns: Intents = intents.iter().copied().collect();
    let owner = core.owner();
    let mut registrations: Vec<Vec<u8>> =
        intents.iter().map(|intent| rows::registration_bytes(intent.registration)).collect();
    registrations.sort_unstable();
    registrations.dedup();

    let begin = async { if begin { client.batch_execute(BEGIN).await } else { Ok(()) } };
    let insert: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
        &columns.keys,
        &columns.interfaces,
        &columns.methods,
        &columns.digests,
        &columns.stamps,
        &columns.expiries,
        &owner,
    ];
    let insert = client.query(&statements.claim, &insert);
    let keys: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&columns.keys];
    let records = client.query(&statements.records, &keys);
    let named: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&registrations];
    let sessions = client.query(&statements.sessions, &named);
    let floor = client.query_one(&statements.floor, &[]);

    let (begun, inserted, sessions, floor, records) = if planted!(CheckBeforeInsert) {
        begin.await?;
        let (sessions, floor) = tokio::join!(sessions, floor);
        let (inserted, records) = tokio::join!(insert, records);
        (Ok(()), inserted, sessions, floor, records)
    } else {
        tokio::join!(begin, insert, sessions, floor, records)
    };
    begun?;
    Seen::read(&inserted?, &sessions?, &floor?, &records?).map_err(Failure::from)
}

impl Seen {
    fn read(
        inserted: &[Row],
        sessions: &[Row],
        floor: &Row,
        records: &[Row],
    ) -> Result<Seen, tokio_postgres::Error> {
        let session = |row: &Row| {
            let registration = Registration(rows::bytes16(row.try_get(0)?));
            let closed = rows::closed(row.try_get(2)?, row.try_get(3)?);
            Ok((registration, (PrincipalId(rows::unbits(row.try_get(1)?)), closed)))
        };
        Ok(Seen {
            inserted: inserted.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
            records: records.iter().map(rows::found).collect::<Result<_, _>>()?,
            sessions: sessions.iter().map(session).collect::<Result<_, tokio_postgres::Error>>()?,
            floor: rows::wall_time(floor.try_get(0)?),
        })
    }

    /// None: the record was there and is gone again.
    fn judge(&self, intent: &Intent) -> Option<Done> {
        let key = rows::key(intent.record());
        if !self.inserted.contains(&key) {
            return self.records.get(&key).cloned().map(Done::Found);
        }
        Some(match intent.id {
            CallId::Keyed(key) if key.expiry <= self.floor => Done::Expired,
            CallId::Keyed(_) => Done::Claimed,
            CallId::Sequenced(number) => match self.sessions.get(&intent.registration) {
                Some((principal, _)) if *principal != intent.principal => Done::Gone,
                None => Done::Gone,
                Some((_, closed)) if closed.contains(number) => Done::Passed,
                Some(_) => Done::Claimed,
            },
        })
    }
}

/// What became of a transaction in doubt: waits until it has ended, by inserting its key again, and takes that back.
pub(super) async fn settle(core: &Core, connection: &Connection, intent: &Intent) -> Result<Done, Failure> {
    if planted!(SettleBySelect) {
        return Ok(finishes::look(connection, rows::key(intent.record()))
            .await?
            .map_or(Done::Absent, Done::Found));
    }
    let dones = admit(core, connection, std::slice::from_ref(intent)).await?;
    connection.client.batch_execute("ROLLBACK").await?;
    Ok(match dones.into_iter().next() {
        Some(Done::Claimed) => Done::Absent,
        Some(Done::Found(found)) if found.state == Kept::Running(core.incarnation) => {
            ours(core, connection, intent, found).await?
        }
        Some(done) => done,
        None => Done::Busy,
    })
}

/// The transaction in doubt has committed a running record of this server's.
async fn ours(core: &Core, connection: &Connection, intent: &Intent, found: Found) -> Result<Done, Failure> {
    if !core.settings.atomic {
        return Ok(Done::Claimed);
    }
    // An atomic store never commits one: the handler has ended its transaction by itself, and what it did after that is not known.
    let answers = Answers::one(rows::key(intent.record()), &rows::recorded_unknown());
    finishes::keep(core, connection, &answers).await?;
    let found = finishes::look(connection, rows::key(intent.record())).await?.unwrap_or(found);
    Ok(Done::Found(found))
}
