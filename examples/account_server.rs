//! Changes passwords: each change once, however often it is asked for. `cargo run --example account_server [endpoint]`

#[path = "contracts/mod.rs"]
mod api;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountServer};
use selfsame::{Answer, Request, Server};

/// The users: password and version.
#[derive(Default)]
struct Vault(Mutex<HashMap<String, (String, u32)>>);

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let (user, password) =
            request.read(|p| Ok((p.get_user()?.to_string()?, p.get_password()?.to_string()?)))?;
        println!("{user} changes the password, nonce {}", request.nonce());
        let version = {
            let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = users.entry(user).or_default();
            *entry = (password, entry.1 + 1);
            entry.1
        };
        request.reply(|mut reply| reply.set_version(version))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&user).map(|entry| entry.1);
        let version = found.ok_or_else(|| request.decline(|mut no| no.set_user(&user)))?;
        request.reply(|mut reply| reply.set_version(version))
    }
}

#[tokio::main]
async fn main() -> Result<(), selfsame::SetupError> {
    let endpoint = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:7314".into());
    let server = Server::bind(endpoint).await?.service(AccountServer::new(Vault::default()));
    println!("listening on {}", server.endpoint());
    server.serve_until(tokio::signal::ctrl_c()).await
}
