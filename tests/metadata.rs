//! Names and values beside the parameters: from a call, from its channel, and of a call that was saved.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "transport/mod.rs"]
mod transport;

use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer, NoSuchUser};
use selfsame::{Answer, Call, Channel, ChannelBuilder, Error, Kind, Outcome, Request, Server};
use transport::{Over, anywhere};

/// Declines, and says in its typed no with which metadata it was called.
struct Mirror;

impl Account for Mirror {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let all = request.metadata().iter();
        let all: Vec<_> = all.map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
        Err(request.decline(|mut fault| fault.set_user(all.join(" "))))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

async fn serve() -> String {
    let server = Server::builder().clock_error(Duration::ZERO).over().bind(anywhere()).await.unwrap();
    let endpoint = server.endpoint().to_owned();
    tokio::spawn(server.service(AccountServer::new(Mirror)).serve());
    endpoint
}

async fn connect(builder: ChannelBuilder, endpoint: &str) -> Channel {
    builder.over().connect(endpoint).await.unwrap()
}

fn ask(channel: &Channel) -> Call<ChangePassword> {
    AccountClient::new(channel.clone()).change_password(|mut p| p.set_user("ann"))
}

/// What the handler was told.
fn told(error: Error) -> String {
    let no = error.fault::<NoSuchUser>().unwrap_or_else(|| panic!("{error}"));
    no.read(|no| Ok(no.get_user()?.to_string()?)).unwrap()
}

#[test]
fn the_same_over_a_unix_socket() {
    transport::again_over_ipc("");
}

#[cfg(feature = "tls")]
#[test]
fn the_same_over_tls() {
    transport::again_over_tls("");
}

#[tokio::test]
async fn a_calls_names_and_values_arrive_in_order() {
    let channel = connect(Channel::builder(), &serve().await).await;
    let call = ask(&channel).metadata("tenant", "blue").metadata("raw", [0, 255]).metadata("tenant", "red");
    assert_eq!(told(call.await.unwrap_err()), r"tenant=blue raw=\x00\xff tenant=red");
}

#[tokio::test]
async fn too_much_is_a_mistake_that_is_told_at_once() {
    let channel = Channel::local(AccountServer::new(Mirror));
    let many = (0..65).fold(ask(&channel), |call, at| call.metadata(at.to_string(), "x"));
    for call in [many, ask(&channel).metadata("long", [0; 9000])] {
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Misuse, Outcome::No), "{error}");
    }
}

#[tokio::test]
async fn a_saved_call_has_its_metadata_also_if_its_next_life_is_the_first_to_send_it() {
    let endpoint = serve().await;
    let channel = connect(Channel::builder(), &endpoint).await;
    // A keyed nonce that is older than the server's store is refused: so first see that the server is there.
    AccountClient::new(channel.clone()).version(|_| ()).await.unwrap();
    let saved = ask(&channel).metadata("tenant", "blue").to_bytes().unwrap();
    let next_life = connect(Channel::builder(), &endpoint).await;
    let call = Call::<ChangePassword>::from_bytes(&next_life, &saved).unwrap();
    assert_eq!(told(call.await.unwrap_err()), "tenant=blue");
}
