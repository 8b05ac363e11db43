//! Goal: who waits for a server in vain is told why, whatever stands between.
//!
//! Method: endpoints at which nobody listens, that no name leads to, or where a server comes and goes. What TLS adds is in `tests/tls`.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "events/contract.rs"]
#[allow(dead_code)]
mod contract;
#[path = "transport/mod.rs"]
mod transport;

use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use contract::Price;
use selfsame::{Answer, Channel, Kind, Outcome, Request, Server, SetupError, Subscriber};
use tokio::sync::oneshot;
use transport::{Over, anywhere, nowhere};

/// Longer than it takes to be refused; the same is tried again in that time.
const A_WHILE: Duration = Duration::from_secs(1);

/// Longer than anything takes; only a bug makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name that no resolver has to ask anybody about: a part of one has 63 characters at most.
fn no_name() -> String {
    format!("tcp://{}.example:7314", "x".repeat(64))
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

/// What a caller is told whose call had a while.
async fn told(channel: Channel) -> String {
    let call = AccountClient::new(channel).version(|mut p| p.set_user("ann"));
    let error = call.deadline(A_WHILE).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.attempts()), (Kind::Deadline, Outcome::No, 0));
    error.to_string()
}

#[tokio::test]
async fn a_caller_is_told_that_nobody_listens() {
    let endpoint = nowhere();
    let error = told(Channel::builder().over().connect(&endpoint).await.unwrap()).await;
    assert!(error.contains(&format!("no connection to {endpoint} in ")), "{error}");
    assert!(error.contains("tries: cannot connect: "), "{error}");
    assert!(error.ends_with("; it did not execute"), "{error}");
}

#[tokio::test]
async fn a_caller_is_told_that_a_name_leads_nowhere() {
    let error = told(Channel::connect(no_name()).await.unwrap()).await;
    assert!(error.contains(&no_name()) && error.contains("lookup"), "{error}");
}

#[tokio::test]
async fn a_caller_is_told_of_each_replica() {
    let (first, second) = (nowhere(), nowhere());
    let channel = Channel::builder().over().replica(&second).connect(&first).await.unwrap();
    let error = told(channel).await;
    assert!(error.contains(&first) && error.contains(&second), "{error}");
}

#[tokio::test]
async fn a_subscriber_is_told_why_a_publisher_cannot_be_reached() {
    let endpoint = nowhere();
    let subscriber = Subscriber::builder().over().connect(&endpoint).await.unwrap();
    let error = subscriber.subscribe::<Price>().deadline(A_WHILE).await.unwrap_err().to_string();
    assert!(error.contains(&format!("no connection to {endpoint} in ")), "{error}");
    let subscriber = Subscriber::connect(no_name()).await.unwrap();
    let error = subscriber.subscribe::<Price>().deadline(A_WHILE).await.unwrap_err().to_string();
    assert!(error.contains(&no_name()) && error.contains("lookup"), "{error}");
}

struct Vault;

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        request.reply(|mut reply| reply.set_version(1))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

/// A server that can be told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), SetupError>>,
}

impl Running {
    async fn at(endpoint: &str) -> Running {
        let server =
            Server::builder().over().bind(endpoint).await.unwrap().service(AccountServer::new(Vault));
        let (stop, stopped) = oneshot::channel::<()>();
        Running { stop, ended: tokio::spawn(server.serve_until(stopped)) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

async fn until_lost(channel: &Channel) {
    let lost = async {
        while channel.is_connected() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, lost).await.expect("the loss is noticed");
}

#[tokio::test]
async fn a_channel_is_ready_while_its_server_is_there() {
    let endpoint = nowhere();
    let channel = Channel::builder().over().deadline(PATIENCE).connect(&endpoint).await.unwrap();
    assert!(!channel.is_connected());
    let waits = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    let dropped = tokio::time::timeout(Duration::from_millis(20), channel.ready()).await;
    dropped.expect_err("there is no server yet");
    let server = Running::at(&endpoint).await;
    waits.await.unwrap().unwrap();
    assert!(channel.is_connected());
    channel.ready().await.unwrap();

    server.stop().await;
    until_lost(&channel).await;
    let error = told(channel.clone()).await;
    assert!(error.contains(&endpoint), "{error}");
    let server = Running::at(&endpoint).await;
    channel.ready().await.unwrap();
    assert!(channel.is_connected());
    server.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_server_in_vain_is_told_why() {
    let endpoint = nowhere();
    let channel = Channel::builder().over().deadline(A_WHILE).connect(&endpoint).await.unwrap();
    let error = channel.ready().await.unwrap_err().to_string();
    assert!(error.contains("wait for the server: no welcome within 1s; no connection to "), "{error}");
    assert!(error.contains(&endpoint), "{error}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_has_not_welcomed_anybody() {
    // It is bound, and nobody serves it.
    let server = Server::builder().over().bind(anywhere()).await.unwrap();
    let channel = Channel::builder().over().deadline(A_WHILE).connect(server.endpoint()).await.unwrap();
    let error = channel.ready().await.unwrap_err().to_string();
    assert!(error.contains("has not answered yet"), "{error}");
    assert!(!channel.is_connected());
}

#[tokio::test]
async fn a_local_channel_is_ready_at_once() {
    let account = AccountClient::local(Vault);
    account.channel().ready().await.unwrap();
    assert!(account.channel().is_connected());
}
