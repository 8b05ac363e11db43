//! What the benches and the `cost` guard share: contracts, which are the examples', the calls that they make, and the question whether to measure.

use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::wire::{Call, Encoder, Entry};
use selfsame::protocol::{CallId, Incarnation, Registration, RetryClass, Stamp, WallTime};
use selfsame::{Answer, Request};

use api::account::Account;
use api::account::account::{ChangePassword, Version};
use api::storm::{Storm, storm};

/// The contracts of the examples.
#[path = "../../../examples/contracts/mod.rs"]
pub mod api;

/// Whether a bench is only to show that it runs, as criterion decides it: `cargo test` and `cargo bench -- --test` want to know no more.
pub fn trial() -> bool {
    let said = |word: &str| std::env::args().any(|argument| argument == word);
    !said("--bench") || said("--test")
}

/// A call as it is on the wire, of a `once` method, without trace and metadata.
pub fn call(registration: Registration, id: CallId, acked_below: u64, body: Bytes) -> Call {
    Call {
        registration,
        incarnation: Incarnation(0),
        first_stamp: Stamp(1),
        id,
        interface: 1,
        method: 1,
        retry: RetryClass::Once,
        attempt: 1,
        time_left: Duration::from_secs(5),
        acked_below,
        trace: None,
        issued: WallTime(1_000_000),
        metadata: Vec::new(),
        body,
    }
}

/// A message of these calls.
///
/// # Panics
/// If they do not fit into one.
pub fn message(encoder: &mut Encoder, calls: impl IntoIterator<Item = Call>) -> Vec<Bytes> {
    for call in calls {
        encoder.push(Entry::Call(call)).expect("within the limits");
    }
    encoder.finish()
}

/// A handler that does next to nothing.
pub struct Echo;

impl Account for Echo {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let length = request.read(|p| Ok(p.get_user()?.len()))?;
        request.reply(|mut reply| reply.set_version(length as u32))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let length = request.read(|p| Ok(p.get_user()?.len()))?;
        request.reply(|mut reply| reply.set_version(length as u32))
    }
}

impl Storm for Echo {
    async fn change_password(
        &self,
        request: Request<storm::ChangePassword>,
    ) -> Answer<storm::ChangePassword> {
        let length = request.read(|p| Ok(p.get_user()?.len()))?;
        request.reply(|mut reply| reply.set_version(length as u32))
    }

    async fn change_password_again(
        &self,
        request: Request<storm::ChangePasswordAgain>,
    ) -> Answer<storm::ChangePasswordAgain> {
        let length = request.read(|p| Ok(p.get_user()?.len()))?;
        request.reply(|mut reply| reply.set_version(length as u32))
    }
}
