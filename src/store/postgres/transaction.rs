//! The transaction of a call, as its handler sees it. Its beginning and its end are the store's: what a handler does in here is committed together with
//! the record of its answer, or not at all.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Row, ToStatement};

use super::connection::Lent;
use super::failure::describe;
use super::handover::{Handover, InUse};
use crate::error::Fault;
use crate::protocol::store::Ticket;

/// The PostgreSQL transaction in which a call of an atomic store runs. Cheap to clone.
///
/// Whatever is written here and the record of the handler's answer are committed together: when the handler has answered with a reply or has declined.
/// If it fails, panics or takes too long, its writes are rolled back and the failure alone is recorded; if it is `unavailable` or
/// `interrupted`, all is rolled back. Writes elsewhere (over another connection, to a file, to another service) are not part of it.
///
/// The transaction is READ COMMITTED. The statements of one call run one after another. A handler must not end the transaction itself, with COMMIT or
/// ROLLBACK: that cannot be prevented, but it is noticed, and the call is recorded as failed. Savepoints, `SET LOCAL` and `LOCK` are
/// fine; other settings are reset when the transaction ends.
#[derive(Clone)]
pub struct Transaction(Arc<Handover<Lent>>);

/// Why a statement of a call's transaction has failed. With `?` it becomes a [`Fault`] of kind failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// This call has no transaction: the server's store is not an atomic one, or the method is not of class `once`.
    #[error(
        "the call has no transaction: its server's store is not Store::atomic, or its method is not of class once"
    )]
    None,
    /// The call has ended, by its answer or because it took too long: the statement was not run.
    #[error(
        "the transaction of the call is over: the handler has answered, or ran out of time. The statement was not run"
    )]
    Over,
    /// PostgreSQL says no, or cannot be reached. After an error the transaction takes no further statements, unless it is rolled back to a savepoint.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
}

impl<F> From<TransactionError> for Fault<F> {
    fn from(error: TransactionError) -> Self {
        Fault::failed(error)
    }
}

impl<F> From<tokio_postgres::Error> for Fault<F> {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::failed(describe(&error))
    }
}

impl Transaction {
    pub(super) fn new(lent: Lent) -> Self {
        Transaction(Arc::new(Handover::new(lent)))
    }

    /// Runs a statement; the number of rows that it changed.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn execute<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, TransactionError>
    where
        S: ?Sized + ToStatement,
    {
        Ok(self.lock().await?.connection.client.execute(statement, params).await?)
    }

    /// Runs a query; its rows.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn query<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, TransactionError>
    where
        S: ?Sized + ToStatement,
    {
        Ok(self.lock().await?.connection.client.query(statement, params).await?)
    }

    /// Runs a query that gives exactly one row.
    ///
    /// # Errors
    /// See [`TransactionError`]; also if there is no row, or more than one.
    pub async fn query_one<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, TransactionError>
    where
        S: ?Sized + ToStatement,
    {
        Ok(self.lock().await?.connection.client.query_one(statement, params).await?)
    }

    /// Runs a query that gives one row or none.
    ///
    /// # Errors
    /// See [`TransactionError`]; also if there is more than one row.
    pub async fn query_opt<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, TransactionError>
    where
        S: ?Sized + ToStatement,
    {
        Ok(self.lock().await?.connection.client.query_opt(statement, params).await?)
    }

    /// Runs several statements without parameters, separated by semicolons.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn batch_execute(&self, statements: &str) -> Result<(), TransactionError> {
        Ok(self.lock().await?.connection.client.batch_execute(statements).await?)
    }

    async fn lock(&self) -> Result<InUse<'_, Lent>, TransactionError> {
        self.0.lock().await.ok_or(TransactionError::Over)
    }

    /// The call has ended: its statements fail from now on.
    pub(super) fn end(&self) {
        self.0.end();
    }

    /// The connection, once no statement runs over it. None: somebody has taken it before.
    pub(super) async fn take(&self) -> Option<Lent> {
        self.0.take().await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("over", &self.0.is_over()).finish_non_exhaustive()
    }
}

/// The transactions of the calls that run now, by the tickets of their claims. Bounded by the connections for handlers.
#[derive(Clone, Default)]
pub struct Transactions(Arc<Mutex<HashMap<Ticket, Open>>>);

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.table().keys()).finish()
    }
}

/// One of them.
#[derive(Clone)]
pub(super) struct Open {
    pub transaction: Transaction,
    /// Ends the statement that runs.
    pub cancel: CancelToken,
    /// Its id in PostgreSQL: another one means that the handler has ended it.
    pub id: String,
}

impl Transactions {
    /// The transaction of a call, by the ticket of its claim.
    pub fn of(&self, claim: Ticket) -> Option<Transaction> {
        Some(self.table().get(&claim)?.transaction.clone())
    }

    pub(super) fn insert(&self, claim: Ticket, open: Open) {
        self.table().insert(claim, open);
    }

    pub(super) fn remove(&self, claim: Ticket) -> Option<Open> {
        self.table().remove(&claim)
    }

    /// All are over: the store has stopped, or its server has.
    pub(super) fn clear(&self) {
        for (_, open) in self.table().drain() {
            open.transaction.end();
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Ticket, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
