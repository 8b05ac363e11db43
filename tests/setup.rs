//! Goal: a program can tell by its kind what to do about an error of `bind`, `connect`, `subscribe` or `serve`, and look behind its text.
//!
//! Method: each kind is brought about once at every place that has it. What the texts say is looked at where the causes are.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "events/contract.rs"]
#[allow(dead_code)]
mod contract;
#[path = "transport/mod.rs"]
mod transport;

use std::error::Error;
use std::io;
use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountServer};
use contract::News;
use selfsame::{Answer, Channel, Publisher, Request, Server, SetupError, SetupErrorKind, Subscriber};
use transport::{Over, anywhere, nowhere};

#[test]
fn the_same_over_a_unix_socket() {
    transport::again_over_ipc("");
}

#[cfg(feature = "tls")]
#[test]
fn the_same_over_tls() {
    transport::again_over_tls("");
}

fn is<T>(kind: SetupErrorKind, result: Result<T, SetupError>) -> SetupError {
    let error = result.err().expect("it succeeded");
    assert_eq!(error.kind(), kind, "{error}");
    error
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

#[tokio::test]
async fn what_is_no_endpoint() {
    let none = "udp://127.0.0.1:1";
    is(SetupErrorKind::Endpoint, Server::bind(none).await);
    is(SetupErrorKind::Endpoint, Publisher::bind(none).await);
    is(SetupErrorKind::Endpoint, Channel::connect(none).await);
    is(SetupErrorKind::Endpoint, Channel::builder().replica(none).connect("tcp://127.0.0.1:1").await);
    let error = is(SetupErrorKind::Endpoint, Subscriber::connect(none).await);
    assert!(error.source().unwrap().to_string().contains("is not an endpoint"));
}

#[tokio::test]
async fn an_endpoint_that_another_socket_has() {
    let taken = Server::builder().over().bind(anywhere()).await.unwrap();
    let errors = [
        is(SetupErrorKind::InUse, Server::builder().over().bind(taken.endpoint()).await),
        is(SetupErrorKind::InUse, Publisher::builder().over().bind(taken.endpoint()).await),
    ];
    for error in errors {
        let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    }
}

#[tokio::test]
async fn an_address_that_this_machine_does_not_have_is_the_systems_to_explain() {
    // For documentation alone (RFC 5737).
    let error = is(SetupErrorKind::Other, Server::bind("tcp://192.0.2.1:0").await);
    let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn two_services_of_one_interface() {
    let server = Server::builder().over().bind(anywhere()).await.unwrap();
    let server = server.service(AccountServer::new(Vault)).service(AccountServer::new(Vault));
    assert!(is(SetupErrorKind::Other, server.serve().await).source().is_none());
}

#[tokio::test]
async fn a_topic_that_may_not_be_read_and_one_that_nobody_publishes() {
    let publisher = Publisher::builder().allow(|_, _| false).over().bind(anywhere()).await.unwrap();
    let subscriber = Subscriber::builder().over().connect(publisher.endpoint()).await.unwrap();
    is(SetupErrorKind::Denied, subscriber.subscribe::<News>().await);
    let subscriber = Subscriber::builder().over().connect(nowhere()).await.unwrap();
    let hasty = subscriber.subscribe::<News>().deadline(Duration::from_millis(10));
    is(SetupErrorKind::Unconfirmed, hasty.await);
    let long = subscriber.subscribe::<News>().key(&"x".repeat(100_000));
    is(SetupErrorKind::Other, long.await);
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let hasty =
        Channel::builder().over().deadline(Duration::from_millis(10)).connect(nowhere()).await.unwrap();
    is(SetupErrorKind::Unconfirmed, hasty.ready().await);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn certificates_that_are_missing() {
    let anywhere = "tls://127.0.0.1:0";
    is(SetupErrorKind::Tls, Server::bind(anywhere).await);
    is(SetupErrorKind::Tls, Publisher::bind(anywhere).await);
    is(SetupErrorKind::Tls, Subscriber::connect(anywhere).await);
    let error = is(SetupErrorKind::Tls, Channel::connect(anywhere).await);
    assert!(error.source().unwrap().to_string().contains("`ChannelBuilder::tls`"));
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_file_that_is_no_store_and_one_that_another_server_has() {
    let folder = tempfile::tempdir().unwrap();
    let bind = async |file: &str| {
        let store = selfsame::Store::durable(folder.path().join(file));
        Server::builder().store(store).over().bind(anywhere()).await
    };
    std::fs::write(folder.path().join("text"), "no store").unwrap();
    assert!(is(SetupErrorKind::Store, bind("text").await).source().is_some());
    let _owner = bind("records").await.unwrap();
    is(SetupErrorKind::InUse, bind("records").await);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_url_that_is_no_databases() {
    let store = selfsame::Store::shared("mysql://here");
    is(SetupErrorKind::Store, Server::builder().store(store).over().bind(anywhere()).await);
}
