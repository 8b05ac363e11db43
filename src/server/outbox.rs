//! What is said to each connection: gathered to one message a batch, handed to the port, never waited for.

use bytes::Bytes;
use hashbrown::HashMap;

use super::shares::Source;
use crate::io::{PeerAddress, Port, SendError};
use crate::principal::Principal;
use crate::protocol::wire::{Encoder, Entry, Limits};
use crate::protocol::{ConnectionId, Registration};
use crate::sabotage::kill_point;

/// The connections that are open, with what is to be sent on each.
pub(super) struct Outbox {
    limits: Limits,
    peers: HashMap<ConnectionId, Peer>,
    /// Connections with something to send, once each.
    unsent: Vec<ConnectionId>,
    /// Messages that a connection did not take.
    refused: u64,
}

struct Peer {
    principal: Principal,
    source: Source,
    encoder: Encoder,
    /// A plain REQ socket: each message begins with an empty frame, and so must each reply.
    envelope: bool,
    /// Welcomed on it, the latest last. A copy of a hello may have been welcomed as another session, and which of them the client took is not known.
    registrations: Vec<Registration>,
    /// Sessions that were registered for it.
    registered: u32,
    /// Its hellos that wait for the store.
    greetings: u32,
    /// What it said that is of no use, weighed.
    useless: u32,
}

/// Sessions that one connection may have registered. An honest client needs one, and another each time that the server forgot it.
const REGISTRATIONS: u32 = 64;

/// Useless entries; with so many its connection is closed. Each is answered, with more bytes than it need have; and who tries things by hand makes a few.
const USELESS: u32 = 256;
/// As so many weighs a message of which nothing can be read.
pub(super) const USELESS_MESSAGE: u32 = 16;

impl Outbox {
    pub fn new(limits: Limits) -> Self {
        Outbox { limits, peers: HashMap::new(), unsent: Vec::new(), refused: 0 }
    }

    pub fn open(&mut self, connection: ConnectionId, principal: Principal, address: PeerAddress) {
        let peer = Peer {
            source: Source::of(connection, address, &principal),
            principal,
            encoder: Encoder::new(self.limits),
            envelope: false,
            registrations: Vec::new(),
            registered: 0,
            greetings: 0,
            useless: 0,
        };
        self.peers.insert(connection, peer);
    }

    /// Who is at the other end of an open connection.
    pub fn principal(&self, connection: ConnectionId) -> Option<&Principal> {
        self.peers.get(&connection).map(|peer| &peer.principal)
    }

    pub fn close(&mut self, connection: ConnectionId) {
        self.peers.remove(&connection);
    }

    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.peers.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whose calls on an open connection count together.
    pub fn source(&self, connection: ConnectionId) -> Option<Source> {
        self.peers.get(&connection).map(|peer| peer.source)
    }

    /// Messages that were not sent, because their connection had gone or did not read.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The peer is a REQ socket.
    pub fn use_envelope(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.envelope = true;
        }
    }

    /// Whether another hello is answered: one connection is one client, and must not fill the table of sessions. If so, it counts as
    /// asked until it is [`welcomed`](Outbox::welcomed) or [turned away](Outbox::turned_away).
    pub fn may_greet(&mut self, connection: ConnectionId) -> bool {
        let Some(peer) = self.peers.get_mut(&connection) else { return false };
        let may = peer.registered + peer.greetings < REGISTRATIONS;
        peer.greetings += u32::from(may);
        may
    }

    pub fn turned_away(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.greetings = peer.greetings.saturating_sub(1);
        }
    }

    pub fn welcomed(
        &mut self,
        connection: ConnectionId,
        registration: Registration,
        resume: Option<Registration>,
    ) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.greetings = peer.greetings.saturating_sub(1);
            peer.registered += u32::from(resume != Some(registration));
            // As many as may be registered, and then those that are resumed in turns: the oldest goes.
            peer.registrations.retain(|known| *known != registration);
            if peer.registrations.len() >= REGISTRATIONS as usize {
                peer.registrations.remove(0);
            }
            peer.registrations.push(registration);
        }
    }

    /// Whom a ping on the connection keeps alive.
    pub fn registrations(&self, connection: ConnectionId) -> &[Registration] {
        self.peers.get(&connection).map_or(&[], |peer| &peer.registrations)
    }

    /// Puts an entry into the connection's next message; sends it if that is full.
    pub fn say(&mut self, to: ConnectionId, entry: Entry, port: &mut Port) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        if peer.encoder.is_empty() {
            self.unsent.push(to);
        }
        if let Err(not_taken) = peer.encoder.push(entry) {
            // Sent as soon as it is full, so it has room: the entry itself exceeds a limit that was checked when it was made.
            tracing::error!(%to, error = %not_taken, "an entry was not sent");
        }
        if peer.encoder.is_full() {
            self.send(to, port);
        }
    }

    /// Something of no use came from it: answers, and closes the connection if that was too often so. Returns whether it still listens.
    pub fn reproach(
        &mut self,
        from: ConnectionId,
        weight: u32,
        answer: Option<Entry>,
        port: &mut Port,
    ) -> bool {
        if let Some(answer) = answer {
            self.say(from, answer, port);
        }
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if peer.useless >= USELESS {
            return false;
        }
        peer.useless += weight;
        if peer.useless < USELESS {
            return true;
        }
        port.complain("nothing but useless entries", from, &"closed");
        self.send(from, port);
        port.close(from);
        false
    }

    /// Sends what there is to send.
    pub fn flush(&mut self, port: &mut Port) {
        let mut unsent = std::mem::take(&mut self.unsent);
        for to in unsent.drain(..) {
            self.send(to, port);
        }
        self.unsent = unsent; // for its memory
    }

    fn send(&mut self, to: ConnectionId, port: &mut Port) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        if peer.encoder.is_empty() {
            return;
        }
        let mut frames = peer.encoder.finish();
        if peer.envelope {
            frames.insert(0, Bytes::new());
        }
        match port.send(to, frames) {
            Ok(()) => kill_point!("sent"),
            // Its `Closed` is under way.
            Err(SendError::Gone) => self.refused += 1,
            // It does not read, and the port closes it. The records keep its replies for when it comes back.
            Err(SendError::Full) => {
                self.refused += 1;
                tracing::warn!(%to, "closed: the peer does not read its replies");
            }
        }
    }
}
