//! Changes ann's password at an `account_server`. `cargo run --example account_client [endpoint]`

#[path = "contracts/mod.rs"]
mod api;

use std::time::Duration;

use api::account::AccountClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:7314".into());
    let account = AccountClient::connect(&endpoint).await?;
    let change = account.change_password(|mut p| {
        p.set_user("ann");
        p.set_password("correct horse");
    });
    let reply = change.deadline(Duration::from_secs(2)).await?;
    println!("ann's password is at version {}", reply.get()?.get_version());
    Ok(())
}
