//! The network: a set of messages that only grows, apart from those of which nothing can come any more.

use selfsame::protocol::wire::{Answer, Entry};
use selfsame::protocol::{CallId, Refusal, Registration};

use super::{State, World};
use crate::client::{Purpose, Told};
use crate::intern::hashed;
use crate::message::{Message, Way};
use crate::server;

impl World {
    /// Puts messages on their way, and takes those off of which nothing can come any more.
    pub(super) fn carry(&mut self, state: &mut State, sent: &[u32]) {
        let mut net = self.nets.at(state.net).clone();
        net.extend_from_slice(sent);
        net.sort_unstable();
        net.dedup();
        net.retain(|message| self.matters(state, *message));
        self.drop_repeated_ends(&mut net);
        state.net = self.nets.enter(hashed(&net), net);
    }

    /// Of several replies that end a call in the same way one is enough: the first that arrives ends it.
    fn drop_repeated_ends(&self, net: &mut Vec<u32>) {
        if net.len() < 2 || !self.sound {
            return;
        }
        let mut ends: Vec<u32> = Vec::new();
        net.retain(|&message| {
            let Message { way, entry: Entry::Reply(reply) } = self.message(message) else { return true };
            if !ends_call(&reply.answer) {
                return true;
            }
            let same = |other: &u32| match self.message(*other) {
                Message { way: to, entry: Entry::Reply(before) } => {
                    (to, before.registration, before.id, &before.answer)
                        == (way, reply.registration, reply.id, &reply.answer)
                }
                _ => false,
            };
            let repeated = ends.iter().any(same);
            ends.push(message);
            !repeated
        });
    }

    /// Whether a client has an open call of this nonce.
    pub(super) fn waits(&self, state: &State, client: u8, registration: Registration, id: CallId) -> bool {
        let node = self.client(state, client);
        let purpose = node.purpose(registration, id);
        node.lives && purpose.is_some_and(|purpose| self.told(state, client, purpose) == Told::Waits)
    }

    /// What a client was told about an intention.
    pub(super) fn told(&self, state: &State, client: u8, purpose: Purpose) -> Told {
        self.client(state, client).told[self.scenario.call(purpose) as usize]
    }

    /// Whether the server, or the store for it, may know the session now or later.
    pub(super) fn knows(&self, state: &State, server: u8, registration: Registration) -> bool {
        let store = self.stores.at(state.store).knows(registration);
        store.unwrap_or_else(|| self.server(state, server).sessions.contains(&registration))
    }

    /// All numbers below are closed, at the server and, where it would tell them to its next life or to others, in its store.
    fn has_closed(&self, state: &State, server: u8, registration: Registration, below: u64) -> bool {
        let node = self.server(state, server);
        let here = || (1..below).all(|number| node.has_closed(registration, number));
        (self.scenario.is_shared() || here()) && self.stores.at(state.store).has_closed(registration, below)
    }

    /// False only if nothing can come of the message any more, whatever happens.
    fn matters(&self, state: &State, message: u32) -> bool {
        let Message { way, entry } = self.message(message);
        match (way, entry) {
            (Way::Down { client }, Entry::Welcome(welcome)) => {
                self.client(state, *client).awaits == Some(welcome.hello)
            }
            (Way::Down { client }, Entry::Reply(reply)) => {
                self.waits(state, *client, reply.registration, reply.id)
            }
            (Way::Down { .. }, _) => false,
            (Way::Up { .. }, _) if !self.sound => true,
            (Way::Up { client, server }, entry) => self.matters_to_server(state, *client, *server, entry),
        }
    }

    fn matters_to_server(&self, state: &State, client: u8, server: u8, entry: &Entry) -> bool {
        let closed = |registration, below| self.has_closed(state, server, registration, below);
        match entry {
            // Once nobody waits for its welcome, it only closes numbers, or tells a replica of a session.
            Entry::Hello(hello) => {
                self.client(state, client).awaits == Some(hello.id)
                    || hello.resume.is_some_and(|resume| {
                        self.knows(state, server, resume)
                            && !(self.server(state, server).sessions.contains(&resume)
                                && closed(resume, hello.acked_below))
                    })
            }
            // One of an earlier life is asked to say hello first, whatever it is; one of a session that is gone is unknown, and one whose
            // number is closed is stale, for ever.
            Entry::Call(call) => {
                let passed = match call.id {
                    CallId::Sequenced(number) => closed(call.registration, call.acked_below.max(number + 1)),
                    CallId::Keyed(_) => false,
                };
                let life = server::incarnation(server, self.server(state, server).life);
                self.waits(state, client, call.registration, call.id)
                    || call.incarnation == life && self.knows(state, server, call.registration) && !passed
            }
            Entry::Ack(ack) => {
                let news = !ack.closed.is_empty() || !closed(ack.registration, ack.below);
                news && self.knows(state, server, ack.registration)
            }
            Entry::Cancel(cancel) => self.knows(state, server, cancel.registration),
            _ => false,
        }
    }
}

/// Whether the client's call is over with this answer, whichever attempt it is for.
fn ends_call(answer: &Answer) -> bool {
    match answer {
        Answer::Ok(_) | Answer::Declined { .. } | Answer::Failed(_) => true,
        Answer::Refused(refused) => matches!(
            refused.refusal,
            Refusal::RecordedUnknown | Refusal::Stale | Refusal::Mismatch | Refusal::SessionShared
        ),
    }
}
