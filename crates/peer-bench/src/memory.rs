//! What a connection occupies, in the client's process and in the server's: seen from many of them, idle and after a burst.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::load::Load;
use crate::peer::{Client, Peer};
use crate::process;

/// Whose memory is looked at.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The client's process.
    pub client: u32,
    /// The server's.
    pub server: Vec<u32>,
}

/// Memory in use, in KiB.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Occupied {
    /// By the client's process.
    pub client: u64,
    /// By the server's.
    pub server: u64,
}

/// What a burst carries, and how much of it is under way: a quarter of a megabyte, as a service under load has it.
const BURST: (usize, usize) = (16, 16 * 1024);

/// Opens connections until `held` has so many; with `burst`, has each make calls in bursts. Then tells what both sides occupy.
pub async fn hold(
    peer: &dyn Peer,
    endpoint: &str,
    held: &mut Vec<Box<dyn Client>>,
    connections: usize,
    burst: bool,
    sides: &Sides,
) -> Result<Occupied> {
    while held.len() < connections {
        let mut client = peer.connect(endpoint.to_owned()).await?;
        // A call, for there are libraries that connect with the first one.
        client.drive(load(1, 64)).await?;
        held.push(client);
    }
    if burst {
        for client in held.iter_mut() {
            client.drive(load(BURST.0, BURST.1)).await?;
        }
    }
    // What is freed later, such as by a timer, does not count as occupied.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let occupied = |ids: &[u32]| process::memory(ids, "VmRSS");
    Ok(Occupied { client: occupied(&[sides.client]), server: occupied(&sides.server) })
}

fn load(in_flight: usize, size: usize) -> Load {
    let payload = Bytes::from(vec![7; size]);
    Load { in_flight, payload, length: Duration::from_millis(1), pace: None, lanes: 1 }
}
