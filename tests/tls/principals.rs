//! Who a client is decides what it may call, and which records are its own.

use std::time::SystemTime;

use selfsame::io::{Connector, DealerOptions};
use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Entry, Goodbye};
use selfsame::{Kind, Nonce, Outcome};

use super::api::account::AccountClient;
use super::certificates::Folder;
use super::hand::Hand;
use super::service::{change, client, serve, serve_as};

async fn keyed(account: &AccountClient, nonce: Nonce) -> u32 {
    let call = account.change_password(|mut p| p.set_user("ann")).nonce(nonce);
    call.await.unwrap().get().unwrap().get_version()
}

#[tokio::test]
async fn the_name_in_the_certificate_reaches_the_handler() {
    let folder = Folder::new();
    let served = serve(folder.mutual()).await;
    let (ann, bob) =
        (client(&served, folder.client("ann")).await, client(&served, folder.client("bob")).await);
    assert_eq!((change(&ann).await, change(&bob).await), (1, 2));
    assert_eq!(served.vault.callers(), ["ann", "bob"]);
}

#[tokio::test]
async fn without_client_certificates_everybody_is_anonymous() {
    let folder = Folder::new();
    let served = serve(folder.one_way()).await;
    change(&client(&served, folder.nobody()).await).await;
    // It has one, and is not asked.
    change(&client(&served, folder.client("ann")).await).await;
    assert_eq!(served.vault.callers(), ["anonymous", "anonymous"]);

    let served = serve(folder.one_way().clients_optional(folder.path("roots.pem"))).await;
    change(&client(&served, folder.nobody()).await).await;
    change(&client(&served, folder.client("ann")).await).await;
    assert_eq!(served.vault.callers(), ["anonymous", "ann"]);
}

#[tokio::test]
async fn s01_s20_one_key_of_two_principals_is_two_calls() {
    let folder = Folder::new();
    let served = serve(folder.mutual()).await;
    let (ann, bob) =
        (client(&served, folder.client("ann")).await, client(&served, folder.client("bob")).await);
    change(&ann).await;
    let nonce = Nonce::keyed("order-8731", SystemTime::now());
    assert_eq!((keyed(&ann, nonce).await, keyed(&bob, nonce).await), (2, 3));
    // Each finds its own reply, and so does a new process with ann's certificate.
    let ann_again = client(&served, folder.client("ann")).await;
    assert_eq!((keyed(&bob, nonce).await, keyed(&ann_again, nonce).await), (3, 2));
    assert_eq!(served.vault.callers(), ["ann", "ann", "bob"]);
}
