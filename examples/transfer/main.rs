//! Money moves between accounts while their server is killed every few hundred milliseconds. At the end the sum holds, and every transfer that was told done
//! is there, once: effect and record are one transaction.
//!
//! `cargo run --example transfer --features postgres [postgres-url]`; without a URL it starts a PostgreSQL of its own, from Debian's packages.

#[path = "../contracts/mod.rs"]
mod api;
mod client;
mod ledger;
mod server;
mod unstable;

use std::time::Duration;

use ledger::Ledger;
use selfsame_test_postgres::Server;
use unstable::Unstable;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TRANSFERS: u32 = 500;
const LIFE: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demonstrate(&Server::start().url()).await,
        [database] => demonstrate(database).await,
        ["server", endpoint, database] => Ok(server::run(endpoint, database).await?),
        _ => Err("it takes the URL of a PostgreSQL database, or nothing".into()),
    }
}

async fn demonstrate(database: &str) -> Result<()> {
    let ledger = Ledger::open(database).await?;
    let server = Unstable::start(database, LIFE).await?;
    println!("{TRANSFERS} transfers at a server that is killed {LIFE:?} after it has begun to work");
    let told = client::run(server.endpoint(), TRANSFERS).await?;
    println!("the server was killed {} times", server.end().await?);
    let (done, not_done, unknown) = (told.done.len(), told.not_done.len(), told.unknown.len());
    println!("the payers were told: {done} done, {not_done} not done, {unknown} unknown");
    ledger.audit(&told).await
}
