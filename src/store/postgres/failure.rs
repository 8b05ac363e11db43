//! What an error of PostgreSQL means for the operation that met it: nothing was done, or that is not known. Not what is told of it to a caller.

use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::protocol::store::Done;

/// How an operation, or the transaction of a batch of them, failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// It was rolled back, or never sent whole. It had no effect and never will.
    Undone(String),
    /// As `Undone`, because somebody held a record for too long.
    Busy(String),
    /// As `Undone`, and PostgreSQL asks to do it again: a deadlock, a conflict.
    Again(String),
    /// Its commit was sent, and no answer that says how it went came back.
    InDoubt(String),
}

impl Failure {
    /// Of a statement inside a transaction whose COMMIT was not sent.
    pub fn before_commit(error: &Error) -> Self {
        let why = describe(error);
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Failure::Busy(why),
            Some(code) if code.code().starts_with("40") => Failure::Again(why),
            _ => Failure::Undone(why),
        }
    }

    /// Of a COMMIT, or of a statement that is a transaction of its own.
    pub fn at_commit(error: &Error) -> Self {
        if is_definite(error) { Failure::before_commit(error) } else { Failure::InDoubt(describe(error)) }
    }

    /// No answer in time, and the connection given up.
    pub fn late(commit_sent: bool, patience: Duration) -> Self {
        let why = format!("PostgreSQL did not answer within {patience:?}");
        if commit_sent { Failure::InDoubt(why) } else { Failure::Undone(why) }
    }

    pub fn into_done(self) -> Done {
        match self {
            Failure::Undone(why) | Failure::Again(why) => Done::NotDone(why),
            Failure::Busy(_) => Done::Busy,
            Failure::InDoubt(why) => Done::InDoubt(why),
        }
    }

    pub fn why(&self) -> &str {
        match self {
            Failure::Undone(why) | Failure::Busy(why) | Failure::Again(why) | Failure::InDoubt(why) => why,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::before_commit(&error)
    }
}

/// Whether the server says in so many words that a transaction which it was asked to commit is rolled back.
///
/// An ERROR is raised before the commit record is written: after that only FATAL and PANIC are. Those, and a lost connection, leave it open: a server
/// that shuts down may have committed and be unable to say so. A cancelled statement is left open too, for nobody here cancels a COMMIT.
fn is_definite(error: &Error) -> bool {
    let Some(said) = error.as_db_error() else { return false };
    let open = ["08", "57", "58", "XX"];
    said.parsed_severity() == Some(Severity::Error)
        && !open.iter().any(|class| said.code().code().starts_with(class))
}

/// The error with its cause, in one line.
pub(super) fn describe(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
