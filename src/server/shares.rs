//! Who holds how much of a server: so that no peer, however many calls it makes, leaves nothing for the others.
//!
//! A call has its share from when it is queued or spawned until it has ended. Nobody gets more than seven eighths of anything that there is, so the last eighth is
//! always for somebody else; and the queue is served in turns (see [`queue`](super::queue)). Calls that are
//! answered on the spot hold nothing, and are not counted.

use hashbrown::HashMap;

use crate::io::{Network, PeerAddress};
use crate::principal::Principal;
use crate::protocol::dedup::Execution;
use crate::protocol::{ConnectionId, PrincipalId};

/// Who counts as one peer: a principal; an anonymous one by its address; over a Unix socket, or within the process, each connection by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Principal(PrincipalId),
    Network(Network),
    Connection(ConnectionId),
}

impl Source {
    pub fn of(connection: ConnectionId, address: PeerAddress, principal: &Principal) -> Source {
        if !principal.is_anonymous() {
            return Source::Principal(principal.id());
        }
        address.network().map_or(Source::Connection(connection), Source::Network)
    }
}

/// What one source may have of `all` places, or bytes. All of them, if there are so few that an eighth is none.
pub(super) fn most(all: usize) -> usize {
    all - all / 8
}

#[derive(Default)]
pub(super) struct Shares {
    calls: HashMap<Execution, Held>,
    /// Of sources that hold anything.
    sources: HashMap<Source, Share>,
}

#[derive(Clone, Copy)]
struct Held {
    source: Source,
    bytes: usize,
    running: bool,
}

/// What one source holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub running: usize,
    pub queued: usize,
    /// Of parameters.
    pub bytes: usize,
}

impl Shares {
    pub fn of(&self, source: Source) -> Share {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    /// Whether a further handler, of so many places in all, may run a call of this source.
    pub fn may_run(&self, source: Source, places: usize) -> bool {
        self.of(source).running < most(places)
    }

    /// A call waits for a handler, or a handler runs it.
    pub fn take(&mut self, execution: Execution, source: Source, bytes: usize, running: bool) {
        self.give(execution);
        self.calls.insert(execution, Held { source, bytes, running });
        let share = self.sources.entry(source).or_default();
        share.bytes += bytes;
        *if running { &mut share.running } else { &mut share.queued } += 1;
    }

    /// It has left the queue, or its handler has ended.
    pub fn give(&mut self, execution: Execution) {
        let Some(Held { source, bytes, running }) = self.calls.remove(&execution) else { return };
        let Some(share) = self.sources.get_mut(&source) else { return };
        share.bytes -= bytes;
        *if running { &mut share.running } else { &mut share.queued } -= 1;
        if *share == Share::default() {
            self.sources.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eighth_is_for_others_unless_it_is_none() {
        assert_eq!([0, 1, 7, 8, 1024].map(most), [0, 1, 7, 7, 896]);
    }

    #[test]
    fn what_is_taken_is_given_back_and_nothing_is_kept() {
        let [ann, bob] = [1, 2].map(|id| Source::Connection(ConnectionId(id)));
        let mut shares = Shares::default();
        shares.take(Execution::test(1), ann, 10, false);
        shares.take(Execution::test(2), ann, 20, true);
        shares.take(Execution::test(3), bob, 5, true);
        shares.take(Execution::test(1), ann, 10, true); // out of the queue, to its handler
        assert_eq!(shares.of(ann), Share { running: 2, queued: 0, bytes: 30 });
        assert_eq!(shares.of(bob), Share { running: 1, queued: 0, bytes: 5 });
        for id in [1, 2, 3, 3, 4] {
            shares.give(Execution::test(id));
        }
        assert_eq!(shares.of(ann), Share::default());
        assert!(shares.calls.is_empty() && shares.sources.is_empty());
    }
}
