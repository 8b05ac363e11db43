//! The corpus of attacks: an ordinary server and publisher as a process of its own, a good client as another, and one attacker after the other against them, on loopback.
//!
//! The [`victim`] has the defaults of the library; the good [`client`] calls it at a steady rate and hears its events. The [`arena`] lets both run in quiet, then under an attack
//! of the [`corpus`], and judges: the process lives, the client's calls succeed about as fast as before, memory stays under the attack's cap, and the counters tell of it.
//! The exit code is 0 only if no attack got through.

mod arena;
mod client;
mod corpus;
mod crowd;
mod entries;
mod field;
mod frames;
mod greeting;
mod lap;
mod memory;
mod options;
mod peer;
mod process;
mod publishing;
mod replies;
mod report;
mod secure;
mod tls;
mod victim;
mod wire;

use std::process::ExitCode;

use options::Command;
use selfsame_chaos::Result;
use selfsame_chaos::child::{self, Arguments};

// One thread: children die with the thread that has started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let done = match words.peek().map(String::as_str) {
        Some(role @ ("victim" | "client" | "crowd")) => {
            let role = role.to_owned();
            act(&role, words.skip(1)).await
        }
        _ => match options::parse(words) {
            Ok(Command::Run(options)) => arena::run(&options).await,
            Ok(Command::List) => {
                corpus::all(true).iter().for_each(|attack| println!("{:<20}{}", attack.name, attack.about));
                return ExitCode::SUCCESS;
            }
            Ok(Command::Help) => {
                println!("{}", options::HELP);
                return ExitCode::SUCCESS;
            }
            Err(why) => {
                eprintln!("attack: {why}\n\n{}", options::HELP);
                return ExitCode::from(2);
            }
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("attack: {error}");
        ExitCode::from(2)
    })
}

/// In a child.
async fn act(role: &str, words: impl Iterator<Item = String>) -> Result<ExitCode> {
    let arguments = Arguments::parse(words)?;
    child::die_with_parent(&arguments)?;
    match role {
        "victim" => victim::run(&arguments).await,
        "client" => client::run(&arguments).await,
        _ => crowd::run(&arguments).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
