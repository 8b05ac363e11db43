//! Whatever keeps records beyond the life of a server, as the world sees it.

use selfsame::protocol::store::{Op, Opened};
use selfsame::protocol::{Level, Registration};

use crate::client::Purpose;
use crate::database::{Asker, Database, Luck, Step};
use crate::file::File;
use crate::server;

/// A store.
#[derive(Clone, Debug)]
pub enum Store {
    /// None: records live in the server.
    Memory,
    /// A file.
    File(File),
    /// A database.
    Database(Database),
}

/// What an onlooker learns from a step of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// A call was taken in, under the registration of this number.
    pub starts: Option<(Purpose, u8)>,
    /// An effect was committed.
    pub effect: Option<Purpose>,
}

impl From<&Step> for News {
    fn from(step: &Step) -> Self {
        let starts = step.starts.map(|(purpose, registration)| (purpose, registration.0 as u8));
        News { starts, effect: step.effect }
    }
}

impl Store {
    /// An empty store of this level.
    pub fn new(level: Level) -> Self {
        match level {
            Level::Memory => Store::Memory,
            Level::Durable => Store::File(File::default()),
            Level::Shared | Level::Atomic => Store::Database(Database::default()),
        }
    }

    /// A life of a server opens it.
    pub fn opens(&mut self, index: u8, life: u8) -> Opened {
        match self {
            Store::Memory => {
                let generation = server::incarnation(index, life).0;
                Opened { store: 1, generation, ..Opened::default() }
            }
            Store::File(file) => file.opens(),
            Store::Database(database) => database.opens(),
        }
    }

    /// A server crashes, when so many of the operations that it asked for are done.
    pub fn crashes<'a>(&mut self, server: u8, done: impl Iterator<Item = &'a Op>) {
        match self {
            Store::Memory => {}
            Store::File(file) => done.for_each(|op| {
                file.does(op);
            }),
            Store::Database(database) => database.crashes(server),
        }
    }

    /// Does the next step of an operation. None: it has to wait, or cannot go this way.
    pub fn does(&mut self, asker: Asker, op: &Op, luck: Luck) -> Option<Step> {
        match self {
            Store::Memory => None,
            Store::File(file) => (luck == Luck::Good).then(|| file.does(op).into()),
            Store::Database(database) => database.does(asker, op, luck),
        }
    }

    /// Whether the session is there; in memory, and in a file, the server itself knows best.
    pub fn knows(&self, registration: Registration) -> Option<bool> {
        match self {
            Store::Memory | Store::File(_) => None,
            Store::Database(database) => Some(database.sessions().any(|session| session == registration)),
        }
    }

    /// Whether all numbers below are closed for whoever opens it next.
    pub fn has_closed(&self, registration: Registration, below: u64) -> bool {
        match self {
            Store::Memory => true,
            Store::File(file) => file.has_closed(registration, below),
            Store::Database(database) => database.has_closed(registration, below),
        }
    }
}
