//! The same echo over selfsame and over what would be used instead, measured in one run: `cargo run --release -p peer-bench -- --quick`.
//!
//! Client and server are processes, pinned to different cores; all peers take turns in each round, and what counts is the ratio of what they
//! came to in the same rounds. `docs/performance.md` says how to read it. This is no test: a goal that is not reached is said, and nothing fails.

selfsame::include_contracts!(mod api);

#[allow(clippy::all, clippy::unimplemented, missing_docs)]
mod plain_capnp {
    include!(concat!(env!("OUT_DIR"), "/plain_capnp.rs"));
}

mod broadcasts;
mod certificates;
mod connections;
mod events;
mod goals;
mod load;
mod memory;
mod options;
mod peer;
mod peers;
mod plot;
mod process;
mod report;
mod role;
mod rounds;
mod size;

use std::path::Path;
use std::process::ExitCode;

use goals::Figures;
use options::Options;
use peer::Peer;
use process::Placement;
use report::{Machine, Report, Taking};

/// Whatever can go wrong.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ran = match &words[..] {
        [role, rest @ ..] if ["serve", "drive", "publish", "subscribe"].contains(&role.as_str()) => {
            play(role, rest)
        }
        words => Options::parse(words).and_then(|options| bench(&options, words)),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A child's life.
fn play(role: &str, words: &[String]) -> Result<()> {
    let (parent, rest) = words.split_first().ok_or("roles are for children of this program")?;
    process::die_with(parent)?;
    let arguments = role::Arguments::parse(rest)?;
    let peer = peers::find(&arguments.peer).ok_or("no such peer")?;
    role::play(role, &arguments, peer.as_ref())
}

/// The parent's.
fn bench(options: &Options, words: &[String]) -> Result<()> {
    if options.help {
        println!("{}", options::HELP);
        return Ok(());
    }
    if let Some(unknown) = options.only.iter().flatten().find(|name| peers::find(name).is_none()) {
        return Err(format!("{unknown:?} is no peer; see --list").into());
    }
    let all: Vec<_> = peers::all().into_iter().filter(|peer| takes_part(options, peer.as_ref())).collect();
    let taking: Vec<_> = all.iter().map(|peer| Taking::of(peer.as_ref())).collect();
    if options.list {
        for Taking { name, about, missing } in &taking {
            println!(
                "{name:<22}{about}{}",
                missing.as_ref().map(|why| format!(" [missing: {why}]")).unwrap_or_default()
            );
        }
        return Ok(());
    }
    let placement = Placement::here()?;
    let machine = Machine::here(&placement);
    let present: Vec<_> = all.into_iter().filter(|peer| peer.missing().is_none()).collect();
    let times = options.times();
    let calls = rounds::measure(options, &present, &placement, &times);
    let mut events = broadcasts::Measured::default();
    if !options.gate && !options.no_events {
        events = broadcasts::measure(options, &present, &placement, &times);
    }
    let (connections, failures) = connections::measure(options.quick, &present, &placement, &times);
    events.failures.extend(failures);
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let target = Path::new(&target);
    let size = size::of_account_server(target);
    let goals = goals::goals(
        options.gate,
        &Figures { calls: &calls, events: &events, connections: &connections, size },
    );
    let command = format!("peer-bench {}", words.join(" "));
    let report = Report { command, machine, peers: taking, calls, events, connections, goals };
    print!("{}", report.table());
    println!("\nwritten: {}", report.write(&target.join("peer-bench"))?.display());
    Ok(())
}

fn takes_part(options: &Options, peer: &dyn Peer) -> bool {
    let beside_it = ["raw", "zeromq", "selfsame", "selfsame-spinOff", "selfsame-tls"];
    let belongs_to_gate = peer.name().starts_with("gate-") || beside_it.contains(&peer.name());
    options.wants(peer.name()) && (!options.gate || belongs_to_gate)
}
