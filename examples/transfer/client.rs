//! The payers: many transfers at once, each asked for until it is answered.

use std::sync::Arc;
use std::time::Duration;

use selfsame::{Channel, Outcome};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Result;
use crate::api::bank::BankClient;
use crate::ledger::ACCOUNTS;

/// Transfers that are under way at once.
const AT_ONCE: usize = 8;

/// What the payers were told, by the transfers' numbers.
#[derive(Default)]
pub struct Told {
    pub done: Vec<u32>,
    pub not_done: Vec<u32>,
    pub unknown: Vec<u32>,
}

/// Asks for so many transfers between accounts, and returns when all are answered.
pub async fn run(endpoint: &str, transfers: u32) -> Result<Told> {
    // A server that is killed often is no reason to give up.
    let channel = Channel::builder().attempts(1_000).retry_budget(100, 1_000).connect(endpoint).await?;
    let bank = BankClient::new(channel);
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for number in 0..transfers {
        let place = room.clone().acquire_owned().await?;
        let (from, to) = (number % ACCOUNTS, (number / ACCOUNTS + number + 1) % ACCOUNTS);
        let call = bank.transfer(|mut p| {
            p.set_number(number);
            p.set_from(from);
            p.set_to(to);
            p.set_amount(number % 700);
        });
        asked.spawn(async move {
            let answer = call.deadline(Duration::from_secs(60)).await;
            drop(place);
            (number, answer.map(drop))
        });
    }
    let mut told = Told::default();
    while let Some(answered) = asked.join_next().await {
        let (number, answer) = answered?;
        match answer {
            Ok(()) => told.done.push(number),
            Err(error) if error.outcome() == Outcome::Unknown => {
                eprintln!("transfer {number}: {error}");
                told.unknown.push(number);
            }
            // Declined, since the account has too little, or refused for good.
            Err(_) => told.not_done.push(number),
        }
    }
    Ok(told)
}
