//! Calls from end to end: a generated client, real sockets, a generated server, and what can go wrong between and at them.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "transport/mod.rs"]
mod transport;

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};
use std::time::{Duration, Instant, SystemTime};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer, NoSuchUser};
use selfsame::{Answer, Call, Channel, Fault, Kind, Nonce, Outcome, Refusal, Request, Server};
use tokio::sync::{Notify, Semaphore, oneshot};
use transport::{Over, anywhere, nowhere, who};

/// What the test lets a handler do.
struct Vault {
    effects: AtomicU32,
    entered: Semaphore,
    go_on: Semaphore,
}

impl Vault {
    fn new() -> Arc<Vault> {
        Arc::new(Vault { effects: AtomicU32::new(0), entered: Semaphore::new(0), go_on: Semaphore::new(0) })
    }

    fn effects(&self) -> u32 {
        self.effects.load(Ordering::SeqCst)
    }

    async fn entered(&self, calls: u32) {
        self.entered.acquire_many(calls).await.unwrap().forget();
    }
}

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        match user.as_str() {
            "nobody" => return Err(request.decline(|mut fault| fault.set_user("nobody"))),
            "broken" => return Err(Fault::failed("the disk is full")),
            "busy" => return Err(Fault::unavailable("not now").retry_after(Duration::from_millis(1))),
            "panics" => panic!("on purpose"),
            "traced" => {
                let told = request.metadata().text("tenant").map(str::to_owned);
                assert_eq!(told.as_deref(), Some("blue"));
                assert!(request.traceparent().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
            }
            "waits" => {
                self.entered.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        let effects = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        request.reply(|mut reply| reply.set_version(effects))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        let effects = self.effects();
        request.reply(|mut reply| reply.set_version(effects))
    }
}

/// A server that the test can shut down, with the endpoint that it has.
struct Running {
    endpoint: String,
    handle: selfsame::ServerHandle,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), selfsame::SetupError>>,
}

async fn serve(server: Server) -> Running {
    let (endpoint, handle) = (server.endpoint().to_string(), server.handle());
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.serve_until(stopped));
    Running { endpoint, handle, stop, ended }
}

async fn serve_vault(vault: &Arc<Vault>) -> Running {
    let builder = Server::builder().clock_error(Duration::ZERO);
    serve(builder.over().bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()))).await
}

async fn connect(endpoint: &str) -> AccountClient {
    AccountClient::new(Channel::builder().over().connect(endpoint).await.unwrap())
}

fn change(account: &AccountClient, user: &str) -> Call<ChangePassword> {
    account.change_password(|mut p| p.set_user(user))
}

async fn changed(call: Call<ChangePassword>) -> u32 {
    call.await.unwrap().get().unwrap().get_version()
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
async fn a_call_has_an_effect_and_a_reply() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    assert_eq!(changed(change(&account, "ann")).await, 1);
    let version = account.version(|mut p| p.set_user("ann")).await.unwrap();
    assert_eq!(version.get().unwrap().get_version(), 1);
}

#[tokio::test]
async fn connect_succeeds_although_nobody_listens_and_calls_wait_until_somebody_does() {
    let endpoint = nowhere();
    let account = connect(&endpoint).await;
    let error = change(&account, "ann").deadline(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Deadline, Outcome::No), "{error}");

    let waits = tokio::spawn(changed(change(&account, "ann").deadline(Duration::from_secs(20))));
    let vault = Vault::new();
    let server =
        Server::builder().over().bind(&endpoint).await.unwrap().service(AccountServer::new(vault.clone()));
    let _server = serve(server).await;
    assert_eq!(waits.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_have_one_effect_each() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let calls = (0..5_000).map(|_| change(&account, "ann").deadline(Duration::from_secs(60)));
    let replies = futures::future::join_all(calls.map(|call| tokio::spawn(changed(call)))).await;
    let versions: HashSet<u32> = replies.into_iter().map(Result::unwrap).collect();
    assert_eq!(versions.len(), 5_000);
    assert_eq!(vault.effects(), 5_000);
}

/// Of those whose calls end together one is woken, and is to wake the others. Here none looks: each is told all the same.
#[tokio::test]
async fn whoever_waits_is_told_although_the_others_do_not_look() {
    struct Told(Notify);
    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let wait = |_| {
        let (mut call, told) = (change(&account, "waits"), Arc::new(Told(Notify::new())));
        let first = Pin::new(&mut call).poll(&mut Context::from_waker(&told.clone().into()));
        assert!(first.is_pending());
        (call, told)
    };
    let waits: Vec<_> = (0..16).map(wait).collect();
    vault.entered(16).await;
    vault.go_on.add_permits(16);
    for (_, told) in &waits {
        told.0.notified().await;
    }
    let versions = futures::future::join_all(waits.into_iter().map(|(call, _)| changed(call))).await;
    assert_eq!(versions.into_iter().collect::<HashSet<u32>>().len(), 16);
}

#[tokio::test]
async fn a_large_body_goes_there_and_back() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let long = "x".repeat(3_000_000);
    let call = account.change_password(|mut p| p.set_password(&*long)).deadline(Duration::from_secs(20));
    assert_eq!(changed(call).await, 1);
    let too_long = "x".repeat(17 << 20);
    let error = account.change_password(|mut p| p.set_password(&*too_long)).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Refused(Refusal::TooLarge), Outcome::No), "{error}");
    assert_eq!(changed(change(&account, "ann")).await, 2, "the connection lives on");
}

#[tokio::test]
async fn each_verdict_reaches_the_caller() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;

    let declined = change(&account, "nobody").await.unwrap_err();
    assert_eq!((declined.kind(), declined.outcome()), (Kind::Declined, Outcome::Yes));
    let fault = declined.fault::<NoSuchUser>().expect("the contract's fault");
    assert_eq!(fault.get().unwrap().get_user().unwrap(), "nobody");

    let failed = change(&account, "broken").await.unwrap_err();
    assert_eq!((failed.kind(), failed.outcome()), (Kind::Failed, Outcome::Unknown));
    assert!(failed.to_string().contains("the disk is full"), "{failed}");

    let unavailable = change(&account, "busy").await.unwrap_err();
    assert_eq!(unavailable.kind(), Kind::Refused(Refusal::Unavailable));
    assert_eq!(unavailable.outcome(), Outcome::No);
    assert_eq!(unavailable.attempts(), 5, "{unavailable}");

    let panicked = change(&account, "panics").await.unwrap_err();
    assert_eq!((panicked.kind(), panicked.outcome()), (Kind::Failed, Outcome::Unknown));
    assert!(panicked.to_string().contains("on purpose"), "{panicked}");
    assert_eq!(panicked.method(), "Account.changePassword");
    assert!(panicked.nonce().is_some());
    assert_eq!(vault.effects(), 0);
    assert_eq!(changed(change(&account, "ann")).await, 1, "the server lives on");
}

#[tokio::test]
async fn metadata_and_trace_reach_the_handler() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let call = change(&account, "traced")
        .metadata("tenant", "blue")
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(changed(call).await, 1);
}

#[tokio::test]
async fn retries_are_paid_from_a_budget() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let channel = Channel::builder().retry_budget(0, 0).over().connect(&server.endpoint).await.unwrap();
    let error = change(&AccountClient::new(channel), "busy").await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Refused(Refusal::Unavailable), 1), "{error}");
}

#[tokio::test]
async fn longer_bodies_go_through_where_both_sides_allow_them() {
    const LIMIT: u32 = 24 << 20;
    let vault = Vault::new();
    let server = Server::builder().body_limit(LIMIT).over().bind(anywhere()).await.unwrap();
    let server = serve(server.service(AccountServer::new(vault.clone()))).await;
    let long = "x".repeat(20 << 20);
    let call = |account: &AccountClient| {
        account.change_password(|mut p| p.set_password(&*long)).deadline(Duration::from_secs(30))
    };
    let roomy = Channel::builder().body_limit(LIMIT).over().connect(&server.endpoint).await.unwrap();
    assert_eq!(changed(call(&AccountClient::new(roomy))).await, 1);
    let narrow = connect(&server.endpoint).await;
    assert_eq!(call(&narrow).await.unwrap_err().kind(), Kind::Refused(Refusal::TooLarge));
}

#[tokio::test]
async fn more_bodies_than_a_connection_holds_wait_for_room_and_do_not_cut_it() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let channel = Channel::builder().over().connect(&server.endpoint).await.unwrap();
    let account = AccountClient::new(channel.clone());
    let long = "x".repeat(512 << 10);
    let call = || account.change_password(|mut p| p.set_password(&*long)).deadline(Duration::from_secs(60));
    let replies = futures::future::join_all((0..200).map(|_| changed(call()))).await;
    assert_eq!(replies.into_iter().collect::<HashSet<_>>().len(), 200);
    assert_eq!(channel.counters().connections, 1, "100 MiB in flight, and the connection was kept");
}

#[tokio::test]
async fn durations_without_end_are_as_good_as_long_ones() {
    let builder = Server::builder().handler_timeout(Duration::MAX).heartbeat(Duration::MAX);
    let builder = builder.retention(Duration::MAX).drain(Duration::MAX);
    let vault = Vault::new();
    let server = builder.over().bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()));
    let server = serve(server).await;
    let account = connect(&server.endpoint).await;
    let waits = tokio::spawn(changed(change(&account, "waits").deadline(Duration::MAX)));
    vault.entered(1).await;
    vault.go_on.add_permits(1);
    assert_eq!(waits.await.unwrap(), 1);
    server.stop.send(()).unwrap();
    drop(account);
    server.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_need_a_worker_are_spawned_from_the_start() {
    struct Blocking;
    impl Account for Blocking {
        async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
            tokio::task::block_in_place(|| request.reply(|mut reply| reply.set_version(1)))
        }
        async fn version(&self, request: Request<Version>) -> Answer<Version> {
            request.reply(|mut reply| reply.set_version(1))
        }
    }
    let server = Server::builder().inline(false).over().bind(anywhere()).await.unwrap();
    let server = serve(server.service(AccountServer::new(Blocking))).await;
    let account = connect(&server.endpoint).await;
    assert_eq!(changed(change(&account, "ann")).await, 1);
}

#[tokio::test]
async fn a_call_that_ends_as_unknown_can_be_asked_about_under_a_keyed_nonce_alone() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let unknown = async |call: Call<ChangePassword>| {
        let call = tokio::spawn(call.deadline(Duration::from_millis(300)));
        vault.entered(1).await;
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Deadline, Outcome::Unknown), "{error}");
        error.nonce().unwrap()
    };
    let sequenced = unknown(change(&account, "waits")).await;
    let error = change(&account, "waits").nonce(sequenced).await.unwrap_err();
    assert!(error.kind() == Kind::Misuse && error.to_string().contains("Nonce::random()"), "{error}");
    let keyed = unknown(change(&account, "waits").nonce(Nonce::random())).await;
    vault.go_on.add_permits(2);
    changed(change(&account, "waits").nonce(keyed)).await;
    assert!(vault.effects() <= 2, "of each call one");
}

#[tokio::test]
async fn a_dropped_call_runs_to_its_end_and_gives_its_place_back() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let channel = Channel::builder().in_flight(1).over().connect(&server.endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let call = tokio::spawn(change(&account, "waits"));
    vault.entered(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The only place is free again, although the handler still waits.
    assert_eq!(changed(change(&account, "ann")).await, 1);
    vault.go_on.add_permits(1);
    while vault.effects() < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_server_sheds_what_it_did_not_start() {
    let vault = Vault::new();
    let builder = Server::builder().concurrency(1).queue(1);
    let server = builder.over().bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()));
    let server = serve(server).await;
    let channel = Channel::builder().attempts(1).over().connect(&server.endpoint).await.unwrap();
    let account = AccountClient::new(channel);
    let runs = tokio::spawn(changed(change(&account, "waits")));
    vault.entered(1).await;
    let queued = tokio::spawn(changed(change(&account, "waits")));
    while server.handle.counters().queued < 1 {
        tokio::task::yield_now().await;
    }
    let error = change(&account, "ann").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Refused(Refusal::Overloaded), Outcome::No), "{error}");
    vault.go_on.add_permits(2);
    assert_eq!(runs.await.unwrap() + queued.await.unwrap(), 3, "those that were admitted have run");
    assert_eq!(vault.effects(), 2);
}

#[tokio::test]
async fn a_shutdown_lets_running_calls_finish_and_refuses_others() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let runs = tokio::spawn(changed(change(&account, "waits")));
    vault.entered(1).await;
    server.stop.send(()).unwrap();
    // The server hears of it in its own time.
    let mut served = 0;
    let late = loop {
        match change(&account, "ann").deadline(Duration::from_millis(500)).await {
            Ok(_) => served += 1,
            Err(late) => break late,
        }
    };
    assert_eq!(late.outcome(), Outcome::No, "{late}");
    vault.go_on.add_permits(1);
    assert_eq!(runs.await.unwrap(), served + 1);
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn after_a_restart_what_was_sent_is_unknown_and_what_was_not_is_served() {
    let vault = Vault::new();
    let server = Server::builder().drain(Duration::from_millis(10)).over().bind(anywhere()).await.unwrap();
    let server = serve(server.service(AccountServer::new(vault.clone()))).await;
    let endpoint = server.endpoint.clone();
    let account = connect(&endpoint).await;
    let runs = tokio::spawn(change(&account, "waits").deadline(Duration::from_secs(30)));
    vault.entered(1).await;
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();

    let reborn = Vault::new();
    let server =
        Server::builder().over().bind(&endpoint).await.unwrap().service(AccountServer::new(reborn.clone()));
    let _server = serve(server).await;
    let error = runs.await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(changed(change(&account, "ann").deadline(Duration::from_secs(30))).await, 1);
    assert_eq!(reborn.effects(), 1, "the call that had been sent did not run again");
}

#[tokio::test]
async fn a_saved_call_is_asked_again_by_another_client() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    // A keyed nonce that is older than the server's store is refused: so first see that the server is there.
    changed(change(&account, "bob")).await;
    let mut call = change(&account, "ann");
    let saved = call.to_bytes().unwrap();
    let nonce = call.known_nonce().unwrap();
    let first = call.await.unwrap();

    let next_life = Channel::builder().over().connect(&server.endpoint).await.unwrap();
    let again = Call::<ChangePassword>::from_bytes(&next_life, &saved).unwrap();
    assert_eq!(again.known_nonce(), Some(nonce));
    assert_eq!(again.await.unwrap().as_bytes(), first.as_bytes());
    assert_eq!(vault.effects(), 2);

    let wrong = Call::<Version>::from_bytes(&next_life, &saved).unwrap_err();
    assert_eq!(wrong.kind(), Kind::Misuse);
    assert!(Call::<ChangePassword>::from_bytes(&next_life, b"nonsense").is_err());
}

#[tokio::test]
async fn a_keyed_nonce_is_one_call_and_other_parameters_under_it_are_a_mismatch() {
    let vault = Vault::new();
    let server = serve_vault(&vault).await;
    let account = connect(&server.endpoint).await;
    let issued = SystemTime::now() + Duration::from_millis(20);
    let nonce = Nonce::keyed("order-8731", issued);
    assert_eq!(changed(change(&account, "ann").nonce(nonce)).await, 1);
    let printed: Nonce = nonce.to_string().parse().unwrap();
    assert_eq!(changed(change(&account, "ann").nonce(printed)).await, 1);
    let error = change(&account, "bob").nonce(nonce).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Refused(Refusal::Mismatch), Outcome::Unknown),
        "{error}"
    );
    assert_eq!(vault.effects(), 1);
}

#[tokio::test]
async fn a_local_channel_needs_no_socket_and_keeps_every_promise() {
    let vault = Vault::new();
    let account = AccountClient::local(vault.clone());
    assert_eq!(changed(change(&account, "ann")).await, 1);
    let declined = change(&account, "nobody").await.unwrap_err();
    assert_eq!(declined.kind(), Kind::Declined);
    let nonce = Nonce::keyed("once", SystemTime::now() + Duration::from_millis(20));
    assert_eq!(changed(change(&account, "ann").nonce(nonce)).await, 2);
    assert_eq!(changed(change(&account, "ann").nonce(nonce)).await, 2);
}

#[tokio::test]
async fn an_endpoint_that_is_none_and_one_that_is_taken_are_told() {
    for wrong in
        ["", "127.0.0.1:1", "udp://127.0.0.1:1", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"]
    {
        let error = AccountClient::connect(wrong).await.unwrap_err();
        assert!(error.to_string().contains("connect to"), "{error}");
        assert!(Server::bind(wrong).await.is_err(), "{wrong}");
    }
    let taken = Server::builder().over().bind(anywhere()).await.unwrap();
    let error = Server::builder().over().bind(taken.endpoint()).await.unwrap_err();
    assert!(error.to_string().contains(taken.endpoint()), "{error}");
}

#[tokio::test]
async fn two_services_of_one_interface_on_a_socket_are_an_error() {
    let server = Server::builder().over().bind(anywhere()).await.unwrap();
    let server = server.service(AccountServer::new(Vault::new())).service(AccountServer::new(Vault::new()));
    let error = server.serve().await.unwrap_err();
    assert!(error.to_string().contains("Account"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_an_unknown_method() {
    let server = serve(Server::builder().over().bind(anywhere()).await.unwrap()).await;
    let account = connect(&server.endpoint).await;
    let error = change(&account, "ann").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Refused(Refusal::UnknownMethod), Outcome::No),
        "{error}"
    );
}

#[tokio::test]
async fn handlers_run_where_serve_is_awaited_also_on_several_threads() {
    let vault = Vault::new();
    let server =
        Server::builder().over().bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()));
    let endpoint = server.endpoint().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(server.serve_until(stopped))
    });
    let account = connect(&endpoint).await;
    let calls: Vec<_> = (0..8).map(|_| tokio::spawn(changed(change(&account, "waits")))).collect();
    vault.entered(8).await;
    vault.go_on.add_permits(8);
    for call in calls {
        call.await.unwrap();
    }
    stop.send(()).unwrap();
    thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn calls_are_send_and_unpin_and_channels_are_sync() {
    fn call(_: &(impl Future + Send + Unpin + 'static)) {}
    fn shared(_: &(impl Clone + Send + Sync + 'static)) {}
    let account = AccountClient::local(Vault::new());
    call(&change(&account, "ann"));
    shared(&account);
    let before = Instant::now();
    drop(change(&account, "never sent"));
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_rule_says_who_may_call_what() {
    let vault = Vault::new();
    let server =
        Server::builder().over().bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()));
    let server = server
        .allow(|principal, method| principal.to_string() == who() && method != "Account.changePassword")
        .allow(|_, method| method != "Account.version" || panic!("on purpose"));
    let server = serve(server).await;
    let account = connect(&server.endpoint).await;
    let denied = change(&account, "ann").await.unwrap_err();
    assert_eq!((denied.kind(), denied.outcome()), (Kind::Refused(Refusal::Denied), Outcome::No));
    let why = format!("does not allow {} to call Account.changePassword", who());
    assert!(denied.to_string().contains(&why), "{denied}");
    assert_eq!(denied.attempts(), 1, "it would be denied again");
    let denied = account.version(|mut p| p.set_user("ann")).await.unwrap_err();
    assert_eq!(denied.kind(), Kind::Refused(Refusal::Denied), "a rule that panics has said no");
    assert_eq!(vault.effects(), 0);
}

#[tokio::test]
async fn one_client_that_asks_for_everything_leaves_the_last_eighth_to_others() {
    let vault = Vault::new();
    let builder = Server::builder().concurrency(8).queue(8).over();
    let server = builder.bind(anywhere()).await.unwrap().service(AccountServer::new(vault.clone()));
    let server = serve(server).await;
    // In the process's own place on the network, unless the transport tells connections apart.
    let greedy = connect(&server.endpoint).await;
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(change(&greedy, "waits").into_future())).collect();
    vault.entered(7).await;
    let counters = loop {
        let counters = server.handle.counters();
        if counters.running + counters.queued >= 14 && counters.shed > 0 {
            break counters;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((counters.running, counters.queued), (7, 7), "of eight each");
    vault.go_on.add_permits(40);
    let answered = futures::future::join_all(calls).await;
    assert!(answered.into_iter().filter(|call| call.as_ref().unwrap().is_ok()).count() >= 14);
}
