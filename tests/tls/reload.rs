//! Files that change under sockets that live. A new connection is enough to see it: the files are looked at for each.

use std::time::Duration;

use selfsame::{Channel, Server, TlsCounters};
use tokio::sync::oneshot;

use super::api::account::{AccountClient, AccountServer};
use super::certificates::{Authority, Folder, server};
use super::hand::in_time;
use super::service::{Vault, change, client, serve};

fn counted(counters: TlsCounters) -> (u64, u64) {
    (counters.reloads, counters.failed_reloads)
}

/// Whether a new client, which believes what is in the folder, gets through.
async fn gets_through(account: &AccountClient) -> bool {
    account.version(|mut p| p.set_user("ann")).deadline(Duration::from_secs(2)).await.is_ok()
}

#[tokio::test]
async fn a_servers_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let folder = Folder::new();
    let tls = folder.mutual();
    let served = serve(tls.clone()).await;
    let old = client(&served, folder.client("ann")).await;
    change(&old).await;
    let mut renamed = server();
    renamed.subject_alt_names = vec![rcgen::SanType::DnsName("new.example".try_into().unwrap())];
    folder.put("server", folder.authority.issue(renamed));
    let new = client(&served, folder.client("ann").server_name("new.example")).await;
    change(&new).await;
    change(&old).await;
    assert_eq!(counted(tls.counters()), (1, 0));
    assert_eq!(old.channel().counters().connections, 1, "it had to connect anew");
}

#[tokio::test]
async fn broken_new_files_leave_the_old_ones_in_use() {
    let folder = Folder::new();
    let tls = folder.mutual();
    let served = serve(tls.clone()).await;
    let whole = std::fs::read_to_string(folder.path("server.pem")).unwrap();
    let other_key = folder.authority.issue(server()).1;
    let good_key = std::fs::read_to_string(folder.path("server.key")).unwrap();
    for (round, (file, text)) in [
        ("server.pem", ""),
        ("server.pem", "-----BEGIN CERTIFICATE-----\n??"),
        ("server.pem", &whole[..]), // good again
        ("server.key", &other_key),
    ]
    .into_iter()
    .enumerate()
    {
        folder.write(file, text);
        let account = client(&served, folder.client("ann")).await;
        change(&account).await;
        let (reloads, failed) = [(0, 1), (0, 2), (1, 2), (1, 3)][round];
        assert_eq!(counted(tls.counters()), (reloads, failed), "after round {round}");
    }
    std::fs::remove_file(folder.path("server.key")).unwrap();
    change(&client(&served, folder.client("ann")).await).await;
    assert_eq!(counted(tls.counters()), (1, 4));
    folder.write("server.key", &good_key);
    change(&client(&served, folder.client("ann")).await).await;
    assert_eq!(counted(tls.counters()), (2, 4));
}

#[tokio::test]
async fn roots_that_are_withdrawn_let_nobody_in_any_more() {
    let mut folder = Folder::new();
    folder.write("clients.pem", &folder.authority.pem);
    let served = serve(folder.one_way().clients(folder.path("clients.pem"))).await;
    let ann = client(&served, folder.client("ann")).await;
    change(&ann).await;
    let others = Authority::new();
    folder.write("clients.pem", &others.pem);
    let ann_anew = client(&served, folder.client("ann")).await;
    assert!(!gets_through(&ann_anew).await);
    folder.authority = others; // of clients; the server's own is still the old one's
    change(&client(&served, folder.client("bob")).await).await;
    change(&ann).await; // hers stands
    assert_eq!(served.vault.callers(), ["ann", "bob", "ann"]);
}

#[tokio::test]
async fn a_clients_new_certificate_is_shown_when_it_connects_anew() {
    let folder = Folder::new();
    let vault = std::sync::Arc::<Vault>::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let first = Server::builder().tls(folder.mutual()).bind("tls://127.0.0.1:0").await.unwrap();
    let endpoint = first.endpoint().to_owned();
    let serving = tokio::spawn(first.service(AccountServer::new(vault.clone())).serve_until(stopped));
    let tls = folder.client("ann");
    let account = AccountClient::new(Channel::builder().tls(tls.clone()).connect(&endpoint).await.unwrap());
    change(&account).await;

    let (certificate, key) = (folder.path("bob.pem"), folder.path("bob.key"));
    folder.client("bob");
    for (from, to) in [(key, "ann.key"), (certificate, "ann.pem")] {
        folder.write(to, &std::fs::read_to_string(from).unwrap());
    }
    change(&account).await;
    stop.send(()).unwrap();
    in_time(serving).await.unwrap().unwrap();
    let second = Server::builder().tls(folder.mutual()).bind(&endpoint).await.unwrap();
    tokio::spawn(second.service(AccountServer::new(vault.clone())).serve());
    change(&account).await;
    assert_eq!(vault.callers(), ["ann", "ann", "bob"]);
    assert_eq!(counted(tls.counters()), (1, 0));
}
