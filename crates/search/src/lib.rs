//! Every state that the real machines of selfsame can get into, in the small.
pub mod ablate;
pub mod client;
pub mod database;
pub mod explore;
pub mod file;
pub mod intern;
pub mod message;
pub mod scenario;
pub mod seen;
pub mod server;
pub mod store;
pub mod trace;
pub mod world;
