//! Sessions between the table and the store: registered before they are welcomed, resumed from wherever they were, told what they closed.

use super::super::dedup::{Minted, Now};
use super::super::store::{Done, Op, StoredSession};
use super::super::wire::{Hello, Refused};
use super::super::{ConnectionId, Level, Moment, PrincipalId, Refusal, Registration};
use super::{Action, Asked, LATEST, Replica, STORE_PAUSE, State};

/// A hello that waits for the store.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub from: ConnectionId,
    hello: Hello,
    principal: PrincipalId,
    minted: Minted,
}

impl Replica {
    /// Answers a hello, when the store has what the welcome promises.
    pub fn hello(
        &mut self,
        from: ConnectionId,
        hello: &Hello,
        principal: PrincipalId,
        minted: Minted,
        now: Now,
    ) {
        match self.state {
            State::Open => {}
            State::Opening => return self.turn_away(from, "the server's store is not open yet"),
            State::Down => return self.turn_away(from, "the server's store cannot be reached"),
            State::Stopped => return self.turn_away(from, "the server's store has stopped"),
        }
        let greeting = Greeting { from, hello: hello.clone(), principal, minted };
        match (self.level, hello.resume) {
            (Level::Memory, _) => self.welcome(greeting, now),
            (Level::Durable, Some(registration)) if self.dedup.knows(registration, principal) => {
                self.welcome(greeting, now);
            }
            (Level::Shared | Level::Atomic, Some(registration)) => {
                self.ask(Op::Resume { registration, principal }, Asked::Resume(Box::new(greeting)));
            }
            _ => self.register(greeting),
        }
    }

    fn register(&mut self, greeting: Greeting) {
        let (registration, principal) = (greeting.minted.registration, greeting.principal);
        self.ask(Op::Register { registration, principal }, Asked::Register(Box::new(greeting)));
    }

    pub(super) fn registered(&mut self, mut greeting: Greeting, done: Done, now: Now) {
        match done {
            Done::Stored => {}
            Done::Registered { ordinal } => self.dedup.count_incarnations(ordinal),
            Done::NotDone(why) | Done::InDoubt(why) => return self.turn_away(greeting.from, &why),
            _ => return self.turn_away(greeting.from, "the store did not take the session in"),
        }
        // What it named does not live, so it is registered under what was minted.
        greeting.hello.resume = None;
        let (registration, principal) = (greeting.minted.registration, greeting.principal);
        self.welcome(greeting, now);
        if self.dedup.knows(registration, principal) {
            self.remember(registration, now.moment);
        } else if self.level == Level::Durable {
            // There was no room for it here.
            self.end_in_store(registration);
        }
    }

    /// The store has just heard of the session.
    fn remember(&mut self, registration: Registration, now: Moment) {
        if self.is_cache() {
            self.refreshed.insert(registration, now);
        }
    }

    pub(super) fn resumed(&mut self, greeting: Greeting, done: Done, now: Now) {
        let (Some(registration), principal) = (greeting.hello.resume, greeting.principal) else { return };
        match done {
            Done::Session { below, .. } if !self.may_adopt(registration, principal, below) => {
                self.register(greeting);
            }
            Done::Session { below, ranges, ordinal } => {
                self.resume(StoredSession { registration, principal, below, ranges }, ordinal, now);
                self.welcome(greeting, now);
            }
            Done::Gone => {
                // It may be that the store has it for somebody else, who goes on with it.
                if self.dedup.knows(registration, principal) {
                    self.gone(registration);
                }
                self.register(greeting);
            }
            Done::NotDone(why) | Done::InDoubt(why) => self.turn_away(greeting.from, &why),
            _ => self.turn_away(greeting.from, "the store did not find the session"),
        }
    }

    /// The store has the session.
    pub(super) fn resume(&mut self, session: StoredSession, ordinal: u64, now: Now) {
        self.dedup.count_incarnations(ordinal);
        self.forgotten.remove(&session.registration);
        self.dedup.adopt(&session, now);
        self.remember(session.registration, now.moment);
    }

    fn welcome(&mut self, greeting: Greeting, now: Now) {
        let Greeting { from, hello, principal, minted } = greeting;
        let answer = match self.dedup.hello(&hello, principal, minted, now) {
            Ok(welcome) => Action::Welcome { to: from, hello: Box::new(hello), welcome: Box::new(welcome) },
            Err(refused) => Action::Refuse { to: from, refused },
        };
        self.actions.push_back(answer);
    }

    pub(super) fn turn_away(&mut self, to: ConnectionId, why: &str) {
        let (refusal, retry_after) = (Refusal::Unavailable, Some(STORE_PAUSE));
        let refused = Refused { refusal, ambiguous: false, retry_after, message: why.into() };
        self.actions.push_back(Action::Refuse { to, refused });
    }

    /// A client was heard of: a store that replicas share is told now and then, or it would take the session for idle.
    pub(super) fn heard(&mut self, registration: Registration, now: Moment) {
        if !self.is_cache() {
            return;
        }
        let interval = self.limits.retention / 8;
        if let Some(last) = self.refreshed.get_mut(&registration)
            && now.saturating_sub(*last) >= interval
        {
            *last = now;
            self.closed.insert(registration);
        }
    }

    /// Tells the store what sessions have closed, one operation a session at a time.
    pub(super) fn close_numbers(&mut self) {
        if self.closed.is_empty() || self.state != State::Open {
            return;
        }
        let ready: Vec<_> = self.closed.difference(&self.closing).copied().collect();
        for registration in ready {
            self.closed.remove(&registration);
            let Some((below, ranges)) = self.dedup.closed(registration) else { continue };
            self.closing.insert(registration);
            self.ask(Op::Close { registration, below, ranges }, Asked::Close(registration));
        }
    }

    pub(super) fn numbers_closed(&mut self, registration: Registration, done: &Done, now: Now) {
        match (done, self.dedup.closed(registration)) {
            (Done::Gone, _) => self.gone(registration),
            (Done::Stored, _) | (_, None) => {}
            (_, Some((below, ranges))) => {
                let op = Op::Close { registration, below, ranges };
                return self.ask_later(op, Asked::Close(registration), LATEST, now);
            }
        }
        self.closing.remove(&registration);
    }

    /// A session is over here. Nobody is told before it is over in the file as well, where it would begin anew after a crash.
    pub(super) fn end_in_store(&mut self, registration: Registration) {
        self.ending.insert(registration);
        self.ask(Op::End(registration), Asked::End(registration));
    }

    /// The store does not have the session any more.
    pub(super) fn gone(&mut self, registration: Registration) {
        self.dedup.end_session(registration);
        self.forget(registration);
    }

    pub(super) fn forget(&mut self, registration: Registration) {
        self.refreshed.remove(&registration);
        self.closed.remove(&registration);
    }
}
