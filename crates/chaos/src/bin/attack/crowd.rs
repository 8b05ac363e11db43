//! Attacks by number: connections that are open and say nothing. A crowd is a process of its own, with descriptors of its own.
//!
//! An idle connection costs at most 16 KiB, of which the victim's own memory holds 8; as many as it takes in are what its descriptors are enough for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use futures::future::try_join_all;
use futures::{StreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use selfsame_chaos::Result;
use selfsame_chaos::child::{self, Arguments};

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told};
use crate::peer::Peer;
use crate::process::Process;
use crate::secure::{Certificates, Who};
use crate::wire::Wire;

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!("idle-from-one", idle_from_one, 200, "10,000 idle connections from one address"),
        attack!(
            "idle-from-many",
            idle_from_many,
            200,
            "10,000 idle connections from a hundred addresses, to server and publisher"
        ),
    ]
}

/// Connections of one process, which may have no more than 1,024 descriptors if nothing else was allowed.
const EACH: usize = 2500;
/// Connections that it makes at once.
const AT_ONCE: usize = 32;

async fn idle_from_one(field: &Field) -> Outcome {
    let from = field.new_host();
    let crowds = (0..4).map(|_| gather(field, Port::Server, from, 1));
    let _crowds = try_join_all(crowds).await?;
    is_open_to_others(field).await?;
    Ok(Told::by(Port::Server.gate(&["turned_away_by_address"]), 1)
        .and(Port::Server.gate(&["accepted"]), 4 * each(field)))
}

async fn idle_from_many(field: &Field) -> Outcome {
    let crowds = (0..4_u16).map(|number| {
        gather(field, Port::BOTH[usize::from(number) % 2], field.host(1000 + 100 * number), 25)
    });
    let _crowds = try_join_all(crowds).await?;
    Ok(Port::BOTH.iter().map(|port| Told::by(port.gate(&["accepted"]), 2 * each(field))).sum())
}

fn each(field: &Field) -> u64 {
    field.scaled(EACH) as u64
}

/// Another address is welcome.
async fn is_open_to_others(field: &Field) -> Result<()> {
    Peer::join(field).await.map_err(|error| format!("a newcomer from another address: {error}"))?;
    Ok(())
}

async fn gather(field: &Field, port: Port, from: Ipv4Addr, hosts: usize) -> Result<Process> {
    let arguments = Arguments::default()
        .with("to", field.address(port))
        .with("kind", port.peer())
        .with("from", from)
        .with("hosts", hosts)
        .with("count", each(field));
    let arguments = field.certificates.iter().fold(arguments, |arguments, certificates| {
        arguments.with("certificates", certificates.folder().display())
    });
    Process::start("crowd", &arguments, Path::new("/dev/null")).await
}

/// In a child: connects so often, and holds what it gets until it is dismissed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let to: SocketAddr = arguments.get("to")?;
    let kind: String = arguments.get("kind")?;
    let from: Ipv4Addr = arguments.get("from")?;
    let hosts: u32 = arguments.get("hosts")?;
    let count: u32 = arguments.get("count")?;
    let certificates = arguments.find("certificates").map(|folder| Certificates::at(Path::new(folder)));
    let connector = certificates.map(|certificates| certificates.connector(Who::Mallory)).transpose()?;
    let comes = async |number: u32| {
        let from = Ipv4Addr::from_bits(from.to_bits() + number % hosts);
        let mut wire = Wire::connect(from, to, connector.as_ref()).await.ok()?;
        wire.shake(&kind, b"").await.ok()?;
        Some(wire)
    };
    let open: Vec<Wire<'_>> = stream::iter(0..count)
        .map(comes)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wire| wire)
        .collect()
        .await;
    println!("ready open={}", open.len());
    let mut orders = child::orders();
    while orders.recv().await.is_some() {}
    Ok(())
}
