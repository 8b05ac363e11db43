//! Goal: over `tls://` nobody overhears or impersonates anybody, records belong to who made them, and who fails to prove himself disturbs nobody.
//!
//! Method: certificates are made by the tests, in temporary folders. Clients, servers and sockets are the real ones; what an honest client would never
//! send is sent by rustls alone, or by hand over plain TCP. Nothing sleeps: tests wait for handshakes and counters.

#[path = "../../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "../events/contract.rs"]
#[allow(dead_code)]
mod contract;
mod events;
#[path = "../statements/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "../events/peers.rs"]
#[allow(dead_code)]
mod peers;
mod principals;
mod refusals;
mod reload;
mod service;
mod setup;
#[path = "../gate/stranger.rs"]
#[allow(dead_code)]
mod stranger;
mod told;
#[path = "../transport/mod.rs"]
mod transport;

use transport::certificates;
