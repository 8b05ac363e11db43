//! Retries in a storm: 10,000 calls through a relay that loses, doubles, delays and reorders messages and cuts connections.
//!
//! Three parties: a [`server`] and a [`client`], each a process of its own (this binary, started again), and between them, in this
//! process, the [`Relay`]. The server writes each effect down, the client what it was told; the [`report`] compares the two. The exit code is 0
//! only if every call had one effect and every reply agrees with it.
//!
//! With `--without-dedup` the same calls go to a method whose contract claims that it may be repeated freely, which is not true: the
//! storm then shows what it is that deduplication prevents, and fails.

#[path = "../contracts/mod.rs"]
mod api;
mod child;
mod client;
mod ledger;
mod options;
mod report;
mod server;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use child::Child;
use options::{Command, Storm};
use report::{Report, Verdict, thousands};
use selfsame_relay::Relay;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Storm(storm)) => run(&storm).await,
        Ok(Command::Server { log }) => server::run(&log).await.map(|()| ExitCode::SUCCESS),
        Ok(Command::Client(options)) => client::run(options).await.map(|()| ExitCode::SUCCESS),
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("retry_storm: {why}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("retry_storm: {error}");
        ExitCode::from(2)
    })
}

async fn run(storm: &Storm) -> Result<ExitCode> {
    println!("{storm}");
    let folder = tempfile::tempdir()?;
    // Whichever way this ends, the children end with it: they are killed when their handles are dropped.
    let report = tokio::select! {
        report = weather(storm, folder.path()) => report?,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    };
    print!("{report}");
    if report.verdict.passed() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("The logs are kept in {}", folder.keep().display());
    Ok(ExitCode::FAILURE)
}

/// Starts all three parties, shows progress until the client is done, and compares the logs.
async fn weather(storm: &Storm, folder: &Path) -> Result<Report> {
    let (effects, told) = (folder.join("effects.log"), folder.join("told.log"));
    let started = Instant::now();
    let mut server = Child::start("server", [&effects])?;
    let endpoint = server.line_after("listening on ").await?;
    let relay = Relay::start(storm.seed, storm.faults).await?;
    relay.point_at(Some(endpoint.trim_start_matches("tcp://").parse()?));
    let mut client = Child::start("client", storm.client_arguments(relay.endpoint(), &told))?;

    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    while client.count("finished") < storm.calls {
        tokio::select! {
            changed = client.changed() => changed?,
            ended = server.changed() => ended?,
            _ = every_second.tick() => progress(started, storm, &client, &relay),
        }
    }
    let took = started.elapsed();
    // What the relay still holds arrives when its calls are long done; it must have no effect either.
    while relay.holds_messages() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (client, server) = (client.stop().await?, server.stop().await?);
    let verdict = Verdict::new(&ledger::read(&effects)?, &ledger::read(&told)?, storm.calls);
    Ok(Report { verdict, client, server, relay: relay.counts(), took })
}

fn progress(started: Instant, storm: &Storm, client: &Child, relay: &Relay) {
    println!(
        "{:>4} s {:>7} of {} calls, {} attempts; {}",
        started.elapsed().as_secs(),
        thousands(client.count("finished")),
        thousands(storm.calls),
        thousands(client.count("attempts")),
        relay.counts(),
    );
}
