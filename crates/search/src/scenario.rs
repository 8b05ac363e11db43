//! What one search explores: who takes part, and how much of each trouble there may be. The bounds are what makes the search end; within them it leaves
//! nothing out.

use selfsame::protocol::Level;

/// The bounds of one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// The store beneath the servers.
    pub level: Level,
    /// Server processes over one store.
    pub replicas: u8,
    /// Clients.
    pub clients: u8,
    /// Calls of each client.
    pub calls: u8,
    /// How often a client sends a call by itself; what a new welcome makes necessary comes on top.
    pub attempts: u32,
    /// Connections of each client, one after another.
    pub dials: u8,
    /// Hellos of each client, over all its connections.
    pub hellos: u32,
    /// Welcomes in all: of a hello that arrives twice there are two.
    pub welcomes: u8,
    /// Crashes of servers.
    pub crashes: u8,
    /// Sessions that are idle for longer than their retention.
    pub evictions: u8,
    /// Calls that are not run although they could be: shed, too late, or by a handler that says that it did nothing.
    pub refusals: u8,
    /// Commits of which the server never hears.
    pub doubts: u8,
    /// Leases that expire while their owner lives.
    pub leases: u8,
    /// Calls that are dropped by their callers.
    pub cancels: u8,
    /// Steps of a server's wall clock.
    pub clocks: u8,
    /// Different intentions have the same parameters.
    pub alike: bool,
    /// The second client is a copy of the first, made after its first welcome.
    pub copied: bool,
    /// The second client is a later life of the first, under the same key.
    pub keyed: bool,
}

/// One client, one server, one call, no trouble.
pub const PEACE: Scenario = Scenario {
    name: "",
    level: Level::Memory,
    replicas: 1,
    clients: 1,
    calls: 1,
    attempts: 2,
    dials: 2,
    hellos: 3,
    welcomes: 3,
    crashes: 0,
    evictions: 0,
    refusals: 0,
    doubts: 0,
    leases: 0,
    cancels: 0,
    clocks: 0,
    alike: false,
    copied: false,
    keyed: false,
};

/// The names under which scenarios are asked for.
pub const STORES: [&str; 6] = ["shared", "atomic", "memory", "durable", "keyed", "copied"];

/// What CI explores of a store; all of it takes some minutes.
pub fn standard(store: &str) -> Vec<Scenario> {
    match store {
        "memory" => single(Level::Memory),
        "durable" => single(Level::Durable),
        "shared" => replicated(Level::Shared),
        "atomic" => replicated(Level::Atomic),
        "keyed" => keyed(),
        "copied" => copied(),
        _ => Vec::new(),
    }
}

/// More of everything, for an evening.
pub fn deep(store: &str) -> Vec<Scenario> {
    let more = |scenario: Scenario| Scenario {
        attempts: scenario.attempts + 1,
        hellos: scenario.hellos + 1,
        crashes: scenario.crashes.max(1),
        refusals: scenario.refusals.max(1),
        ..scenario
    };
    standard(store).into_iter().map(more).collect()
}

fn single(level: Level) -> Vec<Scenario> {
    let with = |name| Scenario { name, level, ..PEACE };
    vec![
        Scenario { crashes: 1, refusals: 1, ..with("one call, a crash, a refusal") },
        Scenario { evictions: 1, refusals: 1, ..with("one call, an eviction, a refusal") },
        Scenario { attempts: 1, crashes: 1, evictions: 1, ..with("one call, a crash, an eviction") },
        Scenario { calls: 2, attempts: 1, crashes: 1, ..with("two calls, a crash") },
        Scenario { calls: 2, attempts: 1, welcomes: 2, refusals: 1, ..with("two calls, a refusal") },
        Scenario { calls: 2, attempts: 1, welcomes: 2, evictions: 1, ..with("two calls, an eviction") },
        Scenario { clients: 2, attempts: 1, dials: 1, hellos: 2, crashes: 1, ..with("two clients, a crash") },
        Scenario { dials: 1, cancels: 1, refusals: 1, ..with("a call that is dropped, a refusal") },
    ]
}

fn replicated(level: Level) -> Vec<Scenario> {
    let with = |name| Scenario { name, level, replicas: 2, attempts: 1, hellos: 2, welcomes: 2, ..PEACE };
    vec![
        Scenario { evictions: 1, ..with("two replicas, an eviction") },
        Scenario { crashes: 1, ..with("two replicas, a crash") },
        Scenario { doubts: 1, ..with("two replicas, a commit in doubt") },
        Scenario { leases: 1, ..with("two replicas, an expired lease") },
        Scenario { refusals: 1, ..with("two replicas, a refusal") },
        Scenario { crashes: 1, leases: 1, doubts: 1, ..with("two replicas, a crash, a lease, a doubt") },
        Scenario { attempts: 2, welcomes: 3, ..with("two replicas, two attempts") },
    ]
}

fn keyed() -> Vec<Scenario> {
    let with = |name, level| Scenario { name, level, clients: 2, dials: 1, hellos: 2, keyed: true, ..PEACE };
    vec![
        Scenario { clocks: 2, refusals: 1, ..with("a key resumed, clocks that step", Level::Memory) },
        Scenario { attempts: 1, crashes: 1, ..with("a key resumed, a crash", Level::Durable) },
        Scenario { attempts: 1, clocks: 1, ..with("a key resumed, a clock that steps", Level::Durable) },
    ]
}

fn copied() -> Vec<Scenario> {
    let with = |name, level| Scenario { name, level, clients: 2, attempts: 1, copied: true, ..PEACE };
    vec![
        Scenario { hellos: 2, ..with("a client that is copied", Level::Memory) },
        Scenario {
            hellos: 1,
            dials: 1,
            crashes: 1,
            ..with("a client that is copied, a crash", Level::Durable)
        },
    ]
}

impl Scenario {
    /// The intention behind a call of a client. Lives of one key share it.
    pub fn purpose(&self, client: u8, call: u8) -> u8 {
        if self.keyed { 0 } else { client * self.calls + call }
    }

    /// Several servers write to the store.
    pub fn is_shared(&self) -> bool {
        self.level.is_shared()
    }

    /// Nothing can come between a handler's effect and its answer that would not be the same before or after both.
    pub fn answers_at_once(&self) -> bool {
        self.level == Level::Memory
    }

    /// The call behind an intention, at its client.
    pub fn call(&self, purpose: u8) -> u8 {
        if self.keyed { 0 } else { purpose % self.calls }
    }
}
