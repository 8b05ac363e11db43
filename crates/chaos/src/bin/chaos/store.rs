//! Which store the servers of a run have.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use selfsame::Store;
use selfsame_chaos::Result;
use selfsame_chaos::child::Arguments;

/// The level that a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Memory,
    Durable,
    Shared,
    Atomic,
}

impl Level {
    /// Whether the servers are replicas of one store. Else each has its own.
    pub fn is_common(self) -> bool {
        matches!(self, Level::Shared | Level::Atomic)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Memory => "memory",
            Level::Durable => "durable",
            Level::Shared => "shared",
            Level::Atomic => "atomic",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "memory" => Ok(Level::Memory),
            "durable" => Ok(Level::Durable),
            "shared" => Ok(Level::Shared),
            "atomic" => Ok(Level::Atomic),
            _ => Err(format!("{text} is no store: memory, durable, shared, atomic")),
        }
    }
}

/// Shorter than the stops of the weather, so that some are longer than it.
const LEASE: Duration = Duration::from_millis(1_500);

/// The store of one server.
#[derive(Clone, Debug)]
pub struct StoreChoice {
    level: Level,
    /// A file, or a database's address.
    at: String,
}

impl StoreChoice {
    pub fn from_arguments(arguments: &Arguments) -> Result<StoreChoice> {
        Ok(StoreChoice { level: arguments.get("store")?, at: arguments.get("at")? })
    }

    pub fn open(&self) -> Store {
        match self.level {
            Level::Memory => Store::memory(),
            Level::Durable => Store::durable(&self.at),
            Level::Shared => Store::shared(&self.at).lease(LEASE),
            Level::Atomic => Store::atomic(&self.at).lease(LEASE),
        }
    }
}
