//! The order of measuring what connections occupy: few of them, then many; the difference is what each takes.

use std::time::Duration;

use serde::Serialize;

use crate::Result;
use crate::memory::Occupied;
use crate::options::Times;
use crate::peer::Peer;
use crate::process::{Order, Placement, Said};
use crate::rounds::{Failure, Pair};

/// So many are there before the first look, so that what all share does not count.
const FEW: usize = 50;

/// KiB that one connection takes.
#[derive(Clone, Debug, Serialize)]
pub struct Connection {
    pub peer: String,
    /// How many were there.
    pub connections: usize,
    pub idle_client: f64,
    pub idle_server: f64,
    /// After each has had 16 calls of 16 KiB in flight for a moment.
    pub burst_client: f64,
    pub burst_server: f64,
}

/// Measures all peers that run on connections of their own.
pub fn measure(
    quick: bool,
    peers: &[Box<dyn Peer>],
    placement: &Placement,
    times: &Times,
) -> (Vec<Connection>, Vec<Failure>) {
    let many = if quick { 250 } else { 1000 };
    let (mut measured, mut failures) = (Vec::new(), Vec::new());
    for peer in peers.iter().filter(|peer| peer.has_own_connections()) {
        eprintln!("connections, {}", peer.name());
        match times.connections().and_then(|()| of_one(peer.as_ref(), many, placement)) {
            Ok(connection) => measured.push(connection),
            Err(error) => {
                eprintln!("  {}: {error}", peer.name());
                failures.push(Failure::new(peer.name(), "connections", &error));
            }
        }
    }
    (measured, failures)
}

fn of_one(peer: &dyn Peer, many: usize, placement: &Placement) -> Result<Connection> {
    let mut pair = Pair::start(peer, 1, placement)?;
    let mut hold = |connections, burst| {
        let order = Order::Hold { connections, burst, server: pair.serving.clone() };
        match pair.client.ask(&order, Duration::from_secs(60))? {
            Said::Holds(occupied) => Ok(occupied),
            other => Err(crate::Error::from(format!("the client answers {other:?}"))),
        }
    };
    let few = hold(FEW, false)?;
    let idle = hold(many, false)?;
    let burst = hold(many, true)?;
    let each = |now: u64, then: u64, connections: usize| (now as f64 - then as f64) / connections as f64;
    let idle_of = |of: fn(&Occupied) -> u64| each(of(&idle), of(&few), many - FEW);
    // What a burst adds, it adds to all.
    let burst_of = |of: fn(&Occupied) -> u64| idle_of(of) + each(of(&burst), of(&idle), many);
    Ok(Connection {
        peer: peer.name().into(),
        connections: many,
        idle_client: idle_of(|occupied| occupied.client),
        idle_server: idle_of(|occupied| occupied.server),
        burst_client: burst_of(|occupied| occupied.client),
        burst_server: burst_of(|occupied| occupied.server),
    })
}
