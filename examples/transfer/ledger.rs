//! The bank's tables, and the audit at the end.

use tokio_postgres::{Client, NoTls};

use crate::Result;
use crate::client::Told;

/// Accounts, of [`EACH`] in the beginning.
pub const ACCOUNTS: u32 = 10;
const EACH: i64 = 1_000;

pub struct Ledger(Client);

impl Ledger {
    /// Tables with nothing moved yet.
    pub async fn open(database: &str) -> Result<Ledger> {
        let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS accounts, transfers;
                 CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
                 CREATE TABLE transfers (number bigint NOT NULL);
                 INSERT INTO accounts SELECT id, {EACH} FROM generate_series(0, {ACCOUNTS} - 1) AS id;"
            ))
            .await?;
        Ok(Ledger(client))
    }

    async fn number(&self, query: &str) -> Result<i64> {
        Ok(self.0.query_one(query, &[]).await?.get(0))
    }

    /// Holds what the callers were told against what the tables say.
    pub async fn audit(&self, told: &Told) -> Result<()> {
        let sum = self.number("SELECT sum(balance)::bigint FROM accounts").await?;
        let rows = self.0.query("SELECT number, count(*) FROM transfers GROUP BY number", &[]).await?;
        let times = |number: &u32| {
            rows.iter()
                .find(|row| row.get::<_, i64>(0) == i64::from(*number))
                .map_or(0, |row| row.get::<_, i64>(1))
        };
        let doubled = rows.iter().filter(|row| row.get::<_, i64>(1) > 1).count();
        let lost = told.done.iter().filter(|number| times(number) != 1).count();
        let denied = told.not_done.iter().filter(|number| times(number) != 0).count();
        let expected = i64::from(ACCOUNTS) * EACH;
        println!("the accounts hold {sum} together; in the beginning it was {expected}");
        println!(
            "{} transfers are written down: {doubled} twice; {lost} that were told done are missing",
            rows.len()
        );
        println!("{denied} that were told not done are there");
        if (sum, doubled, lost, denied) != (expected, 0, 0, 0) {
            return Err("the books do not balance".into());
        }
        Ok(())
    }
}
