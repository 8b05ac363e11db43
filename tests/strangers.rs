//! Peers that are hostile, broken, of another version, or no peers of ours at all; and servers that come and go under load.
//!
//! In each case: a clear error or a counter, the process lives, and an honest client's calls go on. What the gate turns away before it is a
//! message has tests of its own (tests/gate.rs).

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "statements/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "transport/mod.rs"]
mod transport;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::account::account::{self, ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use bytes::Bytes;
use hand::{Hand, refusal_of};
use selfsame::codegen::InterfaceInfo;
use selfsame::io::{Dealer, DealerEvent, DealerOptions, IoThread};
use selfsame::protocol::wire::{self, Call, Encoder, Entry, Hello, Limits};
use selfsame::protocol::{RetryClass, Session};
use selfsame::{Answer, Channel, Gate, Kind, Outcome, Publisher, Refusal, Request, Server};
use tokio::sync::oneshot;

/// Effects by user.
#[derive(Default)]
struct Ledger(Mutex<HashMap<String, u32>>);

impl Account for Ledger {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        *self.0.lock().unwrap().entry(user).or_default() += 1;
        request.reply(|mut reply| reply.set_version(1))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

async fn serve(ledger: &Arc<Ledger>) -> (String, selfsame::ServerHandle) {
    let server = Server::bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(ledger.clone()));
    let (endpoint, handle) = (server.endpoint().to_string(), server.handle());
    tokio::spawn(server.serve());
    (endpoint, handle)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn honest(endpoint: &str) {
    let account = AccountClient::connect(endpoint).await.unwrap();
    let call = account.change_password(|mut p| p.set_user("honest")).deadline(Duration::from_secs(20));
    call.await.expect("an honest call goes through");
}

/// Connects and reads to the end, which comes at once.
fn is_turned_away(endpoint: &str) {
    let mut stream = std::net::TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match stream.read(&mut [0]) {
        Ok(read) => assert_eq!(read, 0, "it was greeted"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn a_servers_gate_keeps_to_its_settings_and_its_counters_tell() {
    let gate = Gate::new().connections_per_address(1);
    let server = Server::builder().gate(gate).bind("tcp://127.0.0.1:0").await.unwrap();
    let (endpoint, handle) = (server.endpoint().to_string(), server.handle());
    tokio::spawn(server.service(AccountServer::new(Arc::<Ledger>::default())).serve());
    let account = AccountClient::connect(&endpoint).await.unwrap();
    account.version(|mut p| p.set_user("ann")).await.unwrap();
    is_turned_away(&endpoint);
    until("counted", || handle.counters().gate.turned_away_by_address == 1).await;
    account.version(|mut p| p.set_user("ann")).await.unwrap();
    assert_eq!(handle.counters().gate.opened, 1);
}

#[tokio::test]
async fn a_publishers_gate_keeps_to_its_settings_and_its_counters_tell() {
    let gate = Gate::new().connections(1);
    let builder = Publisher::builder().gate(gate).beacon(Duration::from_millis(10));
    let publisher = builder.bind("tcp://127.0.0.1:0").await.unwrap();
    let address = publisher.endpoint().strip_prefix("tcp://").unwrap();
    let first = std::net::TcpStream::connect(address).unwrap();
    until("accepted", || publisher.counters().gate.accepted == 1).await;
    is_turned_away(publisher.endpoint());
    until("counted", || publisher.counters().gate.turned_away == 1).await;
    drop(first);
    until("gone", || publisher.counters().gate.refused == 1).await;
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_answered_and_counted() {
    let (endpoint, handle) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    let too_long = Bytes::from(vec![0; 300_000]);
    for header in [Bytes::from_static(b"nonsense"), Bytes::new(), Bytes::from(vec![0xff; 64]), too_long] {
        hand.send_frames(vec![header]);
        let Entry::Goodbye(goodbye) = hand.next().await else { panic!("no goodbye") };
        assert!(matches!(goodbye.refusal, Some(Refusal::Malformed | Refusal::TooLarge)), "{goodbye:?}");
        assert!(!goodbye.reason.is_empty());
    }
    assert!(refusal_of(&hand.ask(&hand.call(1, "still here")).await).is_none());
    until("counted", || handle.counters().malformed >= 4).await;
    honest(&endpoint).await;
}

#[tokio::test]
async fn a_peer_of_which_nothing_can_be_read_is_closed_in_the_end() {
    let (endpoint, _) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    for number in 1..=16 {
        hand.send_frames(vec![Bytes::new()]);
        let answer = hand.next().await;
        assert!(matches!(answer, Entry::Goodbye(_)), "message {number}: {answer:?}");
    }
    assert!(hand.rest().await.is_empty());
    honest(&endpoint).await;
}

#[tokio::test]
async fn a_peer_that_says_hello_without_end_is_closed_in_the_end() {
    let (endpoint, _) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    // The first was said already. 64 are welcomed.
    for number in 2..=64 + 256 {
        hand.say(Hello { id: number, version: 1, session: Session(1), ..Hello::default() });
        let answer = hand.next().await;
        assert!(matches!(answer, Entry::Goodbye(_)) == (number > 64), "hello {number}: {answer:?}");
    }
    assert!(hand.rest().await.is_empty());
    honest(&endpoint).await;
}

/// Each call takes a while of its thread.
struct Busy;

impl Account for Busy {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(8) {}
        request.reply(|mut reply| reply.set_version(1))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

#[tokio::test]
async fn a_message_of_many_calls_is_served_in_turns() {
    let server = Server::bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(Busy));
    let endpoint = server.endpoint().to_string();
    tokio::spawn(server.serve());
    let hand = Hand::connect(&endpoint).await;
    let mut encoder = Encoder::new(Limits::default());
    let calls =
        (1..).find(|number| encoder.push(Entry::Call(hand.call(*number, "ann"))).is_err()).unwrap() - 1;
    let message = encoder.finish();
    let replies = IoThread::shared().unwrap().run(move || async move {
        // The session is the hand's; whoever names it may use it.
        let mut dealer = Dealer::dial(&endpoint.parse().unwrap(), DealerOptions::dealer()).await.unwrap();
        dealer.send(message).unwrap();
        let mut replies = Vec::new();
        while replies.iter().sum::<u64>() < calls {
            match dealer.next().await {
                DealerEvent::Message(frames) => {
                    replies.push(wire::decode(&frames, &Limits::default()).unwrap().entries.len() as u64);
                }
                DealerEvent::Writable => {}
                DealerEvent::Closed(reason) => panic!("{reason}"),
            }
        }
        replies
    });
    let replies = tokio::time::timeout(Duration::from_secs(20), replies).await.expect("all replies").unwrap();
    // So many calls are some milliseconds' work, and a turn is half a millisecond long.
    assert!(calls > 50 && replies.len() > 1, "{calls} calls were answered in messages of {replies:?}");
}

#[tokio::test]
async fn parameters_that_cannot_be_read_are_refused_as_not_executed() {
    let ledger = Arc::<Ledger>::default();
    let (endpoint, _) = serve(&ledger).await;
    let mut hand = Hand::connect(&endpoint).await;
    // Eight bytes that claim a segment of 2^32 words; a pointer that leads out of its segment; zeros.
    let bodies: [&[u8]; 3] = [
        &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0x7f, 4, 0, 4, 0],
        &[0xff; 32],
    ];
    for (number, body) in (1..).zip(bodies) {
        let call = Call { body: Bytes::copy_from_slice(body), ..hand.call(number, "x") };
        let reply = hand.ask(&call).await;
        assert_eq!(refusal_of(&reply), Some(Refusal::Malformed), "body {number}: {reply:?}");
    }
    assert!(ledger.0.lock().unwrap().is_empty());
    honest(&endpoint).await;
}

#[tokio::test]
async fn an_unknown_interface_or_method_is_told() {
    let (endpoint, _) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    let method = Call { method: 999, ..hand.call(1, "x") };
    assert_eq!(refusal_of(&hand.ask(&method).await), Some(Refusal::UnknownMethod));
    let interface = Call { interface: 1, ..hand.call(2, "x") };
    assert_eq!(refusal_of(&hand.ask(&interface).await), Some(Refusal::UnknownMethod));
}

#[tokio::test]
async fn a_version_that_nobody_speaks_is_told_and_a_later_one_is_negotiated_down() {
    let (endpoint, _) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    hand.say(Hello { id: 8, version: 0, session: Session(1), ..Hello::default() });
    let Entry::Goodbye(goodbye) = hand.next().await else { panic!("no goodbye") };
    assert_eq!(goodbye.refusal, Some(Refusal::Incompatible));
    hand.say(Hello { id: 9, version: 9, session: Session(1), ..Hello::default() });
    let Entry::Welcome(welcome) = hand.next().await else { panic!("no welcome") };
    assert_eq!((welcome.hello, welcome.version), (9, 1));
}

#[tokio::test]
async fn one_connection_cannot_fill_the_table_of_sessions() {
    let (endpoint, handle) = serve(&Arc::default()).await;
    let mut hand = Hand::connect(&endpoint).await;
    let refused = loop {
        hand.say(Hello { id: 1, version: 1, session: Session(1), ..Hello::default() });
        match hand.next().await {
            Entry::Welcome(_) => {}
            other => break other,
        }
    };
    let Entry::Goodbye(goodbye) = refused else { panic!("no goodbye but {refused:?}") };
    assert_eq!(goodbye.refusal, Some(Refusal::Overloaded));
    until("counted", || handle.counters().sessions > 0).await;
    assert!(handle.counters().sessions <= 64, "{:?}", handle.counters());
    honest(&endpoint).await;
}

#[tokio::test]
async fn a_call_before_hello_does_not_run() {
    let ledger = Arc::<Ledger>::default();
    let (endpoint, _) = serve(&ledger).await;
    let mut hand = Hand::connect(&endpoint).await;
    let unknown = Call { registration: selfsame::protocol::Registration(5), ..hand.call(1, "x") };
    assert_eq!(refusal_of(&hand.ask(&unknown).await), Some(Refusal::SessionUnknown));
    assert!(ledger.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_never_called() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let account = AccountClient::connect(&endpoint).await.unwrap();
    let call = account.change_password(|mut p| p.set_user("x")).deadline(Duration::from_millis(400));
    let error = call.await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Deadline, Outcome::No), "{error}");
}

#[tokio::test]
async fn a_contract_of_another_form_is_refused_before_anything_is_sent() {
    /// The same interface as the server's, but for the form of one member.
    fn altered() -> &'static InterfaceInfo {
        let ours = &account::INTERFACE;
        let mut shape = ours.shape.to_vec();
        shape[0].1 ^= 1;
        Box::leak(Box::new(InterfaceInfo {
            id: ours.id,
            name: ours.name,
            fingerprint: ours.fingerprint ^ 1,
            shape: shape.leak(),
            methods: ours.methods,
        }))
    }
    let ledger = Arc::<Ledger>::default();
    let (endpoint, _) = serve(&ledger).await;
    let channel = Channel::connect(&endpoint).await.unwrap();
    channel.register(altered());
    let call = channel.call::<ChangePassword, _>(|mut p| p.set_user("x"));
    let error = call.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Refused(Refusal::Incompatible), Outcome::No),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("something in Account") && text.contains("build both from one schema"), "{text}");
    assert!(ledger.0.lock().unwrap().is_empty());
    honest(&endpoint).await;
}

#[tokio::test]
async fn the_stricter_retry_class_holds() {
    let ledger = Arc::<Ledger>::default();
    let (endpoint, _) = serve(&ledger).await;
    let mut hand = Hand::connect(&endpoint).await;
    // The client's contract says that the method may be run again; the server's says once.
    let call = Call { retry: RetryClass::Idempotent, ..hand.call(1, "ann") };
    hand.ask(&call).await;
    assert!(hand.ask(&Call { attempt: 2, ..call }).await.replayed);
    assert_eq!(ledger.0.lock().unwrap()["ann"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_under_load_never_has_a_second_effect() {
    let ledger = Arc::<Ledger>::default();
    let first = Server::bind("tcp://127.0.0.1:0").await.unwrap();
    let endpoint = first.endpoint().to_string();
    let account = AccountClient::connect(&endpoint).await.unwrap();
    let calls: Vec<_> = (0..4)
        .map(|caller| {
            let account = account.clone();
            tokio::spawn(async move {
                let mut told = Vec::new();
                for at in 0..300 {
                    let user = format!("{caller}-{at}");
                    let call =
                        account.change_password(|mut p| p.set_user(&*user)).deadline(Duration::from_secs(30));
                    let outcome = call.await.map_or_else(|error| error.outcome(), |_| Outcome::Yes);
                    told.push((user, outcome));
                }
                told
            })
        })
        .collect();
    let mut server = first;
    for life in 1..=4 {
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.service(AccountServer::new(ledger.clone())).serve_until(stopped));
        until("some calls in each life", || ledger.0.lock().unwrap().len() >= life * 100).await;
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
        server = Server::bind(&endpoint).await.unwrap();
    }
    tokio::spawn(server.service(AccountServer::new(ledger.clone())).serve());
    for call in calls {
        for (user, outcome) in call.await.unwrap() {
            let effects = ledger.0.lock().unwrap().get(&user).copied().unwrap_or(0);
            match outcome {
                Outcome::Yes => assert_eq!(effects, 1, "{user}"),
                Outcome::No => assert_eq!(effects, 0, "{user}"),
                Outcome::Unknown => assert!(effects <= 1, "{user}"),
            }
        }
    }
}
