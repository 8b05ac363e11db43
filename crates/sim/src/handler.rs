//! What handlers do: take their time, have their effect somewhere on the way, call a second service within their request, and answer in every way that
//! a handler can.

use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::dedup::{Execution, Shed, Terminal};
use selfsame::protocol::store::Ticket;
use selfsame::protocol::wire::Call;
use selfsame::protocol::{CallId, Key, Level, Moment, PrincipalId, Refusal, RetryClass, WallTime};
use selfsame::sabotage::{Bug, is_planted};
use selfsame_check::{Fact, Told};

use crate::client::{Making, nonce};
use crate::dice::{Dice, hash, mix};
use crate::event::{Event, Life, Purpose};
use crate::world::World;

/// What the parameters of a call say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The effect of an intention.
    Do(Purpose),
    /// Add one to a counter: the parameters of many calls are alike.
    Count(u64),
}

/// The parameters that say so.
pub fn body(work: Work) -> Bytes {
    let (kind, number) = match work {
        Work::Do(purpose) => (0, purpose),
        Work::Count(tally) => (1, tally),
    };
    let mut body = vec![kind];
    body.extend_from_slice(&number.to_le_bytes());
    body.into()
}

impl Work {
    /// What parameters say.
    pub fn read(body: &[u8]) -> Option<Work> {
        let (kind, number) = body.split_first()?;
        let number = u64::from_le_bytes(number.try_into().ok()?);
        Some(if *kind == 0 { Work::Do(number) } else { Work::Count(number) })
    }

    /// The counter, if that is all.
    pub fn tally(self) -> Option<u64> {
        match self {
            Work::Do(_) => None,
            Work::Count(tally) => Some(tally),
        }
    }

    fn purpose(self) -> Option<Purpose> {
        match self {
            Work::Do(purpose) => Some(purpose),
            Work::Count(_) => None,
        }
    }
}

/// The method of each class in the simulated contract.
pub fn method(class: RetryClass) -> u16 {
    match class {
        RetryClass::Once => 1,
        RetryClass::Never => 2,
        RetryClass::Idempotent => 3,
        RetryClass::ReadOnly => 4,
    }
}

/// A method that no server has.
pub const NO_METHOD: u16 = 9;

/// The class of each method. None: there is no such method.
pub fn class_of_method(method: u16) -> Option<RetryClass> {
    [RetryClass::Once, RetryClass::Never, RetryClass::Idempotent, RetryClass::ReadOnly]
        .into_iter()
        .find(|class| self::method(*class) == method)
}

/// What a handler says when its own call to the second service can tell no more.
pub const LOST_BELOW: &str = "unknown below for good";

/// A handler at work.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) execution: Execution,
    call: Call,
    principal: u64,
    /// Names the transaction that it works in, in an atomic store.
    claim: Option<Ticket>,
    /// What it has done, or is to do, if anything.
    effect: Option<Fact>,
    pub(crate) done: bool,
    answer: Terminal,
    /// It has no time to answer after this.
    until: Moment,
    /// It waits for the second service.
    waits: bool,
    after: Duration,
}

/// What a handler makes up its mind to do.
struct Intention {
    effect: bool,
    answer: Terminal,
    time: Duration,
    nested: bool,
}

impl World {
    /// The handler of an admitted call begins.
    pub(crate) fn start_handler(&mut self, life: Life, execution: Execution) {
        let Some(waiting) = self.servers[life.0].works.remove(&execution) else { return };
        let (call, principal) = (waiting.call, waiting.principal);
        let id = nonce(principal, call.registration, call.id);
        let incarnation = self.servers[life.0].incarnation.0;
        self.fact(Fact::Start { nonce: id, replica: life.0 as u64, incarnation });
        let run = self.serial();
        let claim = self.servers[life.0].replica.claim(execution);
        let mut intention = self.make_up_a_mind(&call, run, self.servers[life.0].service);
        let work = Work::read(&call.body);
        let effect = Fact::Effect {
            nonce: id,
            purpose: work.and_then(Work::purpose),
            tally: work.and_then(Work::tally),
            body: hash(&call.body),
            replica: life.0 as u64,
            incarnation,
        };
        let server = &mut self.servers[life.0];
        intention.nested &= server.inner.is_some();
        let until = self.now + self.profile.handler_timeout;
        let share = self.dice.between(0, 1000) as u32;
        let effect_after = intention.time * share / 1000;
        let run_of = Run {
            execution,
            call,
            principal,
            claim,
            effect: intention.effect.then_some(effect),
            done: false,
            answer: intention.answer,
            until,
            waits: intention.nested,
            after: effect_after,
        };
        server.runs.insert(run, run_of);
        if intention.nested {
            return self.call_within(life, run);
        }
        self.go_on(life, run, intention.time);
    }

    /// The handler has so long to go.
    fn go_on(&mut self, life: Life, run: u64, time: Duration) {
        let Some(running) = self.servers[life.0].runs.get(&run) else { return };
        let (effect, until) = (self.now + running.after.min(time), running.until);
        if running.effect.is_some() {
            self.plan_at(effect, Event::Effect(life, run));
        }
        self.plan_at((self.now + time).min(until), Event::Finish(life, run));
    }

    fn make_up_a_mind(&mut self, call: &Call, run: u64, service: usize) -> Intention {
        let reply = |pad: usize| {
            let mut reply = call.body.to_vec();
            // Two runs of a handler never answer alike.
            reply.extend_from_slice(&run.to_le_bytes());
            reply.resize(reply.len() + pad, 0);
            Terminal::Ok(reply.into())
        };
        let dice = &mut self.dice;
        let once = call.retry == RetryClass::Once;
        let nested = once && service == 0 && dice.percent(40);
        let slow = dice.percent(self.profile.slow_handlers / if self.healed { 3 } else { 1 });
        if self.healed {
            let time = if slow { dice.ms(200, 500) } else { dice.ms(0, 20) };
            return Intention { effect: true, answer: reply(0), time, nested };
        }
        let time = if slow { dice.ms(200, 4_000) } else { dice.ms(0, 50) };
        if !dice.percent(self.profile.contrary) {
            return Intention { effect: true, answer: reply(0), time, nested };
        }
        let (effect, answer) = contrary(dice, run, &reply(512), call);
        Intention { effect, answer, time, nested: nested && effect }
    }

    /// Calls the second service, as `.within` does: under a nonce that follows from the request's own.
    fn call_within(&mut self, life: Life, run: u64) {
        let server = &self.servers[life.0];
        let (Some(inner), Some(running)) = (server.inner, server.runs.get(&run)) else { return };
        let call = &running.call;
        let lineage = lineage(call, self.profile.limits.retention);
        let again = if is_planted(Bug::DerivedNonceDiffers) { run } else { 0 };
        let parts = [u128::from(running.principal), lineage.key, u128::from(again)];
        let key = Key { key: digest(&parts), ..lineage };
        let purpose = match Work::read(&call.body) {
            Some(Work::Do(purpose)) => purpose | 1 << 60,
            // The parameters do not name an intention, but the nonce does.
            _ => mix(key.key as u64) >> 8 | 1 << 61,
        };
        let patience = call.time_left.min(self.profile.handler_timeout);
        let work = body(Work::Do(purpose));
        let making =
            Making { purpose, class: RetryClass::Once, key: Some(key), body: work, patience, run: Some(run) };
        self.start_call(inner, making);
    }

    /// The second service has answered, or has not.
    pub(crate) fn nested_told(&mut self, client: usize, run: u64, told: Told) {
        let Some(life) = self.clients[client].inner else { return };
        if !self.lives(life) {
            return;
        }
        let Some(running) = self.servers[life.0].runs.get_mut(&run).filter(|run| run.waits) else { return };
        running.waits = false;
        let answer = match told {
            Told::Ok(_) => None,
            Told::Declined(_) => Some(Terminal::Declined { fault: 2, body: Bytes::new() }),
            Told::No => Some(Terminal::Unavailable { message: "nothing below".into(), retry_after: None }),
            Told::Failed => Some(Terminal::Failed("it failed below".into())),
            Told::Yes | Told::Unknown { .. } => {
                let lasting = told == Told::Unknown { lasting: true };
                let message = if lasting { LOST_BELOW } else { "unknown below" };
                Some(Terminal::Interrupted { message: message.into(), retry_after: None })
            }
        };
        if let Some(answer) = answer {
            running.answer = answer;
            running.effect = None;
        }
        let time = self.dice.ms(0, 20);
        self.go_on(life, run, time);
    }

    /// The handler has its effect: for all to see, or in its transaction.
    pub(crate) fn effect(&mut self, life: Life, run: u64) {
        if !self.lives(life) {
            return;
        }
        let Some(running) = self.servers[life.0].runs.get_mut(&run) else { return };
        let Some(fact) = running.effect.take() else { return };
        running.done = true;
        match running.claim {
            Some(claim) if self.profile.level == Level::Atomic => {
                let store = self.servers[life.0].service;
                self.log.say(self.now, || format!("in the transaction of {claim:?}: {fact}"));
                self.stores[store].stage(life, claim, fact);
            }
            _ => self.fact(fact),
        }
    }

    /// The handler answers, or its time is up.
    pub(crate) fn finish(&mut self, life: Life, run: u64) {
        if !self.lives(life) {
            return;
        }
        let Some(running) = self.servers[life.0].runs.remove(&run) else { return };
        let overdue = running.until <= self.now;
        let answer =
            if overdue { Terminal::Failed("the handler ran too long".into()) } else { running.answer };
        self.seen.terminal(&answer);
        self.log.say(self.now, || format!("server {life:?} run {run}: {answer:?}"));
        self.complete(life, running.execution, answer);
    }

    /// The process of these handlers is dead. What they had sent off may still arrive.
    pub(crate) fn orphan_runs(&mut self, life: Life) {
        for running in std::mem::take(&mut self.servers[life.0].runs).into_values() {
            let outside = !(self.profile.level == Level::Atomic && running.claim.is_some());
            if let Some(fact) = running.effect.filter(|_| outside && !running.waits)
                && self.dice.percent(25)
            {
                let delay = self.dice.ms(0, 1_500);
                self.plan(delay, Event::LateEffect(Box::new(fact)));
            }
        }
    }
}

/// Every answer but a plain reply, and whether there is an effect.
fn contrary(dice: &mut Dice, run: u64, large: &Terminal, call: &Call) -> (bool, Terminal) {
    let retry_after = Some(Duration::from_millis(dice.between(0, 200)));
    let message = format!("run {run}");
    match dice.below(8) {
        0 => (false, Terminal::Declined { fault: 1, body: Bytes::copy_from_slice(&run.to_le_bytes()) }),
        1 => (true, Terminal::Failed(message)),
        2 => (false, Terminal::Failed(format!("the handler panicked in {message}"))),
        3 => (false, Terminal::Unavailable { message, retry_after }),
        4 => (false, Terminal::Interrupted { message, retry_after }),
        5 => (false, Terminal::NotStarted(Shed::new(Refusal::Deadline))),
        6 if call.retry == RetryClass::Once => (true, large.clone()),
        _ => (true, Terminal::Ok(Bytes::copy_from_slice(&run.to_le_bytes()))),
    }
}

/// What the nonces of calls within a call follow from, as the server's shell has it.
fn lineage(call: &Call, retention: Duration) -> Key {
    match call.id {
        CallId::Keyed(key) => key,
        CallId::Sequenced(number) => {
            let key = digest(&[call.registration.0, u128::from(number)]);
            let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
            let expiry = WallTime(call.issued.0.saturating_add(retention.saturating_mul(2)));
            Key { key, issued: call.issued, expiry }
        }
    }
}

/// 128 bits that follow from the parts.
fn digest(parts: &[u128]) -> u128 {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    let half = hash(&bytes);
    u128::from(mix(half)) << 64 | u128::from(mix(half ^ hash(&half.to_le_bytes())))
}

/// A principal as the machines name it.
pub fn principal(number: u64) -> PrincipalId {
    PrincipalId(number)
}
