//! Goal: what is shared between threads is raced for by real ones. The deduplication machine is not: it lives on one IO thread, and join, acknowledgement and the
//! end of a session meet there as messages, every order of which the search plays. Shared are the hand-overs: a handler's answer and its time-out, a call
//! that is dropped and its reply, the keys that a request's calls derive, and the answers of a store's thread.
//!
//! The same hand-overs in all orders of turns: `crates/threads`. Here is the whole library, with sockets and real time.
//!
//! Method: many rounds of the same race over several workers, each with what must come out whoever wins.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use api::storm::storm::{ChangePassword, ChangePasswordAgain};
use api::storm::{Storm, StormClient, StormServer};
use selfsame::{Answer, Channel, Kind, Nonce, Request, Server};

/// How long a handler may take: as long as it does, or a little more or less.
const TIME: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Racer {
    effects: AtomicU32,
}

impl Storm for Racer {
    /// Takes as many microseconds more or less than it may as the user's name says.
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let skew: i64 = request.read(|p| Ok(p.get_user()?.to_str()?.parse().unwrap_or_default()))?;
        tokio::time::sleep(TIME.saturating_add_signed(skew)).await;
        let effect = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        request.reply(|mut reply| reply.set_version(effect))
    }

    async fn change_password_again(
        &self,
        request: Request<ChangePasswordAgain>,
    ) -> Answer<ChangePasswordAgain> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

trait Skewed {
    fn saturating_add_signed(self, micros: i64) -> Duration;
}

impl Skewed for Duration {
    fn saturating_add_signed(self, micros: i64) -> Duration {
        let skew = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 { self.saturating_sub(skew) } else { self + skew }
    }
}

async fn serve(racer: Arc<Racer>) -> (StormClient, selfsame::ServerHandle) {
    let builder = Server::builder().handler_timeout(TIME).clock_error(Duration::ZERO);
    let server = builder.bind("tcp://127.0.0.1:0").await.unwrap().service(StormServer::new(racer));
    let (endpoint, handle) = (server.endpoint().to_string(), server.handle());
    tokio::spawn(server.serve());
    (StormClient::connect(&endpoint).await.unwrap(), handle)
}

/// A handler that answers in the moment in which its time is up: one of both counts, and whoever asks again is told the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s12_of_an_answer_and_a_time_out_one_wins_for_good() {
    let (client, _) = serve(Arc::default()).await;
    let calls = (0..200u32).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let nonce = Nonce::keyed(number.to_le_bytes(), SystemTime::now());
            let skew = i64::from(number % 20) * 200 - 2_000;
            let ask = || async {
                let call = client.change_password(|mut p| p.set_user(skew.to_string())).nonce(nonce);
                match call.await {
                    Ok(reply) => Some(reply.get().unwrap().get_version()),
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Failed, "{error}");
                        None
                    }
                }
            };
            let first = ask().await;
            assert_eq!(ask().await, first, "the selfsame answer");
            first
        })
    });
    let mut versions = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        versions.extend(call.await.unwrap());
    }
    let told = versions.len();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), told, "each reply is of an effect of its own");
}

/// A call that is dropped in the moment in which its reply arrives: neither its place nor its record stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s13_of_a_drop_and_a_reply_neither_leaves_anything_behind() {
    let racer = Arc::<Racer>::default();
    let (client, handle) = serve(racer.clone()).await;
    let calls = (0..200u64).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let call = client.change_password(|mut p| p.set_user("-15000"));
            let patience = Duration::from_micros(4_500 + number * 10);
            let _ = tokio::time::timeout(patience, call).await;
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    // One more, so that what was closed is acknowledged; then all records go.
    client.change_password(|mut p| p.set_user("-15000")).await.unwrap();
    let empty = async {
        while handle.counters().records > 0 || handle.counters().running > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), empty).await.expect("no record and no place stays");
    assert!(racer.effects.load(Ordering::SeqCst) <= 201);
}

/// Threads that make the same call within one request at once: one of them makes it, the others are told that it would be taken for theirs.
#[test]
fn equal_calls_within_one_request_are_one_whoever_makes_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let channel = runtime.block_on(async { Channel::local(StormServer::new(Racer::default())) });
    for round in 0..50 {
        let request = Request::<ChangePassword>::test(|mut p| p.set_user("ann"));
        let context = request.context();
        let made = AtomicU32::new(0);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    let client = StormClient::new(channel.clone());
                    let call = client.change_password(|mut p| p.set_user("-20000"));
                    match runtime.block_on(call.within_as(context, "the same")) {
                        Ok(_) => drop(made.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => assert_eq!(error.kind(), Kind::Misuse, "{error}"),
                    }
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1, "round {round}");
    }
}
