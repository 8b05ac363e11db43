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

use api::account::AccountClient;
use contract::Price;
use selfsame::{Channel, Kind, Outcome, Subscriber};
use transport::{Over, nowhere};

/// Longer than it takes to be refused; the same is tried again in that time.
const A_WHILE: Duration = Duration::from_secs(1);

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
