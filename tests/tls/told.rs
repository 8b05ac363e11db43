//! Who waits for the other side in vain is told what TLS has against it.

use std::time::Duration;

use selfsame::{Channel, ClientTls, Publisher, Subscriber};

use super::api::account::AccountClient;
use super::certificates::{Authority, Folder};
use super::contract::Price;
use super::service::serve;

/// Longer than the first handshake takes.
const A_WHILE: Duration = Duration::from_secs(2);

/// What a caller is told whose call had a while.
async fn told(channel: Channel) -> String {
    let call = AccountClient::new(channel).version(|mut p| p.set_user("ann"));
    call.deadline(A_WHILE).await.unwrap_err().to_string()
}

async fn told_over_tls(endpoint: &str, tls: ClientTls) -> String {
    told(Channel::builder().tls(tls).connect(endpoint).await.unwrap()).await
}

/// Believes another authority than this folder's.
fn stranger(folder: &Folder) -> ClientTls {
    folder.write("foreign.pem", &Authority::new().pem);
    ClientTls::new(folder.path("foreign.pem"))
}

#[tokio::test]
async fn that_the_server_speaks_tls_and_the_client_does_not() {
    let folder = Folder::new();
    let plain = serve(folder.one_way()).await.endpoint.replace("tls:", "tcp:");
    let error = told(Channel::connect(&plain).await.unwrap()).await;
    assert!(error.contains(&plain) && error.contains("it speaks TLS"), "{error}");
}

#[tokio::test]
async fn that_the_client_speaks_tls_and_the_server_does_not() {
    let folder = Folder::new();
    let server = selfsame::Server::bind("tcp://127.0.0.1:0").await.unwrap();
    let endpoint = server.endpoint().replace("tcp:", "tls:");
    tokio::spawn(server.serve());
    let error = told_over_tls(&endpoint, folder.nobody()).await;
    assert!(error.contains(&endpoint) && error.contains("is it a tcp:// endpoint?"), "{error}");
}

#[tokio::test]
async fn that_another_authority_vouches_for_the_server() {
    let folder = Folder::new();
    let served = serve(folder.one_way()).await;
    let error = told_over_tls(&served.endpoint, stranger(&folder)).await;
    assert!(error.contains(&served.endpoint) && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn that_the_server_wants_a_certificate() {
    let folder = Folder::new();
    let served = serve(folder.mutual()).await;
    let error = told_over_tls(&served.endpoint, folder.nobody()).await;
    assert!(error.contains(&served.endpoint) && error.contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn the_same_of_a_publisher() {
    let folder = Folder::new();
    let publisher = Publisher::builder().tls(folder.one_way()).bind("tls://127.0.0.1:0").await.unwrap();
    let subscriber =
        Subscriber::builder().tls(stranger(&folder)).connect(publisher.endpoint()).await.unwrap();
    let error = subscriber.subscribe::<Price>().deadline(A_WHILE).await.unwrap_err().to_string();
    assert!(error.contains(publisher.endpoint()) && error.contains("certificate"), "{error}");
}
