//! A bank whose transfers are rows: written in the transaction that also records the call, so both are there or neither is.

use std::time::Duration;

use selfsame::{Answer, Request, Server, SetupError, Store};

use crate::api::bank::bank::Transfer;
use crate::api::bank::{Bank, BankServer};

struct Accounts;

impl Bank for Accounts {
    async fn transfer(&self, request: Request<Transfer>) -> Answer<Transfer> {
        let (number, from, to, amount) =
            request.read(|p| Ok((p.get_number(), p.get_from(), p.get_to(), p.get_amount())))?;
        let (number, from, to, amount) =
            (i64::from(number), i64::from(from), i64::from(to), i64::from(amount));
        println!("transfer {number} begins");
        let transaction = request.transaction()?;
        // Locked in one order, or two transfers could wait for each other.
        let lock = "SELECT id, balance FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR UPDATE";
        let rows = transaction.query(lock, &[&from, &to]).await?;
        let balance =
            rows.iter().find(|row| row.get::<_, i64>(0) == from).map_or(0, |row| row.get::<_, i64>(1));
        if balance < amount {
            return Err(request.decline(|mut no| no.set_balance(balance)));
        }
        for (account, change) in [(from, -amount), (to, amount)] {
            let moved = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
            transaction.execute(moved, &[&account, &change]).await?;
        }
        let written = "INSERT INTO transfers (number) VALUES ($1)";
        transaction.execute(written, &[&number]).await?;
        request.reply(|mut reply| reply.set_left(balance - amount))
    }
}

/// Serves until it is killed.
pub async fn run(endpoint: &str, database: &str) -> Result<(), SetupError> {
    // All processes here go by one clock.
    let builder = Server::builder().clock_error(Duration::ZERO).store(Store::atomic(database));
    let server = builder.bind(endpoint).await?.service(BankServer::new(Accounts));
    println!("listening on {}", server.endpoint());
    server.serve().await
}
