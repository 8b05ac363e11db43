//! Every state that the real machines of selfsame can get into, in the small: two clients, two calls, two replicas, a crash, an eviction, a refusal, a commit
//! in doubt, a lease that expires, over a network that loses, repeats, delays and reorders whatever was ever sent. Not a model of the protocol: the clients are
//! `protocol::call::Client`, the servers `protocol::replica::Replica`; only the stores are re-told, by the rules of `protocol::store`.
//!
//! A state of the [`world`] is a handful of numbers, since equal machines get [one number](intern), by their fingerprint; so a machine is asked once for each
//! of its states and inputs, and the [search](explore) goes on with numbers. Time is a choice: a time-out, a deadline, a retention passes when the search says
//! so. [`ablate`] switches off the protocol's rules one by one and has to find what then goes wrong.

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
