//! What becomes of a state when something happens in it.

use selfsame::protocol::store::Op;
use selfsame::protocol::wire::Entry;
use selfsame::protocol::{Level, Registration};

use super::{Out, State, StoreStep, World};
use crate::client;
use crate::database::{Asker, Luck};
use crate::message::{Message, Way};
use crate::server::{self, Taken};
use crate::store::{News, Store};

impl World {
    pub(super) fn client_event(&mut self, state: &State, client: u8, input: client::Input) -> Option<State> {
        let (to, sent) = self.client_step(state.clients[client as usize], input);
        if self.clients.at(to).hellos > self.scenario.hellos {
            return None;
        }
        let mut after = *state;
        match input {
            client::Input::Drop(_) => after.used.cancels += 1,
            client::Input::Take(message) => self.hear(&mut after, client, message),
            _ => {}
        }
        after.clients[client as usize] = to;
        self.carry(&mut after, &sent);
        Some(after)
    }

    pub(super) fn server_event(&mut self, state: &State, server: u8, input: server::Input) -> Option<State> {
        let from = state.servers[server as usize];
        if !self.servers.at(from).can(input) {
            return None;
        }
        let mut after = *state;
        match input {
            server::Input::Take(message, taken, minted) => {
                if !self.is_worth_taking(&mut after, server, message) {
                    return None;
                }
                if taken != Taken::Free {
                    after.used.refusals += 1;
                    // Only of a call that has to be run it is asked whether there is room.
                    let free = server::Input::Take(message, Taken::Free, minted);
                    if self.server_step(from, input) == self.server_step(from, free) {
                        return None;
                    }
                }
            }
            server::Input::Decline(_) => after.used.refusals += 1,
            server::Input::Work(at, _) if self.scenario.level != Level::Atomic => {
                after.seen.works(self.servers.at(from).runs[at as usize].purpose);
            }
            server::Input::Evict(_) => after.used.evictions += 1,
            server::Input::Clock(_) => after.used.clocks += 1,
            _ => {}
        }
        let (to, outputs) = self.server_step(from, input);
        if self.servers.at(to).asks_twice {
            return None;
        }
        after.servers[server as usize] = to;
        let mut sent = Vec::new();
        for output in outputs.iter() {
            match *output {
                Out::Send(message) => {
                    self.look(&mut after, message);
                    sent.push(message);
                }
                Out::Starts(purpose, under) => after.seen.starts(purpose, under),
            }
        }
        self.carry(&mut after, &sent);
        match input {
            server::Input::Take(..) => self.settle_what_seems_stale(from, after, server),
            _ => Some(after),
        }
    }

    /// A server asks its store whether a call is stale as it thinks. If the store did that later, the call could as well have arrived later: so it does it at
    /// once, or the call does not arrive.
    fn settle_what_seems_stale(&mut self, before: u32, state: State, server: u8) -> Option<State> {
        let (asked, node) = (self.servers.at(before).asked.len(), self.server(&state, server));
        if node.asked.len() == asked || !matches!(node.asked.last(), Some((_, Op::Settle(_)))) {
            return Some(state);
        }
        let at = node.asked.len() - 1;
        let settled = self.store_event(&state, server, at as u8, Luck::Good)?;
        let last = self.server(&settled, server).done.len() - 1;
        self.server_event(&settled, server, server::Input::Tell(last as u8))
    }

    /// False: it is a hello that nobody awaits any more, of a session that is gone. The session that it would get would be nobody's.
    fn is_worth_taking(&self, state: &mut State, server: u8, message: u32) -> bool {
        let Message { way: Way::Up { client, .. }, entry: Entry::Hello(hello) } = self.message(message)
        else {
            return true;
        };
        let awaited = self.client(state, *client).awaits == Some(hello.id);
        let known = hello.resume.is_some_and(|resume| self.knows(state, server, resume));
        state.used.welcomes += u8::from(awaited);
        // One at a time: the store would be asked the same again.
        let asks = |(_, op): &(_, Op)| matches!(op, Op::Resume { .. } | Op::Register { .. });
        awaited || (known || !self.sound) && !self.server(state, server).asked.iter().any(asks)
    }

    pub(super) fn crash(&mut self, state: &State, server: u8, done: u8) -> State {
        let mut after = *state;
        after.used.crashes += 1;
        let before = self.server(state, server);
        let life = before.life + 1;
        let mut store = self.stores.at(state.store).clone();
        store.crashes(server, before.asked[..done as usize].iter().map(|(_, op)| op));
        let opened = store.opens(server, life);
        after.store = self.enter_store(store);
        let node = server::Node::new(server, life, opened, &self.scenario);
        after.servers[server as usize] = self.enter_server(node);
        self.carry(&mut after, &[]);
        after
    }

    pub(super) fn store_event(&mut self, state: &State, server: u8, at: u8, luck: Luck) -> Option<State> {
        let key = (state.store, state.servers[server as usize], at, luck);
        let step = match self.store_steps.get(&key) {
            Some(step) => *step,
            None => {
                let step = self.store_step(state, server, at, luck);
                self.store_steps.insert(key, step);
                step
            }
        };
        let (store, node, told, news) = step?;
        let mut after = *state;
        (after.store, after.servers[server as usize]) = (store, node);
        match luck {
            Luck::Doubt | Luck::Undone => after.used.doubts += 1,
            Luck::Expired => after.used.leases += u8::from(self.lease_lives(state, server, at)),
            Luck::Good => {}
        }
        self.learn(&mut after, &news);
        if told {
            let last = self.servers.at(node).done.len() as u8 - 1;
            return self.server_event(&after, server, server::Input::Tell(last));
        }
        self.carry(&mut after, &[]);
        Some(after)
    }

    fn lease_lives(&self, state: &State, server: u8, at: u8) -> bool {
        let (_, op) = &self.server(state, server).asked[at as usize];
        let (Store::Database(database), Op::Look { record, .. }) = (self.stores.at(state.store), op) else {
            return false;
        };
        let lives = |owner| {
            (0..self.scenario.replicas).any(|s| server::incarnation(s, self.server(state, s).life) == owner)
        };
        database.owner(*record).is_some_and(lives)
    }

    /// The store does a step for a server. Told at once is what nobody else could see in between.
    fn store_step(&mut self, state: &State, server: u8, at: u8, luck: Luck) -> StoreStep {
        let mut node = self.server(state, server).clone();
        let asker = Asker {
            server,
            incarnation: server::incarnation(server, node.life),
            atomic: self.scenario.level == Level::Atomic,
        };
        let mut store = self.stores.at(state.store).clone();
        let op = node.asked.get(at as usize)?.1.clone();
        let step = store.does(asker, &op, luck)?;
        let news = News::from(&step);
        let mut told = false;
        if let Some(done) = step.done {
            let (ticket, _) = node.asked.remove(at as usize);
            node.done.push((ticket, done));
            told = matches!(store, Store::File(_))
                || !matches!(op, Op::Claim(_) | Op::Finish { .. } | Op::Settle(_));
        }
        Some((self.enter_store(store), self.enter_server(node), told, news))
    }

    pub(super) fn lands(&mut self, state: &State, lands: bool) -> Option<State> {
        let Store::Database(mut database) = self.stores.at(state.store).clone() else { return None };
        let news = News::from(&database.settles(0, lands));
        let mut after = *state;
        after.store = self.enter_store(Store::Database(database));
        self.learn(&mut after, &news);
        self.carry(&mut after, &[]);
        Some(after)
    }

    pub(super) fn idle(&mut self, state: &State, at: u8) -> Option<State> {
        let Store::Database(mut database) = self.stores.at(state.store).clone() else { return None };
        let registration: Registration = database.sessions().nth(at as usize)?;
        database.evicts(registration);
        let mut after = *state;
        after.used.evictions += 1;
        after.store = self.enter_store(Store::Database(database));
        self.carry(&mut after, &[]);
        Some(after)
    }

    pub(super) fn copy(&mut self, state: &State) -> State {
        let mut after = *state;
        let node = self.client(state, 0).copy(1);
        after.clients[1] = self.enter_client(node);
        after
    }

    pub(super) fn resume(&mut self, state: &State) -> State {
        let mut after = *state;
        for (client, lives) in [(0, false), (1, true)] {
            let mut node = self.client(state, client).clone();
            node.lives = lives;
            after.clients[client as usize] = self.enter_client(node);
        }
        self.carry(&mut after, &[]);
        after
    }
}
