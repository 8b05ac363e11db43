//! Goal: a connection costs little memory at either side, plain and encrypted, idle and after it has been busy.
//!
//! Method: a server and a client with a channel for each connection, each a process of its own, this binary once more: it is a process's memory that is
//! looked at, freed or not given back. Some connections are there before the first look, so that what all share does not count.
#![cfg(target_os = "linux")]

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "transport/mod.rs"]
mod transport;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer, NoSuchUser};
use futures::future::join_all;
use selfsame::{Answer, Channel, Request, Server};
use transport::{Over, anywhere};

/// Connections before the first look, and then.
const FEW: usize = 20;
const MANY: usize = 220;

/// Calls that a connection has in flight at once in its burst, and the bytes that each carries there and back.
const BURST: (usize, usize) = (16, 16 << 10);

/// What a connection may cost, in KiB. Where it goes is in docs/performance.md.
const IDLE: u64 = 16;
const IDLE_ENCRYPTED: u64 = 24;
const AFTER_A_BURST: u64 = 96;

const ENDPOINT: &str = "SELFSAME_TEST_ENDPOINT";

/// Has everything ended that takes memory for a moment? The acknowledgement of the last call is sent 20 ms later, and a quiet connection tidies up then.
const QUIET: Duration = Duration::from_millis(200);

/// Declines every change, so that what was sent comes back.
struct Echo;

impl Account for Echo {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        Err(request.decline(|mut fault| fault.set_user(&user)))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(1))
    }
}

/// The process's memory, in KiB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Waits until the test asks, looks, and tells. False: it asks no more.
fn asked(look: impl FnOnce() -> String) -> bool {
    let asked = std::io::stdin().lines().next().is_some();
    if asked {
        println!("\ntold: {}", look());
        std::io::stdout().flush().unwrap();
    }
    asked
}

fn resident_when_asked() -> bool {
    asked(|| resident().to_string())
}

fn on_a_runtime(what: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what);
}

/// The server's process; nothing if this is not it.
#[test]
fn serves() {
    if std::env::var(ENDPOINT).as_deref() != Ok("") {
        return;
    }
    on_a_runtime(async {
        let server = Server::builder().over().bind(anywhere()).await.unwrap();
        let endpoint = server.endpoint().to_owned();
        let looked_at = tokio::task::spawn_blocking(move || {
            asked(|| endpoint);
            while resident_when_asked() {}
        });
        tokio::select! {
            ended = server.service(AccountServer::new(Echo)).serve() => ended.unwrap(),
            looked = looked_at => looked.unwrap(),
        }
    });
}

/// The clients' process; nothing if this is not it.
#[test]
fn connects() {
    let Some(endpoint) = std::env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty()) else { return };
    on_a_runtime(async {
        let mut all = Vec::new();
        for connections in [FEW, MANY] {
            while all.len() < connections {
                let channel = Channel::builder().over().connect(&endpoint).await.unwrap();
                let account = AccountClient::new(channel);
                account.version(|mut p| p.set_user("ann")).await.unwrap();
                all.push(account);
            }
            tokio::time::sleep(QUIET).await;
            resident_when_asked();
        }
        let user = "a".repeat(BURST.1);
        for account in &all {
            let calls = (0..BURST.0).map(|_| account.change_password(|mut p| p.set_user(&user)));
            for declined in join_all(calls).await {
                let fault = declined.unwrap_err().fault::<NoSuchUser>().unwrap();
                assert_eq!(fault.get().unwrap().get_user().unwrap().len(), BURST.1);
            }
        }
        tokio::time::sleep(QUIET).await;
        while resident_when_asked() {}
    });
}

/// One of the two processes.
struct Other {
    process: Child,
    say: ChildStdin,
    told: Box<dyn Iterator<Item = String>>,
}

impl Other {
    fn start(test: &str, endpoint: &str) -> Other {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(ENDPOINT, endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let told = lines.filter_map(|line| line.strip_prefix("told: ").map(str::to_owned));
        Other { say: process.stdin.take().unwrap(), process, told: Box::new(told) }
    }

    fn ask(&mut self) -> String {
        self.say.write_all(b"\n").unwrap();
        self.told.next().expect("it tells")
    }

    fn ends(mut self) {
        drop(self.say);
        self.told.for_each(drop); // it says how its test went
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn a_connection_costs_little() {
    let mut server = Other::start("serves", "");
    let mut clients = Other::start("connects", &server.ask());
    let mut look = || [&mut clients, &mut server].map(|side| side.ask().parse::<u64>().unwrap());
    let (few, idle, busy) = (look(), look(), look());
    clients.ends();
    server.ends();
    let allowed = if transport::who() == "anonymous" { IDLE } else { IDLE_ENCRYPTED };
    for (side, name) in ["client", "server"].into_iter().enumerate() {
        let each_idle = (idle[side] - few[side]) / (MANY - FEW) as u64;
        // A burst comes to all of them.
        let after_a_burst = each_idle + (busy[side] - idle[side]) / MANY as u64;
        println!("KiB a connection at the {name}: {each_idle} idle, {after_a_burst} after a burst");
        assert!(each_idle <= allowed, "{each_idle} KiB an idle connection at the {name}");
        assert!(
            after_a_burst <= AFTER_A_BURST,
            "{after_a_burst} KiB a connection at the {name} after a burst"
        );
    }
}

#[cfg(feature = "tls")]
#[test]
fn the_same_over_tls() {
    transport::again_over_tls("a_connection_costs_little");
}
