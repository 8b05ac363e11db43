//! Who a client is decides what it may call, and which records are its own.

use std::time::SystemTime;

use selfsame::io::{Connector, DealerOptions};
use selfsame::{Kind, Nonce, Outcome, Refusal};

use super::api::account::AccountClient;
use super::certificates::Folder;
use super::hand::{Hand, PATIENCE, answer_of, refusal_of};
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

#[tokio::test]
async fn s20_another_principal_cannot_resume_my_session() {
    let folder = Folder::new();
    let served = serve(folder.mutual()).await;
    let show = |name: &str| {
        let tls = Some(Connector::open(folder.client(name)).unwrap());
        DealerOptions { tls, ..DealerOptions::dealer() }
    };
    let mut ann = Hand::dial(&served.endpoint, show("ann"), None).await;
    let call = ann.call(1, "ann");
    let replied = ann.ask(&call).await;
    let registration = ann.welcome.registration;
    drop(ann);

    let mut bob = Hand::dial(&served.endpoint, show("bob"), Some(registration)).await;
    assert_ne!(bob.welcome.registration, registration, "bob got ann's session");
    let stolen = bob.stamped_as(&call, 2);
    assert_eq!(refusal_of(&bob.ask(&stolen).await), Some(Refusal::SessionUnknown));

    let mut ann = Hand::dial(&served.endpoint, show("ann"), Some(registration)).await;
    assert_eq!(ann.welcome.registration, registration);
    let again = ann.stamped_as(&call, 2);
    assert_eq!(answer_of(&ann.ask(&again).await), answer_of(&replied));
    assert_eq!(served.vault.callers(), ["ann"]);
}

#[tokio::test]
async fn rules_decide_by_principal_and_one_that_panics_has_said_no() {
    let folder = Folder::new();
    let served = serve_as(folder.mutual(), |server| {
        server.allow(|principal, method| match principal.name() {
            Some("ann") => true,
            Some("bob") => method == "Account.version",
            name => panic!("who is {name:?}?"),
        })
    })
    .await;
    let ann = client(&served, folder.client("ann")).await;
    change(&ann).await;
    for (name, may_read) in [("bob", true), ("eve", false)] {
        let account = client(&served, folder.client(name)).await;
        let denied = account.change_password(|mut p| p.set_user("ann"));
        let error = denied.deadline(PATIENCE).await.unwrap_err(); // a panic's backtrace may take seconds
        assert_eq!((error.kind(), error.outcome()), (Kind::Refused(Refusal::Denied), Outcome::No), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(account.version(|mut p| p.set_user("ann")).await.is_ok(), may_read);
    }
    assert_eq!(change(&ann).await, 2, "the server goes on");
    assert_eq!(served.vault.callers(), ["ann", "ann"]);
}
