//! What a server keeps of calls, as its operator meets it: the bounds that can be set, and what is told before one is reached. Over every store in
//! tests/statements.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer, NoSuchUser};
use api::login::login::Enter;
use api::login::{Login, LoginClient, LoginServer};
use selfsame::{
    Answer, Channel, Error, Fault, Kind, Nonce, Outcome, Refusal, Request, Server, ServerBuilder,
};

/// Longer than anything takes; only a bug makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Knows nobody, and repeats the name: so an answer is as long as a test wants it.
struct Nobody;

impl Account for Nobody {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        if user == "ann" {
            return request.reply(|mut reply| reply.set_version(1));
        }
        Err(request.decline(|mut fault| fault.set_user(&*user)))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

/// Changes a password within its request.
struct Door(AccountClient);

impl Login for Door {
    async fn enter(&self, request: Request<Enter>) -> Answer<Enter> {
        let change = self.0.change_password(|mut p| p.set_user("ann")).within(&request);
        let version = change.await.map_err(Fault::interrupted)?.get()?.get_version();
        request.reply(|mut reply| reply.set_version(version))
    }
}

fn builder() -> ServerBuilder {
    Server::builder().clock_error(Duration::ZERO)
}

async fn once(endpoint: &str) -> Channel {
    Channel::builder().attempts(1).connect(endpoint).await.unwrap()
}

/// All warnings of this process, as text.
static TOLD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn listen() {
    struct Tell;
    impl Write for Tell {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            TOLD.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let warnings = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
    warnings.with_ansi(false).with_writer(|| Tell).init();
}

fn warnings() -> usize {
    let told = String::from_utf8(TOLD.lock().unwrap().clone()).unwrap();
    told.lines().filter(|line| line.contains("keyed records") && line.contains("most_records=5")).count()
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_no_record() {
    let server = builder().bind("tcp://127.0.0.1:0").await.unwrap();
    let (endpoint, handle) = (server.endpoint().to_owned(), server.handle());
    tokio::spawn(server.service(AccountServer::new(Nobody)).serve());
    let account = AccountClient::new(Channel::connect(&endpoint).await.unwrap());
    account.change_password(|mut p| p.set_user("ann")).await.unwrap();
    drop(account);
    let gone = async {
        while (handle.counters().sessions, handle.counters().connections) != (1, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it has gone, and its session stays for a while");
    assert_eq!((handle.counters().executed, handle.counters().records), (1, 0));
}

#[tokio::test]
async fn calls_within_requests_fill_the_table_of_keyed_records_and_that_is_told_before() {
    listen();
    let accounts = builder().keyed_records(5).bind("tcp://127.0.0.1:0").await.unwrap();
    let (endpoint, handle) = (accounts.endpoint().to_owned(), accounts.handle());
    tokio::spawn(accounts.service(AccountServer::new(Nobody)).serve());
    let account = AccountClient::new(once(&endpoint).await);
    // A keyed nonce that is older than the server's store is refused: so first see that the server is there.
    account.version(|_| ()).await.unwrap();
    let logins = builder().bind("tcp://127.0.0.1:0").await.unwrap();
    let login = LoginClient::new(once(logins.endpoint()).await);
    tokio::spawn(logins.service(LoginServer::new(Door(account))).serve());

    let full = async |records: usize| {
        while handle.counters().keyed_records < records {
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..3 {
        login.enter(|_| ()).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, full(3)).await.unwrap();
    assert_eq!(warnings(), 0, "three fifths are no reason");
    login.enter(|_| ()).await.unwrap();
    login.enter(|_| ()).await.unwrap();
    tokio::time::timeout(PATIENCE, full(5)).await.unwrap();
    let error = login.enter(|_| ()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Refused(Refusal::Interrupted), Outcome::Unknown));
    assert!(error.to_string().contains("the table of keyed records is full"), "{error}");
    assert_eq!((handle.counters().keyed_records, handle.counters().keyed_bytes), (5, 5 * 24));
    assert_eq!(warnings(), 1);
}

#[tokio::test]
async fn bytes_of_keyed_replies_have_a_bound_of_their_own() {
    let server = builder().keyed_bytes(1_000).bind("tcp://127.0.0.1:0").await.unwrap();
    let account = AccountClient::new(once(server.endpoint()).await);
    tokio::spawn(server.service(AccountServer::new(Nobody)).serve());
    account.version(|_| ()).await.unwrap();
    let ask = |key: &str| {
        let nonce = Nonce::keyed(key, SystemTime::now() + Duration::from_millis(20));
        account.change_password(|mut p| p.set_user("x".repeat(1_000))).nonce(nonce)
    };
    assert_eq!(ask("first").await.unwrap_err().kind(), Kind::Declined);
    assert_eq!(ask("second").await.unwrap_err().kind(), Kind::Refused(Refusal::Overloaded));
    assert_eq!(account.change_password(|mut p| p.set_user("bob")).await.unwrap_err().kind(), Kind::Declined);
}

/// What a call with an answer of 3 MiB is told, and what its retry is.
async fn told_twice(builder: ServerBuilder) -> [Error; 2] {
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap();
    let account = AccountClient::new(once(server.endpoint()).await);
    tokio::spawn(server.service(AccountServer::new(Nobody)).serve());
    account.version(|_| ()).await.unwrap();
    let nonce = Nonce::keyed("long", SystemTime::now() + Duration::from_millis(20));
    let long = "x".repeat(3 << 20);
    let ask = || account.change_password(|mut p| p.set_user(&*long)).nonce(nonce);
    let told = [ask().await.unwrap_err(), ask().await.unwrap_err()];
    assert_eq!(told[0].kind(), Kind::Declined, "{}", told[0]);
    assert_eq!(told[1].outcome(), Outcome::Yes);
    told
}

fn is_the_same(told: [Error; 2]) -> bool {
    let [first, again] = told.map(|error| error.fault::<NoSuchUser>().expect("the typed no"));
    first.as_bytes() == again.as_bytes()
}

#[tokio::test]
async fn how_long_a_reply_is_kept_for_a_retry_can_be_set() {
    let [_, again] = told_twice(builder()).await;
    assert_eq!(again.kind(), Kind::Refused(Refusal::ReplyEvicted));
    assert!(is_the_same(told_twice(builder().kept_reply_limit(4 << 20)).await));
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_long_reply_is_kept_in_a_file_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = selfsame::Store::durable(folder.path().join("records"));
    assert!(is_the_same(told_twice(builder().kept_reply_limit(4 << 20).store(store)).await));
}
