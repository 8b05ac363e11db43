//! What is wrong is told before anything is bound or dialled, with the file or the method that it is about.

use std::os::unix::fs::symlink;

use selfsame::{Channel, ClientTls, Publisher, Server, ServerTls, SetupError, Subscriber};

use super::certificates::{Folder, server};

fn says<T>(result: Result<T, SetupError>, parts: &[&str]) {
    let error = result.err().expect("it succeeded").to_string();
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

async fn bind(tls: ServerTls) -> Result<Server, SetupError> {
    Server::builder().tls(tls).bind("tls://127.0.0.1:0").await
}

async fn connect(tls: ClientTls) -> Result<Channel, SetupError> {
    Channel::builder().tls(tls).connect("tls://127.0.0.1:1").await
}

#[tokio::test]
async fn endpoints_and_settings_that_do_not_fit() {
    let folder = Folder::new();
    let anywhere = "tls://127.0.0.1:0";
    says(Server::bind(anywhere).await, &[anywhere, "`ServerBuilder::tls`"]);
    says(Publisher::bind(anywhere).await, &[anywhere, "`PublisherBuilder::tls`"]);
    says(Channel::connect(anywhere).await, &[anywhere, "`ChannelBuilder::tls`"]);
    says(Subscriber::connect(anywhere).await, &[anywhere, "`SubscriberBuilder::tls`"]);
    let ipc = format!("ipc://{}", folder.path("socket").display());
    for (endpoint, why) in [("tcp://127.0.0.1:0", "not encrypted"), (&*ipc, "no TLS is spoken")] {
        says(Server::builder().tls(folder.mutual()).bind(endpoint).await, &[endpoint, why]);
        says(Publisher::builder().tls(folder.mutual()).bind(endpoint).await, &[endpoint, why]);
        says(Channel::builder().tls(folder.nobody()).connect(endpoint).await, &[endpoint, why]);
        says(Subscriber::builder().tls(folder.nobody()).connect(endpoint).await, &[endpoint, why]);
        // Every replica has to be encrypted, or none.
        let mixed = Channel::builder().tls(folder.nobody()).replica(endpoint);
        says(mixed.connect("tls://127.0.0.1:1").await, &[why]);
    }
    says(connect(folder.nobody().server_name("no name")).await, &["`no name`", "`ClientTls::server_name`"]);
    let odd = Channel::builder().tls(folder.nobody()).connect("tls://under_score-.example:1").await;
    says(odd, &["`ClientTls::server_name`"]);
}

#[tokio::test]
async fn files_that_are_of_no_use() {
    let folder = Folder::new();
    let (certificate, key) = (folder.path("server.pem"), folder.path("server.key"));
    let missing = folder.path("missing.pem");
    folder.write("empty.pem", "");
    folder.write("damaged.pem", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    folder.write("long.pem", &"x".repeat(2 << 20));
    folder.write("other.key", &folder.authority.issue(server()).1);
    symlink("/dev/null", folder.path("device.pem")).unwrap();
    for (file, why) in [
        ("missing.pem", "cannot be read"),
        ("empty.pem", "no certificate"),
        ("server.key", "no certificate"),
        ("damaged.pem", "damaged"),
        ("long.pem", "longer than"),
        ("device.pem", "not a file"),
    ] {
        says(bind(ServerTls::new(folder.path(file), &key)).await, &[file, why]);
        says(bind(folder.one_way().clients(folder.path(file))).await, &[file, why]);
        says(connect(ClientTls::new(folder.path(file))).await, &[file, why]);
    }
    says(bind(ServerTls::new(&certificate, &missing)).await, &["missing.pem", "cannot be read"]);
    says(bind(ServerTls::new(&certificate, &certificate)).await, &["server.pem", "no private key"]);
    says(
        bind(ServerTls::new(&certificate, folder.path("other.key"))).await,
        &["other.key", "does not fit", "server.pem"],
    );
    let other = folder.nobody().identity(&certificate, folder.path("other.key"));
    says(connect(other).await, &["other.key", "does not fit", "server.pem"]);
}
