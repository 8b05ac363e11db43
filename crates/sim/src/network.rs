//! Connections, and what becomes of entries on their way. A connection is a pair of ends, each of which learns by itself that the other is gone.
//! Between them sits something that may lose, repeat, delay and hold entries back, and release what it held on a later connection, to a
//! later life of the server, or to another replica: a relay at its worst.

use std::collections::BTreeSet;
use std::time::Duration;

use selfsame::protocol::wire::Entry;
use selfsame::protocol::{ConnectionId, Moment};

use crate::event::{Event, Life, Parcel};
use crate::world::World;

/// From here on, the connections from which entries of each client come whose own is gone: what is sent there, nobody gets.
pub const GHOSTS: u64 = 1 << 40;
/// Servers are numbered from here where processes are.
pub const SERVERS: usize = 1000;

/// A connection between one life of a client and one of a server.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Life,
    server: Life,
    client_open: bool,
    server_open: bool,
    /// When the last entry arrives, of those that keep their order: to the server, to the client.
    last: [Moment; 2],
}

/// All of them.
#[derive(Debug, Default)]
pub struct Network {
    connections: Vec<Connection>,
    /// Directions in which nothing gets through.
    dead: BTreeSet<(usize, usize)>,
}

impl Network {
    /// Whose connection it is.
    pub fn client(&self, connection: u64) -> Option<Life> {
        match connection.checked_sub(GHOSTS) {
            Some(client) => Some(Life(usize::try_from(client).ok()?, 0)),
            None => Some(self.at(connection)?.client),
        }
    }

    /// Whom it leads to.
    pub fn server(&self, connection: u64) -> Option<Life> {
        Some(self.at(connection)?.server)
    }

    fn at(&self, connection: u64) -> Option<&Connection> {
        self.connections.get(usize::try_from(connection).ok()?)
    }

    fn at_mut(&mut self, connection: u64) -> Option<&mut Connection> {
        self.connections.get_mut(usize::try_from(connection).ok()?)
    }

    /// Nothing gets through from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.dead.insert((from, to));
    }

    /// It does again.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.dead.remove(&(from, to));
    }

    /// All does.
    pub fn mend_all(&mut self) {
        self.dead.clear();
    }

    /// Connections that stand at both ends.
    pub fn standing(&self) -> Vec<u64> {
        let open = |connection: &Connection| connection.client_open && connection.server_open;
        (0..).zip(&self.connections).filter(|(_, c)| open(c)).map(|(id, _)| id).collect()
    }

    /// Connections whose server's end stands.
    pub fn of_server(&self, life: Life) -> Vec<u64> {
        let its = |c: &Connection| c.server_open && c.server == life;
        (0..).zip(&self.connections).filter(|(_, c)| its(c)).map(|(id, _)| id).collect()
    }

    /// The connection of this client that stands at this server.
    fn between(&self, client: usize, server: Life) -> u64 {
        let its = |c: &Connection| c.client.0 == client && c.server == server && c.server_open;
        self.connections.iter().rposition(its).map_or(GHOSTS + client as u64, |at| at as u64)
    }

    /// Whether the server's end stands, or nobody could tell.
    pub fn is_heard(&self, connection: u64) -> bool {
        connection >= GHOSTS || self.at(connection).is_some_and(|connection| connection.server_open)
    }
}

impl World {
    /// A client dials the next server.
    pub(crate) fn dial(&mut self, life: Life) {
        if !self.client_lives(life) || self.clients[life.0].connection.is_some() {
            return;
        }
        let client = &mut self.clients[life.0];
        client.turn += 1;
        let server = client.endpoints[client.turn % client.endpoints.len()];
        let pair = (life.0, SERVERS + server);
        let through = !self.network.dead.contains(&pair) && !self.network.dead.contains(&(pair.1, pair.0));
        if !self.servers[server].up || !through {
            return self.redial(life.0);
        }
        let connection = self.network.connections.len() as u64;
        self.network.connections.push(Connection {
            client: life,
            server: Life(server, self.servers[server].life),
            client_open: false,
            server_open: false,
            last: [self.now; 2],
        });
        self.clients[life.0].connection = Some(connection);
        let delay = self.dice.ms(0, 4);
        self.plan(delay, Event::Connected(connection));
    }

    /// A client dials again after a pause.
    pub(crate) fn redial(&mut self, client: usize) {
        let (bits, life) = (self.dice.bits(), Life(client, self.clients[client].life));
        let mut delay = self.clients[client].pace.failed(bits);
        if !self.healed && self.dice.percent(2) {
            // Long enough to be forgotten.
            delay += self.profile.limits.retention + Duration::from_secs(1);
        }
        self.plan(delay, Event::Dial(life));
    }

    /// The handshake is over.
    pub(crate) fn connected(&mut self, connection: u64) {
        let (Some(client), Some(server)) = (self.network.client(connection), self.network.server(connection))
        else {
            return;
        };
        if !self.client_lives(client) || self.clients[client.0].connection != Some(connection) {
            return;
        }
        if !self.lives(server) {
            self.clients[client.0].connection = None;
            return self.redial(client.0);
        }
        if let Some(ends) = self.network.at_mut(connection) {
            (ends.client_open, ends.server_open) = (true, true);
        }
        self.log.say(self.now, || format!("connection {connection}: {client:?} at {server:?}"));
        let now = self.now;
        self.clients[client.0].machine.connected(now);
        self.pump_client(client.0);
    }

    /// One end learns that the other is gone.
    pub(crate) fn gone(&mut self, connection: u64, at_client: bool) {
        let Some(ends) = self.network.at_mut(connection) else { return };
        if !at_client {
            ends.server_open = false;
            return;
        }
        ends.client_open = false;
        let client = ends.client;
        if self.client_lives(client) && self.clients[client.0].connection == Some(connection) {
            self.clients[client.0].connection = None;
            self.clients[client.0].machine.disconnected();
            self.redial(client.0);
            self.pump_client(client.0);
        }
    }

    /// A client closes its end.
    pub(crate) fn hang_up(&mut self, client: usize) {
        let Some(connection) = self.clients[client].connection.take() else { return };
        if let Some(ends) = self.network.at_mut(connection) {
            ends.client_open = false;
        }
        let delay = self.dice.ms(0, 5);
        self.plan(delay, Event::Gone(connection, false));
    }

    /// A server's life is over: its connections break, and most clients are told so.
    pub(crate) fn hang_up_server(&mut self, life: Life) {
        for connection in self.network.of_server(life) {
            self.gone(connection, false);
            if self.healed || self.dice.percent(85) {
                let delay = self.dice.ms(0, 20);
                self.plan(delay, Event::Gone(connection, true));
            }
        }
    }

    /// Sends an entry from a client on its connection.
    pub(crate) fn send_to_server(&mut self, client: usize, entry: Entry) {
        let Some(connection) = self.clients[client].connection else { return };
        if self.network.at(connection).is_some_and(|ends| ends.client_open) {
            self.carry(connection, entry, 0);
        }
    }

    /// Sends an entry from a server.
    pub(crate) fn send_to_client(&mut self, connection: ConnectionId, entry: Entry) {
        if self.network.at(connection.0).is_some_and(|ends| ends.server_open) {
            self.carry(connection.0, entry, 1);
        }
    }

    fn carry(&mut self, connection: u64, entry: Entry, direction: usize) {
        let faults = &self.profile.faults;
        let (drop, duplicate, reorder, delay, hold) =
            (faults.drop, faults.duplicate, faults.reorder, faults.delay, faults.hold);
        let parcel = Parcel { connection, held: false, entry: Box::new(entry) };
        let latency = Duration::from_micros(self.dice.between(200, 2500));
        let Some(ends) = self.network.at_mut(connection) else { return };
        let pair =
            [(ends.client.0, SERVERS + ends.server.0), (SERVERS + ends.server.0, ends.client.0)][direction];
        let in_order = ends.last[direction].max(self.now + latency);
        if self.healed {
            ends.last[direction] = in_order;
            return self.deliver(in_order, parcel, direction);
        }
        if self.network.dead.contains(&pair) {
            return;
        }
        if self.dice.per_mille(duplicate) {
            let copy = Parcel { held: self.dice.percent(50), ..parcel.clone() };
            let later = if self.dice.percent(50) { self.dice.ms(0, 20) } else { self.dice.ms(0, 9_000) };
            self.log.say(self.now, || format!("  twice, again in {later:?}: {:?}", copy.entry));
            self.deliver(self.now + later, copy, direction);
        }
        if self.dice.per_mille(drop) {
            return self.log.say(self.now, || format!("  lost: {:?}", parcel.entry));
        }
        let (at, held) = if self.dice.per_mille(hold) {
            (self.now + self.dice.ms(50, 9_000), true)
        } else if self.dice.per_mille(delay) {
            (self.now + self.dice.ms(20, 3_000), false)
        } else if self.dice.per_mille(reorder) {
            (self.now + self.dice.ms(0, 60), false)
        } else {
            if let Some(ends) = self.network.at_mut(connection) {
                ends.last[direction] = in_order;
            }
            (in_order, false)
        };
        if at > in_order + Duration::from_millis(10) {
            self.log.say(self.now, || format!("  late, at {at:?}: {:?}", parcel.entry));
        }
        self.deliver(at, Parcel { held, ..parcel }, direction);
    }

    fn deliver(&mut self, at: Moment, parcel: Parcel, direction: usize) {
        self.plan_at(at, if direction == 0 { Event::ToServer(parcel) } else { Event::ToClient(parcel) });
    }

    /// An entry arrives at a server: on its connection, or, if it was held, wherever the way leads now.
    pub(crate) fn at_server(&mut self, parcel: Parcel) {
        let Some(ends) = self.network.at(parcel.connection) else { return };
        let (client, mut server, open) = (ends.client, ends.server, ends.server_open);
        if open && self.lives(server) {
            return self.serve(server, ConnectionId(parcel.connection), *parcel.entry);
        }
        if !parcel.held {
            return;
        }
        if !self.servers[server.0].up || self.dice.percent(20) {
            let all = self.clients[client.0].endpoints.clone();
            server.0 = all[self.dice.below(all.len() as u64) as usize];
        }
        server.1 = self.servers[server.0].life;
        if !self.lives(server) || self.servers[server.0].frozen > self.now {
            return;
        }
        let from = self.network.between(client.0, server);
        self.log.say(self.now, || format!("  released at {server:?} as from {from}"));
        self.serve(server, ConnectionId(from), *parcel.entry);
    }

    /// An entry arrives at a client.
    pub(crate) fn at_client(&mut self, parcel: Parcel) {
        let Some(ends) = self.network.at(parcel.connection) else { return };
        let (client, open) = (ends.client, ends.client_open);
        let current = self.clients[client.0].connection;
        if !self.client_lives(client) {
            return;
        }
        let now_open = current.and_then(|id| self.network.at(id)).is_some_and(|ends| ends.client_open);
        if open && current == Some(parcel.connection) || parcel.held && now_open {
            let now = self.now;
            self.log.say(now, || format!("{client:?} gets {:?}", parcel.entry));
            self.clients[client.0].machine.received(*parcel.entry, now);
            self.pump_client(client.0);
        }
    }
}
