//! What can happen next.

use bytes::Bytes;
use selfsame::protocol::wire::Entry;
use selfsame_check::Fact;

use selfsame::protocol::Key;
use selfsame::protocol::store::StoreEvent;

/// One life of a process: its place in the list, and the how-manieth life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub usize, pub u64);

/// One intention.
pub type Purpose = u64;

/// An entry on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The connection on which it was sent.
    pub connection: u64,
    /// It was held by something between, which delivers it on whatever connection there is.
    pub held: bool,
    /// The entry.
    pub entry: Box<Entry>,
}

/// A key that somebody has called under.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// The key.
    pub key: Key,
    /// The intention behind it.
    pub purpose: Purpose,
    /// The parameters.
    pub body: Bytes,
}

/// What happens at its time.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client makes a call, and plans the next.
    Call(Life),
    /// A client asks again under a key.
    Ask(Life, u128),
    /// A client dials.
    Dial(Life),
    /// A connection stands.
    Connected(u64),
    /// One end learns that its connection is gone: true is the client.
    Gone(u64, bool),
    /// A client's machine has something to do.
    ClientTick(Life),
    /// A client process begins.
    ClientBoot(usize),
    /// An entry arrives at a server.
    ToServer(Parcel),
    /// An entry arrives at a client.
    ToClient(Parcel),
    /// A server process begins.
    ServerBoot(usize),
    /// A server's machine has something to do.
    ServerTick(Life),
    /// A server keeps house.
    House(Life),
    /// A draining server ends.
    Drained(Life),
    /// A handler has its effect.
    Effect(Life, u64),
    /// A handler answers.
    Finish(Life, u64),
    /// An effect that was on its way when its handler died.
    LateEffect(Box<Fact>),
    /// A server hears from its store.
    Told(Life, Box<StoreEvent>),
    /// A file's batch is on disk, or not.
    Flushed(usize, Life),
    /// A file is opened.
    Open(usize, Life),
    /// An operation of a database goes a step on.
    Step(usize, u64),
    /// A lock was waited for long enough.
    LockTimeout(usize, u64),
    /// A transaction whose end was in doubt ends.
    Resolve(usize, u64, bool),
    /// A transaction was idle for too long, or its client is found to be dead.
    Idle(usize, u64),
    /// A server renews its lease.
    Lease(Life),
    /// Somebody makes a backup of every database.
    Backup,
    /// A server can reach its database again.
    Uncut(Life),
    /// A fault of this kind.
    Fault(Kind),
    /// A direction between two processes works again.
    Mended(usize, usize),
    /// A disk has room again.
    Repaired(usize),
    /// From now on nothing goes wrong.
    Heal,
}

/// Faults that come by themselves, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// See the profile's fields of these names.
    Partition,
    /// A connection is reset.
    Reset,
    /// A client dies.
    ClientCrash,
    /// A client is copied.
    Fork,
    /// A server dies.
    ServerCrash,
    /// A server ends in good order.
    Drain,
    /// A process stands still.
    Pause,
    /// A wall clock steps.
    Clock,
    /// A server cannot reach its database.
    CutStore,
    /// The database is restarted.
    RestartStore,
    /// A disk fills, or a sync fails.
    BrokenDisk,
    /// The store is lost.
    LostStore,
    /// The store is put back to an earlier state.
    RestoredStore,
}
