//! The simulator: clients, servers, stores and the network between them, all in one thread under virtual time, decided by one seed. The machines are the
//! real ones (`selfsame::protocol`); the shells around them, the stores and the network are simulated, and at their worst.
//!
//! It is not a model of the protocol: it knows no rule of it. What happened is told to `selfsame_check`, which judges from outside.

pub mod bugs;
pub mod campaign;
mod client;
pub mod coverage;
mod dice;
mod event;
mod faults;
mod handler;
mod log;
mod network;
pub mod options;
mod profile;
mod server;
mod store;
mod world;

pub use log::Tracing;
pub use world::{Outcome, run};
