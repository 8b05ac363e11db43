//! All that is compared, one file for each library.

mod capnp_rpc;
mod gate;
mod libzmq;
mod nats;
mod raw;
mod selfsame;
mod tarpc;
// The generated service names it.
pub mod tonic;
mod zeromq;

use crate::Result;
use crate::peer::Peer;

/// All peers, in the order of tables.
pub fn all() -> Vec<Box<dyn Peer>> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(raw::Raw), Box::new(zeromq::ZeroMq)];
    peers.extend(gate::all());
    peers.extend(selfsame::all());
    peers.push(Box::new(libzmq::LibZmq));
    peers.push(Box::new(tarpc::Tarpc));
    peers.push(Box::new(capnp_rpc::CapnpRpc));
    peers.push(Box::new(tonic::Tonic));
    peers.push(Box::new(nats::Nats));
    peers
}

/// The one of this name.
pub fn find(name: &str) -> Option<Box<dyn Peer>> {
    all().into_iter().find(|peer| peer.name() == name)
}

/// Every reply is looked at: a peer that answers something else is not fast.
fn check(is_the_echo: bool) -> Result<()> {
    if is_the_echo { Ok(()) } else { Err("the reply is not the echo of the call".into()) }
}
