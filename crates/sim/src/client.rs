//! A client process: its machine, its callers, what it saved in case it dies, and its clock.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::call::{self, Action, Conclusion, Ended, Handle, Intent, Notice, Outcome, Why};
use selfsame::protocol::retry::{Backoff, Pace};
use selfsame::protocol::{CallId, Key, Moment, Refusal, Registration, RetryClass, Session, WallTime};
use selfsame_check::{Class, Fact, Nonce, Told};

use crate::dice::{Dice, hash};
use crate::event::{Event, Keyed, Life, Purpose};
use crate::handler::{LOST_BELOW, NO_METHOD, Work, body};
use crate::log::micros;
use crate::profile::{Faults, Profile};
use crate::world::World;

/// See the [module](self).
pub struct Client {
    pub(crate) life: u64,
    pub(crate) up: bool,
    pub(crate) frozen: Moment,
    pub(crate) machine: call::Client,
    pub(crate) principal: u64,
    pub(crate) endpoints: Vec<usize>,
    pub(crate) turn: usize,
    pub(crate) connection: Option<u64>,
    pub(crate) pace: Pace,
    callers: BTreeMap<Handle, Caller>,
    /// Milliseconds by which its wall clock is off.
    pub(crate) skew: i64,
    /// Keys that it is to ask under until it has an answer: on its disk.
    saved: BTreeMap<u128, Keyed>,
    /// The server whose handlers it calls for.
    pub(crate) inner: Option<Life>,
    tick: Option<Moment>,
    born: Moment,
}

#[derive(Clone, Debug)]
struct Caller {
    call: u64,
    key: Option<Key>,
    /// The run of the handler that waits for it.
    run: Option<u64>,
}

/// What a call is made of.
pub struct Making {
    /// The intention.
    pub purpose: Purpose,
    /// What the contract says.
    pub class: RetryClass,
    /// The nonce, if it is a keyed one.
    pub key: Option<Key>,
    /// The parameters.
    pub body: Bytes,
    /// How long its caller waits.
    pub patience: Duration,
    /// The run of the handler that makes it.
    pub run: Option<u64>,
}

impl Client {
    /// One that has not been started.
    pub fn new(
        principal: u64,
        endpoints: Vec<usize>,
        inner: Option<Life>,
        profile: &Profile,
        dice: &mut Dice,
    ) -> Self {
        Client {
            life: 0,
            up: false,
            frozen: Moment::ZERO,
            machine: call::Client::new(profile.client, Session(dice.wide()), dice.bits()),
            principal,
            turn: dice.below(endpoints.len() as u64) as usize,
            endpoints,
            connection: None,
            pace: Pace::new(Backoff::CONNECTIONS),
            callers: BTreeMap::new(),
            skew: dice.between(0, 300) as i64 - 150,
            saved: BTreeMap::new(),
            inner,
            tick: None,
            born: Moment::ZERO,
        }
    }
}

/// The class as the checker names it.
pub fn class_of(class: RetryClass) -> Class {
    match class {
        RetryClass::Once => Class::Once,
        RetryClass::Never => Class::Never,
        RetryClass::Idempotent => Class::Idempotent,
        RetryClass::ReadOnly => Class::ReadOnly,
    }
}

/// The nonce as the checker names it.
pub fn nonce(principal: u64, registration: Registration, id: CallId) -> Nonce {
    match id {
        CallId::Sequenced(number) => Nonce::Sequenced { registration: registration.0, number },
        CallId::Keyed(key) => Nonce::Keyed { principal, key: key.key },
    }
}

/// In some runs a session may be used by two clients, or end because a server stands still; that is then heard from the server.
fn told(conclusion: &Conclusion, faults: &Faults) -> Told {
    let failure = match conclusion {
        Conclusion::Ok(body) => return Told::Ok(hash(body)),
        Conclusion::Failed(failure) => failure,
    };
    match (&failure.why, failure.outcome) {
        (Why::Declined { body, .. }, _) => Told::Declined(hash(body)),
        (Why::Failed, _) => Told::Failed,
        (_, Outcome::Yes) => Told::Yes,
        (_, Outcome::No) => Told::No,
        (why, Outcome::Unknown) => Told::Unknown {
            lasting: match why {
                Why::Refused(Refusal::Interrupted) => failure.message == LOST_BELOW,
                Why::Refused(Refusal::SessionShared | Refusal::Stale | Refusal::InProgress) => {
                    faults.fork.is_some()
                }
                Why::Refused(Refusal::SessionUnknown) => faults.pause.is_some(),
                Why::Refused(refusal) => matches!(
                    refusal,
                    Refusal::Expired | Refusal::StoreChanged | Refusal::RecordedUnknown | Refusal::Mismatch
                ),
                _ => false,
            },
        },
    }
}

impl World {
    pub(crate) fn client_lives(&self, life: Life) -> bool {
        let client = &self.clients[life.0];
        client.up && client.life == life.1
    }

    /// A process begins, with what an earlier one had saved.
    pub(crate) fn boot_client(&mut self, at: usize) {
        if self.clients[at].up {
            return;
        }
        let machine = call::Client::new(self.profile.client, Session(self.dice.wide()), self.dice.bits());
        let client = &mut self.clients[at];
        client.life += 1;
        client.up = true;
        client.machine = machine;
        client.connection = None;
        client.pace = Pace::new(Backoff::CONNECTIONS);
        client.tick = None;
        client.born = self.now;
        let life = Life(at, client.life);
        let saved: Vec<_> = client.saved.keys().copied().collect();
        let inner = client.inner.is_some();
        self.log.say(self.now, || format!("client {life:?} begins"));
        self.plan(Duration::ZERO, Event::Dial(life));
        if !inner {
            self.plan(Duration::from_millis(1), Event::Call(life));
        }
        for key in saved {
            let delay = self.dice.ms(0, 500);
            self.plan(delay, Event::Ask(life, key));
        }
    }

    /// A process dies: its callers are told nothing.
    pub(crate) fn end_client(&mut self, at: usize) {
        if !self.clients[at].up {
            return;
        }
        self.log.say(self.now, || format!("client {at} ends"));
        self.measure_client(at);
        self.hang_up(at);
        self.clients[at].up = false;
        for caller in std::mem::take(&mut self.clients[at].callers).into_values() {
            self.fact(Fact::Left { call: caller.call });
        }
    }

    /// A client is copied, as a snapshot of a virtual machine would: the copy has the session, and nobody waits in it for what was open.
    pub(crate) fn fork(&mut self, at: usize) {
        let now = self.now;
        let original = &mut self.clients[at];
        let mut machine = original.machine.clone();
        machine.disconnected();
        for handle in original.callers.keys() {
            machine.cancel(*handle, now);
        }
        while machine.poll_action().is_some() {}
        let copy = Client {
            life: 1,
            up: true,
            frozen: Moment::ZERO,
            machine,
            principal: original.principal,
            endpoints: original.endpoints.clone(),
            turn: original.turn,
            connection: None,
            pace: Pace::new(Backoff::CONNECTIONS),
            callers: BTreeMap::new(),
            skew: original.skew,
            saved: BTreeMap::new(),
            inner: None,
            tick: None,
            born: original.born,
        };
        let life = Life(self.clients.len(), 1);
        self.log.say(now, || format!("client {at} is copied: {life:?}"));
        self.clients.push(copy);
        self.plan(Duration::ZERO, Event::Dial(life));
        self.plan(Duration::from_millis(1), Event::Call(life));
    }

    /// Somebody calls, and calls again a little later.
    pub(crate) fn make_call(&mut self, life: Life) {
        if !self.client_lives(life) || self.is_over() {
            return;
        }
        let pace = micros(self.profile.pace);
        let next = Duration::from_micros(self.dice.between(pace / 10, pace * 2));
        self.plan(next, Event::Call(life));
        if !self.calls_are_made() {
            return;
        }
        let making = self.invent(life);
        self.start_call(life.0, making);
        if !self.healed && self.dice.percent(5) {
            self.cancel_one(life.0);
        }
    }

    fn invent(&mut self, life: Life) -> Making {
        let patience = if self.healed { Duration::from_secs(8) } else { self.dice.ms(30, 5_000) };
        let purpose = self.serial();
        let plain = |class, body| Making { purpose, class, key: None, body, patience, run: None };
        let dice = self.dice.below(100);
        if dice < self.profile.keyed {
            return self.invent_keyed(life, purpose, patience);
        }
        if dice < self.profile.keyed + self.profile.counting {
            let tally = self.dice.below(3);
            return plain(RetryClass::Once, body(Work::Count(tally)));
        }
        let class = match self.dice.below(10) {
            0 => RetryClass::Never,
            1 => RetryClass::Idempotent,
            2 => RetryClass::ReadOnly,
            _ => RetryClass::Once,
        };
        plain(class, body(Work::Do(purpose)))
    }

    /// A new key; or one that somebody of the same principal called under before; or, by mistake, one of those for something else.
    fn invent_keyed(&mut self, life: Life, purpose: Purpose, patience: Duration) -> Making {
        let principal = self.clients[life.0].principal;
        let known: Vec<_> = self.keys.iter().filter(|(whose, _)| *whose == principal).collect();
        let old = known.len().checked_sub(1).filter(|_| self.dice.percent(35) && !self.healed);
        let keyed = match old {
            // Mostly one of the latest, which may still be running.
            Some(last) => known[last - (self.dice.below(4) as usize).min(last)].1.clone(),
            None => {
                let issued = self.wall_of(self.clients[life.0].skew);
                let validity = self.dice.between(2_000, 40_000);
                // The two principals have the same keys.
                let key =
                    u128::from(known.len() as u64 + 1) << 64 | u128::from(self.heal_at.as_millis() as u64);
                let key = Key { key, issued, expiry: WallTime(issued.0 + validity) };
                let keyed = Keyed { key, purpose, body: body(Work::Do(purpose)) };
                self.keys.push((principal, keyed.clone()));
                keyed
            }
        };
        let mistaken = old.is_some() && self.dice.percent(10);
        if !mistaken {
            self.clients[life.0].saved.insert(keyed.key.key, keyed.clone());
        }
        let (purpose, body) =
            if mistaken { (purpose, body(Work::Do(purpose))) } else { (keyed.purpose, keyed.body) };
        Making { purpose, class: RetryClass::Once, key: Some(keyed.key), body, patience, run: None }
    }

    /// Asks again what was not answered.
    pub(crate) fn ask_again(&mut self, life: Life, key: u128) {
        if !self.client_lives(life) || self.is_over() {
            return;
        }
        let client = &self.clients[life.0];
        let open = client.callers.values().any(|caller| caller.key.is_some_and(|open| open.key == key));
        let Some(keyed) = client.saved.get(&key).filter(|_| !open).cloned() else { return };
        let patience = if self.healed { Duration::from_secs(8) } else { self.dice.ms(200, 5_000) };
        let Keyed { key, purpose, body } = keyed;
        self.start_call(
            life.0,
            Making { purpose, class: RetryClass::Once, key: Some(key), body, patience, run: None },
        );
    }

    /// Asks once more for all that was saved. For the time after healing.
    pub(crate) fn ask_for_the_rest(&mut self) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let (life, saved): (_, Vec<_>) = (Life(at, client.life), client.saved.keys().copied().collect());
            for key in saved {
                let delay = crate::world::GRACE + self.dice.ms(0, 1_000);
                self.plan(delay, Event::Ask(life, key));
            }
        }
    }

    pub(crate) fn start_call(&mut self, at: usize, making: Making) {
        let Making { purpose, class, key, body, patience, run } = making;
        self.calls += 1;
        let (call, deadline, now) = (self.calls, self.now + patience, self.now);
        let issued = self.wall_of(self.clients[at].skew);
        let client = &self.clients[at];
        let work = Work::read(&body);
        self.log.fact(
            now,
            Fact::Call {
                call,
                purpose,
                class: class_of(class),
                key: key.map(|key| Nonce::Keyed { principal: client.principal, key: key.key }),
                body: hash(&body),
                tally: work.and_then(Work::tally),
                deadline: micros(deadline),
            },
        );
        // Now and then somebody has a newer contract than the server.
        let copied = self.profile.faults.fork.is_some();
        let unheard_of = !self.healed && !copied && run.is_none() && key.is_none() && self.dice.percent(1);
        let method = if unheard_of { NO_METHOD } else { crate::handler::method(class) };
        let intent = Intent {
            interface: 1,
            method,
            retry: class,
            body,
            deadline,
            key,
            issued,
            trace: None,
            metadata: Vec::new(),
        };
        let client = &mut self.clients[at];
        let handle = client.machine.start(intent, now);
        client.callers.insert(handle, Caller { call, key, run });
        self.pump_client(at);
    }

    fn cancel_one(&mut self, at: usize) {
        let now = self.now;
        let client = &mut self.clients[at];
        let open: Vec<_> = client.callers.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let handle = open[self.dice.below(open.len() as u64) as usize];
        if let Some(caller) = client.callers.remove(&handle) {
            client.machine.cancel(handle, now);
            self.seen.visit("client: call", "cancelled");
            self.fact(Fact::Left { call: caller.call });
        }
        self.pump_client(at);
    }

    pub(crate) fn client_tick(&mut self, life: Life) {
        if self.client_lives(life) {
            let now = self.now;
            self.clients[life.0].tick = None;
            self.clients[life.0].machine.tick(now);
            self.pump_client(life.0);
        }
    }

    /// Does what the machine says, and plans when to look at it again.
    pub(crate) fn pump_client(&mut self, at: usize) {
        while let Some(action) = self.clients[at].machine.poll_action() {
            match action {
                Action::Send(entry) => {
                    self.log.say(self.now, || format!("client {at} sends {entry:?}"));
                    self.send_to_server(at, entry);
                }
                Action::Done(handle, ended) => self.tell(at, handle, &ended),
                Action::Reconnect { why } => {
                    self.log.say(self.now, || format!("client {at} reconnects: {why}"));
                    self.hang_up(at);
                    self.redial(at);
                }
                Action::Notice(Notice::Welcomed { .. }) => self.clients[at].pace.worked(),
                Action::Notice(_) => {}
            }
        }
        let client = &mut self.clients[at];
        let (life, next) = (Life(at, client.life), client.machine.next_tick());
        if let Some(next) = next.filter(|next| client.up && client.tick.is_none_or(|planned| *next < planned))
        {
            client.tick = Some(next);
            self.plan_at(next, Event::ClientTick(life));
        }
    }

    fn tell(&mut self, at: usize, handle: Handle, ended: &Ended) {
        let client = &mut self.clients[at];
        let Some(caller) = client.callers.remove(&handle) else { return };
        let told = told(&ended.conclusion, &self.profile.faults);
        let id = ended.id.map(|id| nonce(client.principal, ended.registration, id));
        self.seen.conclusion(ended);
        if let Some(key) = caller.key {
            if matches!(told, Told::Unknown { lasting: false }) {
                let delay = self.dice.ms(50, 1_500);
                self.plan(delay, Event::Ask(Life(at, self.clients[at].life), key.key));
            } else {
                self.clients[at].saved.remove(&key.key);
            }
        }
        if let Conclusion::Failed(failure) = &ended.conclusion {
            self.log.say(self.now, || format!("client {at}: {failure:?}"));
        }
        self.fact(Fact::Told { call: caller.call, nonce: id, told });
        if let Some(run) = caller.run {
            self.nested_told(at, run, told);
        }
    }

    /// What a client's machine has used and holds.
    pub(crate) fn measure_client(&mut self, at: usize) {
        let client = &self.clients[at];
        let counters = client.machine.counters();
        let seconds = (self.now - client.born).as_secs() + 11;
        let allowance = self.profile.client.budget;
        let paid = (counters.calls * u64::from(allowance.percent)).div_ceil(100)
            + seconds * u64::from(allowance.per_second);
        let (open, callers) = (client.machine.open() as u64, client.callers.len() as u64);
        self.held("retries", counters.retries, paid);
        self.held("open-calls", open, callers);
    }

    pub(crate) fn held(&mut self, what: &str, value: u64, at_most: u64) {
        self.fact(Fact::Measure { what: what.into(), value, at_most });
    }
}
