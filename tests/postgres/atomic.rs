//! The level `atomic`: what a handler does and the record of its answer are one.

use std::time::Duration;

use selfsame::protocol::Registration;
use selfsame::protocol::store::{Done, Found, Intent, Kept, Op, Ticket};
use selfsame::protocol::wire::Answer;
use selfsame::{Store, Transaction, TransactionError, postgres};
use selfsame_test_postgres::Server;

use crate::rig::*;

/// A replica, and a table of effects.
struct Rig {
    a: Replica,
    store: Store,
    other: postgres::Client,
    schema: String,
    session: Registration,
}

async fn rig(server: &Server) -> Rig {
    let schema = schema();
    let store = Store::atomic(server.url()).schema(&schema).connections(4);
    let mut a = Replica::open(store.clone()).await;
    let other = observer(&server.url()).await;
    let tables = format!(
        "CREATE TABLE {schema}.effect (number int PRIMARY KEY);
        CREATE TABLE {schema}.child (number int REFERENCES {schema}.effect DEFERRABLE INITIALLY DEFERRED)"
    );
    other.batch_execute(&tables).await.unwrap();
    let session = a.session().await;
    Rig { a, store, other, schema, session }
}

impl Rig {
    async fn begin(&mut self, number: u64) -> (Intent, Ticket, Transaction) {
        let intent = call(self.session, number);
        let ticket = self.a.ask(Op::Claim(intent));
        assert_eq!(self.a.answer(ticket).await, Done::Claimed);
        let transaction = self.a.transactions.as_ref().expect("atomic").of(ticket).expect("it is open");
        (intent, ticket, transaction)
    }

    fn effect(&self, number: u64) -> String {
        format!("INSERT INTO {}.effect VALUES ({number})", self.schema)
    }

    async fn finish(&mut self, (intent, claim): (Intent, Ticket), keep: Option<Answer>) -> Done {
        self.a.does(Op::Finish { claim, intent, keep }).await
    }

    async fn effects(&self) -> Vec<i32> {
        let rows =
            self.other.query(&format!("SELECT number FROM {}.effect ORDER BY 1", self.schema), &[]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test]
async fn effect_and_record_are_committed_together_or_not_at_all() {
    let server = quiet();
    let mut rig = rig(&server).await;
    let failed = Answer::Failed("it went wrong".into());
    let declined = Answer::Declined { fault: 5, body: bytes::Bytes::from_static(b"no") };
    for (number, keep) in (1..).zip([Some(ok("done")), Some(declined), Some(failed), None]) {
        let (intent, ticket, transaction) = rig.begin(number).await;
        assert_eq!(transaction.execute(&rig.effect(number), &[]).await.unwrap(), 1);
        assert_eq!(rig.effects().await.len(), number.min(3) as usize - 1, "not before");
        assert_eq!(rig.finish((intent, ticket), keep.clone()).await, Done::Stored);
        assert_eq!(rig.a.look(intent.record()).await, keep.map_or(Done::Absent, ended));
        let late = transaction.execute(&rig.effect(99), &[]).await;
        assert!(matches!(late, Err(TransactionError::Over)), "{late:?}");
    }
    assert_eq!(rig.effects().await, [1, 2]);
}

#[tokio::test]
async fn a_transaction_that_cannot_commit_is_not_done() {
    let server = quiet();
    let mut rig = rig(&server).await;
    // A constraint that is checked at COMMIT.
    let (intent, ticket, transaction) = rig.begin(1).await;
    transaction.batch_execute(&format!("INSERT INTO {}.child VALUES (77)", rig.schema)).await.unwrap();
    let done = rig.finish((intent, ticket), Some(ok("done"))).await;
    assert!(matches!(&done, Done::NotDone(why) if why.contains("23503")), "{done:?}");
    // An error that the handler has passed over.
    let (intent, ticket, transaction) = rig.begin(1).await;
    transaction.execute(&rig.effect(1), &[]).await.unwrap();
    assert!(transaction.query_one("SELECT 1/0", &[]).await.is_err());
    let done = rig.finish((intent, ticket), Some(ok("done"))).await;
    assert!(matches!(&done, Done::NotDone(_)), "{done:?}");
    // The same, and the handler says so: that is recorded.
    let (intent, ticket, transaction) = rig.begin(1).await;
    transaction.execute(&rig.effect(1), &[]).await.unwrap();
    assert!(transaction.query_one("SELECT 1/0", &[]).await.is_err());
    let failed = Answer::Failed("division".into());
    assert_eq!(rig.finish((intent, ticket), Some(failed.clone())).await, Done::Stored);
    assert_eq!(rig.a.claim(intent).await, ended(failed));
    assert_eq!(rig.effects().await, [0; 0]);
}

#[tokio::test]
async fn a_handler_that_ends_its_transaction_has_failed() {
    let server = quiet();
    let mut rig = rig(&server).await;
    for (number, end) in (1..).zip(["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN"]) {
        let (intent, ticket, transaction) = rig.begin(number).await;
        transaction.batch_execute(end).await.unwrap();
        let done = rig.finish((intent, ticket), Some(ok("done"))).await;
        let failed = matches!(&done, Done::Found(Found { state: Kept::Ended(Answer::Failed(why)), .. }) if why.contains("COMMIT"));
        assert!(failed, "{end}: {done:?}");
        assert_eq!(rig.a.claim(intent).await, done, "{end}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_not_done_and_a_failure_is_recorded_all_the_same() {
    let server = quiet();
    let mut rig = rig(&server).await;
    let cut = "SELECT pg_terminate_backend($1)";
    for (number, keep) in (1..).zip([ok("done"), Answer::Failed("why".into())]) {
        let (intent, ticket, transaction) = rig.begin(number).await;
        transaction.execute(&rig.effect(number), &[]).await.unwrap();
        let backend: i32 = transaction.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        rig.other.execute(cut, &[&backend]).await.unwrap();
        let done = rig.finish((intent, ticket), Some(keep.clone())).await;
        match keep {
            Answer::Ok(_) => assert!(matches!(done, Done::NotDone(_)), "{done:?}"),
            keep => {
                assert_eq!(done, Done::Stored);
                assert_eq!(rig.a.claim(intent).await, ended(keep));
            }
        }
    }
    assert_eq!(rig.effects().await, [0; 0]);
}

#[tokio::test]
async fn another_replica_waits_for_the_transaction_and_then_finds_its_end() {
    let server = quiet();
    let mut rig = rig(&server).await;
    let mut b = Replica::open(rig.store.clone()).await;
    let (intent, ticket, _) = rig.begin(1).await;
    assert_eq!(b.claim(intent).await, Done::Busy);
    let waiting = b.ask(Op::Claim(intent));
    assert!(!b.is_answered(waiting).await);
    assert_eq!(rig.finish((intent, ticket), Some(ok("done"))).await, Done::Stored);
    assert_eq!(b.answer(waiting).await, ended(ok("done")));
}

#[tokio::test]
async fn more_calls_than_connections_wait_their_turn() {
    let server = quiet();
    let mut rig = rig(&server).await;
    let mut waiting: std::collections::VecDeque<_> = (1..=40)
        .map(|number| (call(rig.session, number), rig.a.ask(Op::Claim(call(rig.session, number)))))
        .collect();
    while let Some((intent, ticket)) = waiting.pop_front() {
        assert_eq!(rig.a.answer(ticket).await, Done::Claimed);
        let transaction = rig.a.transactions.as_ref().expect("atomic").of(ticket).expect("it is open");
        transaction.batch_execute("SET search_path = nowhere; SELECT pg_advisory_lock(1)").await.unwrap();
        assert_eq!(rig.finish((intent, ticket), Some(ok("done"))).await, Done::Stored);
    }
    let (_, _, transaction) = rig.begin(41).await;
    let path = transaction.query_one("SHOW search_path", &[]).await.unwrap().get::<_, String>(0);
    assert_ne!(path, "nowhere", "the next handler finds no traces");
}

#[tokio::test]
async fn a_statement_that_hangs_does_not_hold_up_the_end_of_its_call() {
    let server = quiet();
    let mut rig = rig(&server).await;
    // Somebody holds what the handlers' statements wait for.
    let lock = format!("BEGIN; LOCK TABLE {}.effect", rig.schema);
    rig.other.batch_execute(&lock).await.unwrap();
    for (number, keep) in (1..).zip([Some(Answer::Failed("too late".into())), Some(ok("done")), None]) {
        let (intent, ticket, transaction) = rig.begin(number).await;
        let effect = rig.effect(number);
        // Dropped while it waits, as it is when the handler runs out of time.
        let hangs = transaction.execute(&effect, &[]);
        assert!(tokio::time::timeout(Duration::from_millis(100), hangs).await.is_err());
        let done = rig.finish((intent, ticket), keep.clone()).await;
        match keep {
            Some(Answer::Ok(_)) => assert!(matches!(done, Done::NotDone(_)), "{done:?}"),
            Some(failed) => {
                assert_eq!(done, Done::Stored);
                assert_eq!(rig.a.claim(intent).await, ended(failed));
            }
            None => assert_eq!(done, Done::Stored),
        }
    }
    // One that a task goes on waiting for.
    let (intent, ticket, transaction) = rig.begin(9).await;
    let effect = rig.effect(9);
    let hangs = tokio::spawn(async move { transaction.execute(&effect, &[]).await });
    let failed = Answer::Failed("too late".into());
    assert_eq!(rig.finish((intent, ticket), Some(failed.clone())).await, Done::Stored);
    assert!(hangs.await.unwrap().is_err());
    assert_eq!(rig.a.claim(intent).await, ended(failed));
    rig.other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(rig.effects().await, [0; 0]);
}
