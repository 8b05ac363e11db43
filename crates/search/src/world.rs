//! The whole world of a search: clients, servers, their store, the network between them, and what an onlooker has seen. A state of it is a handful of
//! numbers; what a machine does is worked out once for each of its states and inputs, by the real machine.

mod choices;
mod happenings;
mod network;
mod onlooker;

use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashMap;
use selfsame::protocol::{CallId, Registration};

use crate::client;
use crate::database::Luck;
use crate::explore::Space;
use crate::intern::{Table, hashed, texted};
use crate::message::Message;
use crate::scenario::Scenario;
use crate::seen::Seen;
use crate::server::{self, Output};
use crate::store::{News, Store};

/// How much of each trouble there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Used {
    welcomes: u8,
    crashes: u8,
    evictions: u8,
    refusals: u8,
    cancels: u8,
    doubts: u8,
    leases: u8,
    clocks: u8,
}

/// One state of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    clients: [u32; 2],
    servers: [u32; 2],
    store: u32,
    net: u32,
    used: Used,
    seen: Seen,
}

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// To a client.
    Client(u8, client::Input),
    /// To a server.
    Server(u8, server::Input),
    /// A server crashes, after the store has done so many of the operations that it was asked, and starts again.
    Crash(u8, u8),
    /// The store does the next step of an operation that a server asks.
    Store(u8, u8, Luck),
    /// A commit in doubt lands, or does not.
    Lands(bool),
    /// The store ends a session that was idle for too long.
    Idle(u8),
    /// The first client is copied.
    Copy,
    /// The first client dies, and the second resumes its keyed call.
    Resume,
}

/// What is known of the steps of one kind of machine.
struct Steps<I, O> {
    known: HashMap<(u32, I), (u32, u32)>,
    outputs: Vec<Rc<[O]>>,
}

impl<I, O> Default for Steps<I, O> {
    fn default() -> Self {
        Steps { known: HashMap::new(), outputs: Vec::new() }
    }
}

/// An output of a server, its message by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Send(u32),
    Starts(u8, u8),
}

/// A step of the store: the store and the server after it, whether the operation is over, and what an onlooker learns.
type StoreStep = Option<(u32, u32, bool, News)>;

/// The world. See the [module](self).
pub struct World {
    scenario: Scenario,
    /// No rule is switched off, so what the rules make harmless need not be kept.
    sound: bool,
    clients: Table<client::Node>,
    servers: Table<server::Node>,
    stores: Table<Store>,
    nets: Table<Vec<u32>>,
    messages: Table<Message>,
    client_steps: Steps<client::Input, u32>,
    server_steps: Steps<server::Input, Out>,
    store_steps: HashMap<(u32, u32, u8, Luck), StoreStep>,
}

impl World {
    /// The world of a scenario. `sound`: no bug is planted.
    pub fn new(scenario: Scenario, sound: bool) -> Self {
        World {
            scenario,
            sound,
            clients: Table::default(),
            servers: Table::default(),
            stores: Table::default(),
            nets: Table::default(),
            messages: Table::default(),
            client_steps: Steps::default(),
            server_steps: Steps::default(),
            store_steps: HashMap::new(),
        }
    }

    /// Another bug is planted, or none: what the machines did before is not what they do now. Messages keep their numbers, so traces stay good.
    pub fn forget_steps(&mut self) {
        self.client_steps = Steps::default();
        self.server_steps = Steps::default();
        self.store_steps = HashMap::new();
    }

    /// Different states of clients, of servers and of stores: how often the real machines were asked is in proportion to these.
    pub fn sizes(&self) -> [usize; 3] {
        [self.clients.len(), self.servers.len(), self.stores.len()]
    }

    /// The message of this number.
    pub fn message(&self, message: u32) -> &Message {
        self.messages.at(message)
    }

    /// A client in a state.
    pub fn client(&self, state: &State, client: u8) -> &client::Node {
        self.clients.at(state.clients[client as usize])
    }

    /// A server in a state.
    pub fn server(&self, state: &State, server: u8) -> &server::Node {
        self.servers.at(state.servers[server as usize])
    }

    /// What is on its way after a step that was not before.
    pub fn sent(&self, before: &State, after: &State) -> Vec<&Message> {
        let before = self.nets.at(before.net);
        let new = self.nets.at(after.net).iter().filter(|message| !before.contains(message));
        new.map(|message| self.message(*message)).collect()
    }

    fn enter_message(&mut self, message: Message) -> u32 {
        self.messages.enter(texted(&format!("{message:?}")), message)
    }

    fn enter_client(&mut self, node: client::Node) -> u32 {
        self.clients.enter(node.fingerprint(), node)
    }

    fn enter_server(&mut self, node: server::Node) -> u32 {
        self.servers.enter(node.fingerprint(&self.scenario), node)
    }

    fn enter_store(&mut self, store: Store) -> u32 {
        self.stores.enter(texted(&format!("{store:?}")), store)
    }

    fn client_step(&mut self, from: u32, input: client::Input) -> (u32, Rc<[u32]>) {
        if let Some(&(to, sent)) = self.client_steps.known.get(&(from, input)) {
            return (to, self.client_steps.outputs[sent as usize].clone());
        }
        let message = match input {
            client::Input::Take(message) => Some(self.messages.at(message)),
            _ => None,
        };
        let (node, sent) = self.clients.at(from).step(input, message, &self.scenario);
        let sent: Rc<[u32]> = sent.into_iter().map(|message| self.enter_message(message)).collect();
        let to = self.enter_client(node);
        self.client_steps.known.insert((from, input), (to, self.client_steps.outputs.len() as u32));
        self.client_steps.outputs.push(sent.clone());
        (to, sent)
    }

    fn server_step(&mut self, from: u32, input: server::Input) -> (u32, Rc<[Out]>) {
        if let Some(&(to, outputs)) = self.server_steps.known.get(&(from, input)) {
            return (to, self.server_steps.outputs[outputs as usize].clone());
        }
        let message = match input {
            server::Input::Take(message, ..) => Some(self.messages.at(message)),
            _ => None,
        };
        let (node, outputs) = self.servers.at(from).step(input, message, &self.scenario);
        let number = |output| match output {
            Output::Send(message) => Out::Send(self.enter_message(*message)),
            Output::Starts(purpose, under) => Out::Starts(purpose, under),
        };
        let outputs: Rc<[Out]> = outputs.into_iter().map(number).collect();
        let to = self.enter_server(node);
        self.server_steps.known.insert((from, input), (to, self.server_steps.outputs.len() as u32));
        self.server_steps.outputs.push(outputs.clone());
        (to, outputs)
    }
}

impl Space for World {
    type State = State;
    type Event = Event;

    fn start(&mut self) -> State {
        let scenario = self.scenario;
        let clients = [0, 1].map(|index| {
            let mut node = client::Node::new(index, &scenario);
            node.lives = index == 0 || index < scenario.clients && !scenario.copied && !scenario.keyed;
            self.enter_client(node)
        });
        let mut store = Store::new(scenario.level);
        let servers = [0, 1].map(|index| {
            let opened = if index < scenario.replicas { store.opens(index, 1) } else { Default::default() };
            self.enter_server(server::Node::new(index, 1, opened, &scenario))
        });
        let store = self.enter_store(store);
        let net = self.nets.enter(hashed(&Vec::<u32>::new()), Vec::new());
        State { clients, servers, store, net, used: Used::default(), seen: Seen::default() }
    }

    fn events(&mut self, state: &State, events: &mut Vec<Event>) {
        self.client_choices(state, events);
        self.server_choices(state, events);
        self.store_choices(state, events);
        self.arrivals(state, events);
    }

    fn after(&mut self, state: &State, event: Event) -> Option<State> {
        let after = match event {
            Event::Client(client, input) => self.client_event(state, client, input),
            Event::Server(server, input) => self.server_event(state, server, input),
            Event::Crash(server, done) => Some(self.crash(state, server, done)),
            Event::Store(server, at, luck) => self.store_event(state, server, at, luck),
            Event::Lands(lands) => self.lands(state, lands),
            Event::Idle(at) => self.idle(state, at),
            Event::Copy => Some(self.copy(state)),
            Event::Resume => Some(self.resume(state)),
        };
        after.filter(|after| after != state)
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        for client in 0..self.scenario.clients {
            for call in 0..self.scenario.calls {
                let purpose = self.scenario.purpose(client, call);
                let told = self.client(state, client).told[call as usize];
                if let Some(promise) = state.seen.broken(purpose, told) {
                    return Some(promise);
                }
            }
        }
        None
    }
}

/// The registration that is part of a nonce, by its number; 0 for a key.
pub fn under(registration: Registration, id: CallId) -> u8 {
    match id {
        CallId::Sequenced(_) => registration.0 as u8,
        CallId::Keyed(_) => 0,
    }
}
