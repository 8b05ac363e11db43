//! All that may happen in a state, within the bounds of the scenario.

use selfsame::protocol::store::Op;
use selfsame::protocol::wire::Entry;

use super::{Event, State, World};
use crate::client::{self, Told};
use crate::database::Luck;
use crate::message::{Message, Way};
use crate::scenario::Scenario;
use crate::server::{self, Phase, Taken};
use crate::store::Store;

/// What is minted for a hello whose welcome nobody waits for.
const NOBODYS: u8 = 7;

impl World {
    pub(super) fn client_choices(&self, state: &State, events: &mut Vec<Event>) {
        for client in 0..self.scenario.clients {
            let node = self.client(state, client);
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
        let alone = !self.client(state, 1).lives;
        if self.scenario.copied && alone && self.client(state, 0).is_fresh() {
            events.push(Event::Copy);
        }
        if self.scenario.keyed && alone && self.client(state, 0).told[0] != Told::Nothing {
            events.push(Event::Resume);
        }
    }

    pub(super) fn server_choices(&self, state: &State, events: &mut Vec<Event>) {
        let Scenario { crashes, evictions, refusals, .. } = self.scenario;
        for server in 0..self.scenario.replicas {
            let node = self.server(state, server);
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
            (0..node.done.len()).for_each(|at| add(server::Input::Tell(at as u8)));
            if node.has_timer() {
                add(server::Input::Tick);
            }
            if state.used.clocks < self.scenario.clocks {
                [false, true].into_iter().for_each(|late| add(server::Input::Clock(late)));
            }
            if state.used.evictions < evictions {
                (0..node.sessions.len()).for_each(|at| add(server::Input::Evict(at as u8)));
            }
            if state.used.crashes < crashes {
                let done = if self.scenario.is_shared() { 0 } else { node.asked.len() };
                (0..=done).for_each(|done| events.push(Event::Crash(server, done as u8)));
            }
        }
    }

    pub(super) fn store_choices(&self, state: &State, events: &mut Vec<Event>) {
        for server in 0..self.scenario.replicas {
            let asked = &self.server(state, server).asked;
            match self.stores.at(state.store) {
                Store::Memory => {}
                Store::File(_) if asked.is_empty() => {}
                // One owner, one thing after another.
                Store::File(_) => events.push(Event::Store(server, 0, Luck::Good)),
                Store::Database(_) => {
                    for (at, (_, op)) in asked.iter().enumerate() {
                        let mut add = |luck| events.push(Event::Store(server, at as u8, luck));
                        add(Luck::Good);
                        if state.used.doubts < self.scenario.doubts
                            && matches!(op, Op::Claim(_) | Op::Finish { .. })
                        {
                            add(Luck::Doubt);
                            add(Luck::Undone);
                        }
                        if let Op::Look { record, .. } = op
                            && self.may_expire(state, *record)
                        {
                            add(Luck::Expired);
                        }
                    }
                }
            }
        }
        if let Store::Database(database) = self.stores.at(state.store) {
            if database.doubts() > 0 {
                events.extend([Event::Lands(true), Event::Lands(false)]);
            }
            if state.used.evictions < self.scenario.evictions {
                events.extend((0..database.sessions().count()).map(|at| Event::Idle(at as u8)));
            }
        }
    }

    /// The lease of a dead owner does in time; that of a living one as often as the scenario says.
    fn may_expire(&self, state: &State, record: selfsame::protocol::store::RecordId) -> bool {
        let Store::Database(database) = self.stores.at(state.store) else { return false };
        let lives = |owner| {
            (0..self.scenario.replicas)
                .any(|server| server::incarnation(server, self.server(state, server).life) == owner)
        };
        database.owner(record).is_some_and(|owner| !lives(owner) || state.used.leases < self.scenario.leases)
    }

    pub(super) fn arrivals(&self, state: &State, events: &mut Vec<Event>) {
        for &message in self.nets.at(state.net) {
            match self.message(message) {
                Message { way: Way::Down { client }, .. } => {
                    events.push(Event::Client(*client, client::Input::Take(message)));
                }
                Message { way: Way::Up { client, server }, entry } => {
                    let mut add = |taken, minted| {
                        events.push(Event::Server(*server, server::Input::Take(message, taken, minted)));
                    };
                    match entry {
                        Entry::Hello(hello) => {
                            let awaited = self.client(state, *client).awaits == Some(hello.id);
                            if !awaited || state.used.welcomes < self.scenario.welcomes {
                                add(Taken::Free, if awaited { state.used.welcomes + 1 } else { NOBODYS });
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
