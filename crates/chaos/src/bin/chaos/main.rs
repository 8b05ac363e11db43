//! The chaos run: three servers and six clients as processes of their own, over a real store, behind relays that lose, double and delay; killed, stopped and starved for
//! minutes, then healed, then judged.
//!
//! A [`keeper`] occupies each place with one life after another; the [`weather`] decides what goes wrong; [`server`] and [`client`] are what the lives do, and write it down;
//! the [`verdict`] holds what they wrote against what selfsame promises. The exit code is 0 only if nothing was broken.

mod asked;
mod bugs;
mod client;
mod database;
mod effects;
mod keeper;
mod options;
mod places;
mod report;
mod run;
mod server;
mod store;
mod tally;
mod verdict;
mod weather;

use std::process::ExitCode;

use options::Command;
use selfsame_chaos::Result;
use selfsame_chaos::child::{self, Arguments};

// One thread: children die with the thread that has started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let done = match words.peek().map(String::as_str) {
        Some(role @ ("server" | "client" | "rival")) => {
            let role = role.to_owned();
            act(&role, words.skip(1)).await
        }
        _ => match options::parse(words) {
            Ok(Command::Run(options)) => run::to_the_end(&options).await,
            Ok(Command::PlantedBugs { seed }) => bugs::plant_all(seed).await,
            Ok(Command::Help) => {
                println!("{}", options::HELP);
                return ExitCode::SUCCESS;
            }
            Err(why) => {
                eprintln!("chaos: {why}\n\n{}", options::HELP);
                return ExitCode::from(2);
            }
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("chaos: {error}");
        ExitCode::from(2)
    })
}

/// In a child.
async fn act(role: &str, words: impl Iterator<Item = String>) -> Result<ExitCode> {
    let arguments = Arguments::parse(words)?;
    child::die_with_parent(&arguments)?;
    if arguments.find("trace").is_some() {
        let level = tracing_subscriber::filter::LevelFilter::DEBUG;
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(level).init();
    }
    match role {
        "server" => server::run(&arguments).await,
        "rival" => server::rival(&arguments).await,
        _ => client::run(&arguments).await,
    }
}
