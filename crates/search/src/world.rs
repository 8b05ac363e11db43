//! The whole world of a search: clients, servers, their store, the network between them, and what an onlooker has seen. A state of it is a handful of
//! numbers; what the machines do is worked out once for each of their states and inputs.

use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashMap;
use selfsame::protocol::Level;
use selfsame::protocol::store::{Op, Opened};
use selfsame::protocol::wire::{Answer, Entry};
use selfsame::protocol::{CallId, Refusal, Registration};

use crate::client::{self, Told};
use crate::explore::Space;
use crate::file::File;
use crate::intern::{Table, hashed, texted};
use crate::message::{Message, Way};
use crate::scenario::Scenario;
use crate::seen::{Ended, Seen};
use crate::server::{self, Output, Phase, Taken};

/// How much of each trouble there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Used {
    welcomes: u8,
    crashes: u8,
    evictions: u8,
    refusals: u8,
    cancels: u8,
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
    /// A store does and tells the operation that it was asked first.
    Store(u8),
    /// The first client is copied.
    Copy,
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
#[derive(Clone, Copy, Debug)]
enum Told2 {
    Send(u32),
    Starts(u8, u8),
}

/// The world. See the [module](self).
pub struct World {
    scenario: Scenario,
    /// No rule is switched off, so what the rules make harmless need not be kept.
    sound: bool,
    clients: Table<client::Node>,
    servers: Table<server::Node>,
    files: Table<File>,
    nets: Table<Vec<u32>>,
    messages: Table<Message>,
    client_steps: Steps<client::Input, u32>,
    server_steps: Steps<server::Input, Told2>,
}

impl World {
    /// The world of a scenario. `sound`: no bug is planted.
    pub fn new(scenario: Scenario, sound: bool) -> Self {
        World {
            scenario,
            sound,
            clients: Table::default(),
            servers: Table::default(),
            files: Table::default(),
            nets: Table::default(),
            messages: Table::default(),
            client_steps: Steps::default(),
            server_steps: Steps::default(),
        }
    }

    /// Different states of clients, servers and stores, different messages and sets of them.
    pub fn sizes(&self) -> [usize; 5] {
        [self.clients.len(), self.servers.len(), self.files.len(), self.messages.len(), self.nets.len()]
    }

    /// The message of this number.
    pub fn message_at(&self, message: u32) -> &Message {
        self.messages.at(message)
    }

    /// A message, told.
    pub fn text(&self, message: u32) -> String {
        self.messages.at(message).to_string()
    }

    /// A client in a state.
    pub fn client(&self, state: &State, client: u8) -> &client::Node {
        self.clients.at(state.clients[client as usize])
    }

    /// A server in a state.
    pub fn server_node(&self, state: &State, server: u8) -> &server::Node {
        self.servers.at(state.servers[server as usize])
    }

    /// What is on its way after a step that was not before.
    pub fn sent(&self, before: &State, after: &State) -> Vec<String> {
        let before = self.nets.at(before.net);
        let new = self.nets.at(after.net).iter().filter(|message| !before.contains(message));
        new.map(|message| self.text(*message)).collect()
    }

    fn message(&mut self, message: Message) -> u32 {
        self.messages.enter(texted(&format!("{message:?}")), message)
    }

    fn file(&mut self, file: File) -> u32 {
        self.files.enter(texted(&format!("{file:?}")), file)
    }

    fn client_step(&mut self, from: u32, input: client::Input) -> (u32, u32) {
        if let Some(known) = self.client_steps.known.get(&(from, input)) {
            return *known;
        }
        let message = match input {
            client::Input::Take(message) => Some(self.messages.at(message)),
            _ => None,
        };
        let (node, sent) = self.clients.at(from).step(input, message, &self.scenario);
        let sent: Vec<u32> = sent.into_iter().map(|message| self.message(message)).collect();
        let to = self.clients.enter(node.fingerprint(), node);
        self.client_steps.outputs.push(sent.into());
        let step = (to, self.client_steps.outputs.len() as u32 - 1);
        self.client_steps.known.insert((from, input), step);
        step
    }

    fn server_step(&mut self, from: u32, input: server::Input) -> (u32, u32) {
        if let Some(known) = self.server_steps.known.get(&(from, input)) {
            return *known;
        }
        let message = match input {
            server::Input::Take(message, ..) => Some(self.messages.at(message)),
            _ => None,
        };
        let (node, outputs) = self.servers.at(from).step(input, message, &self.scenario);
        let outputs: Vec<_> = outputs
            .into_iter()
            .map(|output| match output {
                Output::Send(message) => Told2::Send(self.message(message)),
                Output::Starts(purpose, under) => Told2::Starts(purpose, under),
            })
            .collect();
        let to = self.servers.enter(node.fingerprint(), node);
        self.server_steps.outputs.push(outputs.into());
        let step = (to, self.server_steps.outputs.len() as u32 - 1);
        self.server_steps.known.insert((from, input), step);
        step
    }

    fn server(&mut self, index: u8, life: u8, opened: Opened) -> u32 {
        let node = server::Node::new(index, life, opened, &self.scenario);
        self.servers.enter(node.fingerprint(), node)
    }

    /// A server opens a store. Of memory there is nothing to open.
    fn open(&mut self, store: u32, index: u8, life: u8) -> (u32, Opened) {
        if self.scenario.level == Level::Memory {
            let generation = server::incarnation(index, life).0;
            return (store, Opened { store: 1, generation, ..Opened::default() });
        }
        let mut file = self.files.at(store).clone();
        let opened = file.opens();
        (self.file(file), opened)
    }

    /// The messages that may still matter, with new ones.
    fn carry(&mut self, state: &mut State, sent: &[u32]) {
        let mut net = self.nets.at(state.net).clone();
        net.extend_from_slice(sent);
        net.sort_unstable();
        net.dedup();
        net.retain(|message| self.matters(state, *message));
        state.net = self.nets.enter(hashed(&net), net);
    }

    fn waits(&self, state: &State, client: u8, registration: Registration, id: CallId) -> bool {
        let node = self.clients.at(state.clients[client as usize]);
        node.lives && node.purpose(registration, id).is_some_and(|purpose| self.told(state, client, purpose) == Told::Waits)
    }

    /// What a client was told about an intention.
    fn told(&self, state: &State, client: u8, purpose: u8) -> Told {
        let call = if self.scenario.keyed { 0 } else { self.scenario.caller(purpose).1 };
        self.clients.at(state.clients[client as usize]).told[call as usize]
    }

    /// False only if nothing can come of the message any more, whatever happens.
    fn matters(&self, state: &State, message: u32) -> bool {
        let Message { way, entry } = self.messages.at(message);
        match (way, entry) {
            (Way::Down { client }, Entry::Welcome(welcome)) => {
                self.clients.at(state.clients[*client as usize]).awaits == Some(welcome.hello)
            }
            (Way::Down { client }, Entry::Reply(reply)) => self.waits(state, *client, reply.registration, reply.id),
            (Way::Down { .. }, _) => false,
            (Way::Up { .. }, _) if !self.sound => true,
            (Way::Up { client, server }, entry) => {
                let node = self.servers.at(state.servers[*server as usize]);
                match entry {
                    Entry::Hello(hello) => {
                        self.clients.at(state.clients[*client as usize]).awaits == Some(hello.id)
                            || hello.resume.is_some_and(|resume| node.sessions.contains(&resume))
                    }
                    Entry::Call(call) => {
                        // One of an earlier life is asked to say hello first, whatever it is; one of a session that is gone is unknown.
                        let waits = self.waits(state, *client, call.registration, call.id);
                        let lives = node.sessions.contains(&call.registration) || self.scenario.is_shared();
                        waits || call.incarnation == server::incarnation(*server, node.life) && lives
                    }
                    Entry::Ack(ack) => node.sessions.contains(&ack.registration) || self.scenario.is_shared(),
                    Entry::Cancel(cancel) => node.sessions.contains(&cancel.registration),
                    _ => false,
                }
            }
        }
    }

    /// What an onlooker makes of a message that a server sends.
    fn look(&self, state: &mut State, message: u32) {
        let Message { way: Way::Down { client }, entry: Entry::Reply(reply) } = self.messages.at(message) else {
            return;
        };
        let node = self.clients.at(state.clients[*client as usize]);
        let Some(purpose) = node.purpose(reply.registration, reply.id) else { return };
        let waits = self.told(state, *client, purpose) == Told::Waits;
        match &reply.answer {
            Answer::Ok(body) => state.seen.replied(purpose, Ended::Ok(body[0], body[1]), self.scenario.copied),
            Answer::Declined { .. } => {}
            Answer::Failed(_) => state.seen.replied(purpose, Ended::Failed, self.scenario.copied),
            Answer::Refused(refused) => match refused.refusal {
                Refusal::RecordedUnknown => state.seen.replied(purpose, Ended::Unknown, self.scenario.copied),
                Refusal::Cancelled => state.seen.replied(purpose, Ended::Cancelled, self.scenario.copied),
                Refusal::Stale => state.seen.barred(purpose, under(reply.registration, reply.id), waits && !self.scenario.copied),
                Refusal::SessionUnknown | Refusal::Expired => {
                    state.seen.barred(purpose, under(reply.registration, reply.id), false);
                }
                _ => {}
            },
        }
    }

    fn client_event(&mut self, state: &State, client: u8, input: client::Input) -> Option<State> {
        let from = state.clients[client as usize];
        let (to, sent) = self.client_step(from, input);
        let node = self.clients.at(to);
        if to == from || node.hellos > self.scenario.hellos {
            return None;
        }
        let mut after = *state;
        after.clients[client as usize] = to;
        if let client::Input::Drop(_) = input {
            after.used.cancels += 1;
        }
        let sent = self.client_steps.outputs[sent as usize].clone();
        self.carry(&mut after, &sent);
        Some(after)
    }

    fn server_event(&mut self, state: &State, server: u8, input: server::Input) -> Option<State> {
        let from = state.servers[server as usize];
        let mut after = *state;
        match input {
            server::Input::Take(message, ..) => {
                if let Message { way: Way::Up { client, .. }, entry: Entry::Hello(hello) } = self.messages.at(message) {
                    let awaited = self.clients.at(state.clients[*client as usize]).awaits == Some(hello.id);
                    let known = hello.resume.is_some_and(|resume| self.servers.at(from).sessions.contains(&resume));
                    // Nobody waits for the welcome, so a session of its own would be nobody's.
                    if self.sound && !awaited && !known {
                        return None;
                    }
                    if awaited {
                        after.used.welcomes += 1;
                    }
                }
            }
            server::Input::Late(_) => {}
            server::Input::Decline(_) => after.used.refusals += 1,
            server::Input::Work(at, _) => {
                let purpose = self.servers.at(from).runs[at as usize].purpose;
                after.seen.works(purpose);
            }
            server::Input::Evict(_) => after.used.evictions += 1,
            _ => {}
        }
        let (to, outputs) = self.server_step(from, input);
        if let server::Input::Take(_, taken, _) = input
            && taken != Taken::Free
        {
            // Only if it had to be run is there a choice.
            if self.same_as_free(from, input, outputs, to) {
                return None;
            }
            after.used.refusals += 1;
        }
        after.servers[server as usize] = to;
        let outputs = self.server_steps.outputs[outputs as usize].clone();
        let mut sent = Vec::new();
        for output in outputs.iter() {
            match *output {
                Told2::Send(message) => {
                    self.look(&mut after, message);
                    sent.push(message);
                }
                Told2::Starts(purpose, under) => after.seen.starts(purpose, under),
            }
        }
        self.carry(&mut after, &sent);
        (after != *state).then_some(after)
    }

    fn free_step(&mut self, from: u32, input: server::Input) -> (u32, u32) {
        match input {
            server::Input::Take(message, _, minted) => {
                self.server_step(from, server::Input::Take(message, Taken::Free, minted))
            }
            other => self.server_step(from, other),
        }
    }

    /// Whether it made no difference that there was no room.
    fn same_as_free(&mut self, from: u32, input: server::Input, outputs: u32, to: u32) -> bool {
        let (free_to, free_outputs) = self.free_step(from, input);
        let texts = |outputs: u32| format!("{:?}", self.server_steps.outputs[outputs as usize]);
        free_to == to && texts(free_outputs) == texts(outputs)
    }

    fn crash(&mut self, state: &State, server: u8, done: u8) -> Option<State> {
        let mut after = *state;
        after.used.crashes += 1;
        let from = state.servers[server as usize];
        if done > 0 {
            let ops: Vec<Op> = self.servers.at(from).asked[..done as usize].iter().map(|(_, op)| op.clone()).collect();
            let mut file = self.files.at(state.store).clone();
            for op in &ops {
                file.does(op);
            }
            after.store = self.file(file);
        }
        let life = self.servers.at(from).life + 1;
        let (store, opened) = self.open(after.store, server, life);
        after.store = store;
        after.servers[server as usize] = self.server(server, life, opened);
        self.carry(&mut after, &[]);
        Some(after)
    }

    fn store(&mut self, state: &State, server: u8) -> Option<State> {
        let mut after = *state;
        let mut node = self.servers.at(state.servers[server as usize]).clone();
        let (ticket, op) = node.asked.remove(0);
        let mut file = self.files.at(state.store).clone();
        let done = file.does(&op);
        node.done.push((ticket, done));
        after.store = self.file(file);
        after.servers[server as usize] = self.servers.enter(node.fingerprint(), node);
        self.server_event(&after, server, server::Input::Tell)
    }

    fn copy(&mut self, state: &State) -> Option<State> {
        let mut after = *state;
        let node = self.clients.at(state.clients[0]).copy(1);
        after.clients[1] = self.clients.enter(node.fingerprint(), node);
        Some(after)
    }

    fn client_events(&self, state: &State, events: &mut Vec<Event>) {
        for client in 0..self.scenario.clients {
            let node = self.clients.at(state.clients[client as usize]);
            if !node.lives {
                continue;
            }
            let mut add = |input| events.push(Event::Client(client, input));
            for call in 0..self.scenario.calls {
                match node.told[call as usize] {
                    Told::Nothing if call == 0 || node.told[call as usize - 1] != Told::Nothing => {
                        add(client::Input::Start(call));
                    }
                    Told::Waits => {
                        add(client::Input::Deadline(call));
                        if state.used.cancels < self.scenario.cancels {
                            add(client::Input::Drop(call));
                        }
                    }
                    _ => {}
                }
            }
            if node.dials < self.scenario.dials {
                (0..self.scenario.replicas).for_each(|server| add(client::Input::Dial(server)));
            }
            if node.has_timer() {
                add(client::Input::Timer);
            }
        }
    }

    fn server_events(&self, state: &State, events: &mut Vec<Event>) {
        let Scenario { crashes, evictions, refusals, .. } = self.scenario;
        for server in 0..self.scenario.replicas {
            let node = self.servers.at(state.servers[server as usize]);
            let mut add = |input| events.push(Event::Server(server, input));
            for (at, run) in node.runs.iter().enumerate() {
                let at = at as u8;
                match run.phase {
                    Phase::Queued => {
                        add(server::Input::Begin(at));
                        add(server::Input::Late(at));
                    }
                    Phase::Waits => {}
                    Phase::Runs => {
                        add(server::Input::Work(at, state.seen.effects(run.purpose) + 1));
                        if state.used.refusals < refusals {
                            add(server::Input::Decline(at));
                        }
                    }
                    Phase::Worked(_) => add(server::Input::Answer(at)),
                }
            }
            if node.has_timer() {
                add(server::Input::Tick);
            }
            if state.used.evictions < evictions {
                (0..node.sessions.len()).for_each(|at| add(server::Input::Evict(at as u8)));
            }
            if !node.asked.is_empty() {
                events.push(Event::Store(server));
            }
            if state.used.crashes < crashes {
                (0..=node.asked.len()).for_each(|done| events.push(Event::Crash(server, done as u8)));
            }
        }
    }

    fn arrivals(&self, state: &State, events: &mut Vec<Event>) {
        for &message in self.nets.at(state.net) {
            match self.messages.at(message) {
                Message { way: Way::Down { client }, .. } => {
                    events.push(Event::Client(*client, client::Input::Take(message)));
                }
                Message { way: Way::Up { client, server }, entry } => {
                    let mut add = |taken, minted| {
                        events.push(Event::Server(*server, server::Input::Take(message, taken, minted)));
                    };
                    match entry {
                        Entry::Hello(hello) => {
                            let awaited = self.clients.at(state.clients[*client as usize]).awaits == Some(hello.id);
                            if !awaited || state.used.welcomes < self.scenario.welcomes {
                                add(Taken::Free, state.used.welcomes + 1);
                            }
                        }
                        Entry::Call(_) => {
                            add(Taken::Free, 0);
                            if state.used.refusals < self.scenario.refusals {
                                add(Taken::Shed, 0);
                                add(Taken::Queued, 0);
                            }
                        }
                        _ => add(Taken::Free, 0),
                    }
                }
            }
        }
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
            self.clients.enter(node.fingerprint(), node)
        });
        let mut store = self.file(File::default());
        let servers = [0, 1].map(|index| {
            let (opened_store, opened) = self.open(store, index, 1);
            store = opened_store;
            self.server(index, 1, opened)
        });
        let net = self.nets.enter(hashed(&Vec::<u32>::new()), Vec::new());
        State { clients, servers, store, net, used: Used::default(), seen: Seen::default() }
    }

    fn events(&mut self, state: &State, events: &mut Vec<Event>) {
        self.client_events(state, events);
        self.server_events(state, events);
        self.arrivals(state, events);
        let copied = self.clients.at(state.clients[1]).lives;
        if self.scenario.copied && !copied && self.clients.at(state.clients[0]).is_fresh() {
            events.push(Event::Copy);
        }
    }

    fn after(&mut self, state: &State, event: Event) -> Option<State> {
        match event {
            Event::Client(client, input) => self.client_event(state, client, input),
            Event::Server(server, input) => self.server_event(state, server, input),
            Event::Crash(server, done) => self.crash(state, server, done),
            Event::Store(server) => self.store(state, server),
            Event::Copy => self.copy(state),
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        for client in 0..self.scenario.clients {
            for call in 0..self.scenario.calls {
                let purpose = self.scenario.purpose(client, call);
                let told = self.clients.at(state.clients[client as usize]).told[call as usize];
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
