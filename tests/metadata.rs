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

#[tokio::test]
async fn what_the_channel_gives_goes_with_every_call_and_a_calls_own_takes_its_place() {
    let builder = Channel::builder().metadata("authorization", "token").metadata("tenant", "blue");
    let builder = builder.metadata("tenant", "green");
    let channel = connect(builder, &serve().await).await;
    assert_eq!(told(ask(&channel).await.unwrap_err()), "authorization=token tenant=blue tenant=green");
    let own = ask(&channel).metadata("tenant", "red").metadata("raw", "x");
    assert_eq!(told(own.await.unwrap_err()), "authorization=token tenant=red raw=x");

    let local = Channel::builder().metadata("tenant", "blue").local(AccountServer::new(Mirror));
    assert_eq!(told(ask(&local).await.unwrap_err()), "tenant=blue");
}

#[tokio::test]
async fn what_the_channel_gives_counts_with_the_rest() {
    let builder = (0..64).fold(Channel::builder(), |builder, at| builder.metadata(at.to_string(), "x"));
    let channel = builder.local(AccountServer::new(Mirror));
    assert_eq!(told(ask(&channel).metadata("63", "y").await.unwrap_err()).split(' ').count(), 64);
    let error = ask(&channel).metadata("64", "y").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Misuse, Outcome::No), "{error}");
    assert!(error.to_string().contains("65 metadata"), "{error}");
}

#[tokio::test]
async fn a_saved_call_takes_what_the_channel_gives_that_sends_it() {
    let endpoint = serve().await;
    let expired = connect(Channel::builder().metadata("authorization", "expired"), &endpoint).await;
    AccountClient::new(expired.clone()).version(|_| ()).await.unwrap();
    let saved = ask(&expired).metadata("tenant", "blue").to_bytes().unwrap();
    let renewed = connect(Channel::builder().metadata("authorization", "renewed"), &endpoint).await;
    let call = Call::<ChangePassword>::from_bytes(&renewed, &saved).unwrap();
    assert_eq!(told(call.await.unwrap_err()), "authorization=renewed tenant=blue");
}
