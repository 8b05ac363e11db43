//! The service of these tests: it notes who called, and counts its effects.

use std::sync::{Arc, Mutex};

use selfsame::{Answer, Channel, ClientTls, Request, Server, ServerTls};

use super::api::account::account::{ChangePassword, Version};
use super::api::account::{Account, AccountClient, AccountServer};

/// Whoever had an effect, in that order.
#[derive(Default)]
pub struct Vault(Mutex<Vec<String>>);

impl Vault {
    pub fn callers(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let mut callers = self.0.lock().unwrap();
        callers.push(request.principal().to_string());
        let version = callers.len() as u32;
        request.reply(|mut reply| reply.set_version(version))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let version = self.0.lock().unwrap().len() as u32;
        request.reply(|mut reply| reply.set_version(version))
    }
}

/// A server until the end of the test.
pub struct Served {
    pub endpoint: String,
    pub vault: Arc<Vault>,
}

pub async fn serve(tls: ServerTls) -> Served {
    serve_as(tls, |server| server).await
}

pub async fn serve_as(tls: ServerTls, set: impl FnOnce(Server) -> Server) -> Served {
    let builder = Server::builder().tls(tls).clock_error(std::time::Duration::ZERO);
    let vault = Arc::<Vault>::default();
    let server = builder.bind("tls://127.0.0.1:0").await.unwrap().service(AccountServer::new(vault.clone()));
    let server = set(server);
    let served = Served { endpoint: server.endpoint().to_owned(), vault };
    tokio::spawn(server.serve());
    served
}

pub async fn client(served: &Served, tls: ClientTls) -> AccountClient {
    AccountClient::new(Channel::builder().tls(tls).connect(&served.endpoint).await.unwrap())
}

/// Changes a password, and returns its version: the number of effects so far.
pub async fn change(account: &AccountClient) -> u32 {
    let call = account.change_password(|mut p| p.set_user("ann")).deadline(super::hand::PATIENCE);
    call.await.unwrap().get().unwrap().get_version()
}
