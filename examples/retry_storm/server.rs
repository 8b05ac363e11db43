//! The server's process: changes passwords, and writes each change down.

use std::io;
use std::path::Path;
use std::time::Duration;

use selfsame::{Answer, Context, Fault, Request, Server};

use crate::api::storm::storm::{ChangePassword, ChangePasswordAgain};
use crate::api::storm::{Storm, StormServer};
use crate::ledger::Ledger;
use crate::{Result, child};

struct Passwords(Ledger);

impl Passwords {
    async fn change(&self, user: String, call: &Context) -> io::Result<u32> {
        // What a database would take; and one user in thirty-one is slow, so that retries arrive while the first attempt still runs.
        let bucket = user.bytes().fold(0_u64, |sum, byte| sum * 10 + u64::from(byte)) % 31;
        let half = Duration::from_millis(if bucket == 0 { 200 } else { bucket });
        tokio::time::sleep(half).await;
        let version = self.0.change(user, call.nonce().to_string())?;
        tokio::time::sleep(half).await;
        Ok(version)
    }
}

impl Storm for Passwords {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        let version = self.change(user, &request).await.map_err(Fault::failed)?;
        request.reply(|mut reply| reply.set_version(version))
    }

    async fn change_password_again(
        &self,
        request: Request<ChangePasswordAgain>,
    ) -> Answer<ChangePasswordAgain> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        let version = self.change(user, &request).await.map_err(Fault::failed)?;
        request.reply(|mut reply| reply.set_version(version))
    }
}

pub async fn run(log: &Path) -> Result<()> {
    let passwords = Passwords(Ledger::open(log)?);
    let server = Server::bind("tcp://127.0.0.1:0").await?.service(StormServer::new(passwords));
    println!("listening on {}", server.endpoint());
    let handle = server.handle();
    server.serve_until(child::dismissed()).await?;
    let counters = handle.counters();
    println!("executed={} replayed={} joined={}", counters.executed, counters.replayed, counters.joined);
    Ok(())
}
