//! A server whose records outlive it, and whose effects are lines of a file: a second effect would be a second line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use selfsame::{Answer, Fault, Request, Server, SetupError, Store};

use crate::api::account::account::{ChangePassword, Version};
use crate::api::account::{Account, AccountServer};

/// The file of all changes.
struct Vault(PathBuf);

impl Vault {
    fn changes(&self) -> std::io::Result<u32> {
        Ok(fs::read_to_string(&self.0)?.lines().count() as u32)
    }

    fn change(&self, user: &str) -> std::io::Result<u32> {
        let mut file = File::options().append(true).create(true).open(&self.0)?;
        writeln!(file, "{user}")?;
        file.sync_all()?;
        self.changes()
    }
}

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        println!("{} runs", request.nonce());
        tokio::time::sleep(Duration::from_millis(300)).await; // work that takes its time
        let version = self.change(&user).map_err(Fault::failed)?;
        request.reply(|mut reply| reply.set_version(version))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let changes = self.changes().map_err(Fault::failed)?;
        request.reply(|mut reply| reply.set_version(changes))
    }
}

/// Serves until it is killed.
pub async fn run(endpoint: &str, folder: &Path) -> Result<(), SetupError> {
    // All processes here go by one clock.
    let builder = Server::builder().clock_error(Duration::ZERO).store(Store::durable(folder.join("records")));
    let vault = Vault(folder.join("changes"));
    let server = builder.bind(endpoint).await?.service(AccountServer::new(vault));
    println!("listening on {}", server.endpoint());
    server.serve().await
}
