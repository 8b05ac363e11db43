//! Services compose as functions do: a login calls account and audit within its own request. So when the login runs again, what it did
//! below is not done again. `cargo run --example login` runs the three services and a client.

#[path = "contracts/mod.rs"]
mod api;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use api::login::audit::Record;
use api::login::login::Enter;
use api::login::{Audit, AuditClient, AuditServer, Login, LoginClient, LoginServer};
use selfsame::{Answer, Fault, Request, Server};

/// The two services below: each counts its effects.
#[derive(Default)]
struct Effects(AtomicU32);

impl Account for Effects {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let version = self.0.fetch_add(1, Relaxed) + 1;
        request.reply(|mut reply| reply.set_version(version))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(self.0.load(Relaxed)))
    }
}

impl Audit for Effects {
    async fn record(&self, request: Request<Record>) -> Answer<Record> {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        request.reply(|mut reply| reply.set_number(number.into()))
    }
}

/// The service made of them.
struct Gate {
    account: AccountClient,
    audit: AuditClient,
    runs: AtomicU32,
}

impl Login for Gate {
    async fn enter(&self, request: Request<Enter>) -> Answer<Enter> {
        let (user, password) =
            request.read(|p| Ok((p.get_user()?.to_string()?, p.get_password()?.to_string()?)))?;
        let change = self.account.change_password(|mut p| {
            p.set_user(&user);
            p.set_password(&password);
        });
        let version = change.within(&request).await.map_err(Fault::interrupted)?.get()?.get_version();
        let note = format!("{user} came in");
        self.audit.record(|mut p| p.set_what(&note)).within(&request).await.map_err(Fault::interrupted)?;
        if self.runs.fetch_add(1, Relaxed) == 0 {
            // The worst moment to stop: all is done and nobody knows. All of it was done within the request, so it may run again.
            return Err(Fault::interrupted("pulled the plug"));
        }
        request.reply(|mut reply| reply.set_version(version))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (changes, notes) = (Arc::new(Effects::default()), Arc::new(Effects::default()));
    // In one program there is one clock, which has no error.
    let bind = || Server::builder().clock_error(Duration::ZERO).bind("tcp://127.0.0.1:0");
    let accounts = bind().await?.service(AccountServer::new(changes.clone()));
    let audits = bind().await?.service(AuditServer::new(notes.clone()));
    let gate = Arc::new(Gate {
        account: AccountClient::connect(accounts.endpoint()).await?,
        audit: AuditClient::connect(audits.endpoint()).await?,
        runs: AtomicU32::new(0),
    });
    let logins = bind().await?.service(LoginServer::new(gate.clone()));
    let login = LoginClient::connect(logins.endpoint()).await?;
    for server in [accounts, audits, logins] {
        tokio::spawn(server.serve());
    }

    let reply = login.enter(|mut p| {
        p.set_user("ann");
        p.set_password("correct horse");
    });
    println!("ann is in; her password is at version {}", reply.await?.get()?.get_version());
    let counts = [&gate.runs, &changes.0, &notes.0].map(|count| count.load(Relaxed));
    println!(
        "the login ran {} times, changed {} password, and left {} note",
        counts[0], counts[1], counts[2]
    );
    if counts == [2, 1, 1] {
        Ok(())
    } else {
        Err("a login that ran twice should have one effect below".into())
    }
}
