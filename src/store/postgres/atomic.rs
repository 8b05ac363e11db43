//! The level `atomic`: the claim opens a transaction that stays open while the handler works in it, and the end puts the answer in and commits both.
//! Not what is in doubt afterwards: that is settled as any other doubt.
//!
//! | the end | the transaction |
//! | --- | --- |
//! | a reply, also one too large to keep; declined | the record is updated in it, COMMIT |
//! | failed and the like | ROLLBACK TO the savepoint before the handler, the record is updated, COMMIT |
//! | nothing to keep | ROLLBACK |
//!
//! If the transaction can't be used (the connection is lost, or a statement hangs), it is given up, and the record of a failure is written in a new one, whose
//! insert waits for the old one to end. If the handler has ended the transaction itself, the record cannot be what it was: its row is
//! updated only within the transaction that inserted it. The call is then recorded as failed, whatever it answered, for what it did is not known.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, NoTls};

use super::Core;
use super::claims;
use super::connection::{Connection, Lent};
use super::dispatch::PATIENCE;
use super::failure::Failure;
use super::finishes::{self, End};
use super::rows::{self, Answers};
use super::transaction::{Open, Transaction};
use crate::protocol::Refusal;
use crate::protocol::store::{Done, Found, Intent, Kept, Ticket};
use crate::protocol::wire::Answer;
use crate::sabotage::{kill_point, planted};

/// Before whatever the handler does. It also ends the claim's own impatience with locks.
const SAVEPOINT: &str = "SET LOCAL lock_timeout TO DEFAULT; SAVEPOINT selfsame_handler";
/// The handler may have changed what the store's own statements rely on.
const AS_IT_WAS: &str =
    "SET LOCAL statement_timeout = '10s'; SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";
/// How long a statement that still runs when the call ends may hold up the end.
const STRAGGLER: Duration = Duration::from_secs(2);
const OWN_END: &str =
    "the handler ended the transaction of its call itself, with COMMIT or ROLLBACK; what it did is not known";

/// Claims, and keeps the connection for the handler if that succeeds. Else it is left clean.
pub(super) async fn claim(
    core: &Core,
    lent: Lent,
    ticket: Ticket,
    intent: &Intent,
) -> Result<Done, (Failure, Lent)> {
    let done = match open(core, &lent.connection, intent).await {
        Ok((Done::Claimed, id)) => {
            let cancel = lent.connection.client.cancel_token();
            let open = Open { transaction: Transaction::new(lent), cancel, id };
            core.settings.transactions.insert(ticket, open);
            return Ok(Done::Claimed);
        }
        Ok((done, _)) => done,
        Err(failure) => return Err((failure, lent)),
    };
    if lent.connection.roll_back().await {
        lent.give_back();
    }
    Ok(done)
}

async fn open(core: &Core, connection: &Connection, intent: &Intent) -> Result<(Done, String), Failure> {
    let dones = claims::admit(core, connection, std::slice::from_ref(intent)).await?;
    let done = dones.into_iter().next().unwrap_or(Done::Busy);
    if done != Done::Claimed {
        return Ok((done, String::new()));
    }
    kill_point!("intent-written");
    if planted!(ClaimCommitsAlone) {
        connection.commit().await?;
        connection.client.batch_execute(claims::BEGIN).await?;
    }
    let id = connection.client.query_one(&connection.statements.transaction_id, &[]);
    let (saved, id) = tokio::join!(connection.client.batch_execute(SAVEPOINT), id);
    saved?;
    Ok((Done::Claimed, id?.try_get(0)?))
}

/// Ends a claimed call.
pub(super) async fn finish(core: &Core, claim: Ticket, end: &End) -> Done {
    let Some(Open { transaction, cancel, id }) = core.settings.transactions.remove(claim) else {
        // It never was, or is, in doubt or rolled back: nothing of it will be committed by anybody.
        return Done::NotDone("the transaction of the call is over".into());
    };
    transaction.end();
    let Ok(taken) = tokio::time::timeout(STRAGGLER, transaction.take()).await else {
        // A statement hangs that the handler has left to somebody. Nobody sends a COMMIT any more; when it ends, the connection goes with it.
        cancel_statement(&cancel).await;
        tokio::spawn(async move { transaction.take().await });
        return give_up(core, None, end, "a statement still ran when the call ended").await;
    };
    let Some(lent) = taken else { return Done::NotDone("the transaction of the call is over".into()) };
    match &end.1 {
        Some(answer) if comes_with_effect(answer) => commit(core, lent, end, answer, &id).await,
        Some(answer) => record_failure(core, lent, end, answer, &id).await,
        None => {
            tidy(lent, true);
            Done::Stored
        }
    }
}

/// Whether what the handler did is committed with this answer. `ReplyEvicted` stands for a reply that is too large to keep.
fn comes_with_effect(answer: &Answer) -> bool {
    match answer {
        Answer::Ok(_) | Answer::Declined { .. } => true,
        Answer::Failed(_) => false,
        Answer::Refused(refused) => refused.refusal == Refusal::ReplyEvicted,
    }
}

/// The effect and its record.
async fn commit(core: &Core, lent: Lent, end: &End, answer: &Answer, id: &str) -> Done {
    match keep_and_commit(core, &lent.connection, end, answer, id).await {
        Ok(true) => {
            tidy(lent, false);
            Done::Stored
        }
        Ok(false) => ended_by_handler(core, lent, end).await,
        // Closed, and not used again: its state is not known.
        Err(failure @ Failure::InDoubt(_)) => failure.into_done(),
        Err(failure) => {
            tidy(lent, true);
            undone(failure)
        }
    }
}

/// Whatever went wrong before the COMMIT: all is rolled back.
fn undone(failure: Failure) -> Done {
    Done::NotDone(failure.why().into())
}

/// The record of a failure, without what the handler has written.
async fn record_failure(core: &Core, lent: Lent, end: &End, answer: &Answer, id: &str) -> Done {
    let client = &lent.connection.client;
    // An error leaves a transaction that can do nothing but this; a broken connection not even this. It waits for a statement that the handler did not wait for.
    let rolled_back = client.batch_execute("ROLLBACK TO SAVEPOINT selfsame_handler");
    let rolled_back = tokio::time::timeout(STRAGGLER, rolled_back).await;
    if !matches!(rolled_back, Ok(Ok(()))) {
        if rolled_back.is_err() {
            cancel_statement(&client.cancel_token()).await;
        }
        return give_up(core, Some(lent), end, "the transaction could not be rolled back to its savepoint")
            .await;
    }
    match keep_and_commit(core, &lent.connection, end, answer, id).await {
        Ok(true) => {
            tidy(lent, false);
            Done::Stored
        }
        Ok(false) => ended_by_handler(core, lent, end).await,
        Err(failure @ Failure::InDoubt(_)) => failure.into_done(),
        Err(_) => {
            give_up(core, Some(lent), end, "the failure could not be recorded in the transaction").await
        }
    }
}

/// Ends the statement that runs, which would go on holding the call's record. The transaction can then do nothing more.
async fn cancel_statement(token: &CancelToken) {
    // If that fails, PostgreSQL notices in a while that the connection is closed.
    let _ = tokio::time::timeout(STRAGGLER, token.cancel_query(NoTls)).await;
}

/// Puts the answer into the record, and commits; in time, for a statement that the handler did not wait for may still hang. False: the transaction is
/// over, and nothing was done. `InDoubt` only of the COMMIT itself.
async fn keep_and_commit(
    core: &Core,
    connection: &Connection,
    end: &End,
    answer: &Answer,
    id: &str,
) -> Result<bool, Failure> {
    let committed = async {
        if !keep_within(core, connection, end, answer, id).await? {
            return Ok(false);
        }
        kill_point!("completion-written");
        let committed = connection.commit().await;
        kill_point!("committed");
        committed.map(|()| true)
    };
    let in_time = tokio::time::timeout(PATIENCE, committed).await;
    in_time.unwrap_or_else(|_| Err(Failure::late(connection.is_committing(), PATIENCE)))
}

/// Updates the record in the transaction that inserted it. False: that transaction is over.
async fn keep_within(
    core: &Core,
    connection: &Connection,
    end: &End,
    answer: &Answer,
    id: &str,
) -> Result<bool, Failure> {
    let Answers { states, codes, ambiguous, pauses, bodies, .. } = Answers::one(Vec::new(), answer);
    let (key, owner, body) = (rows::key(end.0.record()), core.owner(), &bodies[0][..]);
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&key, &states[0], &codes[0], &ambiguous[0], &pauses[0], &body, &owner, &id];
    let Connection { client, statements, .. } = connection;
    let within = client.execute(&statements.finish_within, &parameters);
    let (as_it_was, changed) = tokio::join!(client.batch_execute(AS_IT_WAS), within);
    as_it_was?;
    Ok(changed? == 1)
}

/// The transaction is given up. A failure is recorded in a new one; an answer that was to be committed with its effect is not.
async fn give_up(core: &Core, lent: Option<Lent>, end: &End, why: &str) -> Done {
    drop(lent);
    match &end.1 {
        None => Done::Stored,
        Some(answer) if comes_with_effect(answer) => Done::NotDone(why.into()),
        Some(answer) => afresh(core, end, answer).await.unwrap_or_else(undone),
    }
}

/// The handler has ended the transaction.
async fn ended_by_handler(core: &Core, lent: Lent, end: &End) -> Done {
    tracing::error!(interface = end.0.imprint.interface, method = end.0.imprint.method, OWN_END);
    drop(lent);
    let failed = Answer::Failed(OWN_END.into());
    match afresh(core, end, &failed).await {
        Ok(Done::Stored) => Done::Found(Found { imprint: end.0.imprint, state: Kept::Ended(failed) }),
        Ok(Done::Busy) => Done::InDoubt("the record of the call is held by somebody".into()),
        Ok(done) => done,
        // Not "not done": the handler may have committed what it did.
        Err(failure) => Done::InDoubt(failure.why().into()),
    }
}

/// Writes a record in a transaction of its own, as if it were claimed and finished anew. The insert waits for the old transaction to end.
async fn afresh(core: &Core, end: &End, answer: &Answer) -> Result<Done, Failure> {
    let written = async {
        let connection = Connection::connect(core, &core.config).await.map_err(no_connection)?;
        let dones = claims::admit(core, &connection, std::slice::from_ref(&end.0)).await?;
        let done = match dones.into_iter().next().unwrap_or(Done::Busy) {
            Done::Found(Found { state: Kept::Running(owner), .. }) if owner == core.incarnation => {
                Done::Claimed
            }
            done => done,
        };
        if done != Done::Claimed {
            return Ok(done);
        }
        finishes::keep(core, &connection, &Answers::one(rows::key(end.0.record()), answer)).await?;
        connection.commit().await?;
        Ok(Done::Stored)
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| Err(Failure::late(true, PATIENCE)))
}

fn no_connection(why: super::connection::NoConnection) -> Failure {
    match why {
        super::connection::NoConnection::Unreachable(why) | super::connection::NoConnection::Another(why) => {
            Failure::Undone(why)
        }
    }
}

/// Makes a connection ready for the next call, while nobody waits for that.
fn tidy(lent: Lent, roll_back: bool) {
    tokio::spawn(async move {
        let clean = async {
            if roll_back && !lent.connection.roll_back().await {
                cancel_statement(&lent.connection.client.cancel_token()).await;
                return false;
            }
            lent.connection.clean().await.is_ok()
        };
        if tokio::time::timeout(PATIENCE, clean).await.unwrap_or(false) {
            lent.give_back();
        }
    });
}
