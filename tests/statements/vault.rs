//! The service of these tests: counts its effects, and waits where a test wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use selfsame::{Answer, Fault, Request};
use tokio::sync::Semaphore;

use super::api::account::account::{ChangePassword, Version};
use super::api::account::{Account, NoSuchUser};
use super::hand::in_time;
#[cfg(feature = "postgres")]
use super::schema::Schema;

/// A handler tells that it has entered, waits at the gate, has its effect, and answers.
pub struct Vault {
    effects: Effects,
    entered: Semaphore,
    gate: Semaphore,
}

/// Where effects are.
pub enum Effects {
    /// In this process, outside every store: what has happened stays, whatever becomes of the server.
    Counted(AtomicU64),
    /// Rows that the handler writes in the transaction of its call.
    #[cfg(feature = "postgres")]
    Rows(Schema),
}

impl Vault {
    /// One whose handlers do not wait at the gate.
    pub fn open(effects: Effects) -> Arc<Vault> {
        Vault::with(effects, 1 << 20)
    }

    /// One whose handlers wait at the gate until [`admit`](Vault::admit).
    pub fn closed(effects: Effects) -> Arc<Vault> {
        Vault::with(effects, 0)
    }

    fn with(effects: Effects, permits: usize) -> Arc<Vault> {
        Arc::new(Vault { effects, entered: Semaphore::new(0), gate: Semaphore::new(permits) })
    }

    /// Lets so many handlers pass the gate.
    pub fn admit(&self, handlers: usize) {
        self.gate.add_permits(handlers);
    }

    /// Waits until one more handler has entered.
    pub async fn entered(&self) {
        in_time(self.entered.acquire()).await.unwrap().forget();
    }

    /// Whether a handler has entered that nobody has waited for.
    pub fn has_entered(&self) -> bool {
        self.entered.available_permits() > 0
    }

    /// How many effects there are.
    pub async fn effects(&self) -> u64 {
        match &self.effects {
            Effects::Counted(count) => count.load(Ordering::SeqCst),
            #[cfg(feature = "postgres")]
            Effects::Rows(schema) => schema.effects().await,
        }
    }

    async fn wait(&self) {
        self.entered.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
    }

    async fn effect(&self, _request: &Request<ChangePassword>) -> Result<u64, Fault<NoSuchUser>> {
        match &self.effects {
            Effects::Counted(count) => Ok(count.fetch_add(1, Ordering::SeqCst) + 1),
            #[cfg(feature = "postgres")]
            Effects::Rows(schema) => schema.write_effect(_request).await,
        }
    }
}

impl Account for Vault {
    /// What the user is called says what becomes of the call. "unavailable" and "declined" are answered before there is an effect, "fails" and "panics"
    /// end after it, and "lingers" waits at the gate again between effect and answer.
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        self.wait().await;
        match user.as_str() {
            "unavailable" => return Err(Fault::unavailable("not now")),
            "declined" => return Err(request.decline(|mut no| no.set_user("declined"))),
            _ => {}
        }
        let effect = self.effect(&request).await?;
        match user.as_str() {
            "fails" => return Err(Fault::failed("no luck")),
            "panics" => panic!("on purpose"),
            "lingers" => self.wait().await,
            _ => {}
        }
        request.reply(|mut reply| reply.set_version(effect as u32))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let effects = self.effects().await;
        request.reply(|mut reply| reply.set_version(effects as u32))
    }
}
