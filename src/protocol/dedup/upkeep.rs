//! Sessions from their hello to their end, what clients say besides calls, and what time takes away.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::wire::{self, Ack, Cancel, Hello, Refused, Welcome};
use super::super::{CallId, Moment, PrincipalId, Refusal, Registration, WallTime};
use super::record::Execution;
use super::session::Session;
use super::{Change, Dedup, Limits, Minted, Now};
use crate::sabotage::{planted, visit};

/// Sessions and records that one [`Dedup::sweep`] looks at: some 10 µs.
const SWEEP: usize = 64;

impl Dedup {
    /// Resumes the session that the hello names, if it lives and is this principal's; else registers a new one. A registration that was
    /// named is never created again, however late its hello arrives.
    ///
    /// The welcome lacks what is not the machine's business: heartbeat, body limit and contracts.
    ///
    /// # Errors
    /// `Incompatible` if the versions have nothing in common; `Overloaded` if there are too many sessions: none is ended before its time.
    pub fn hello(
        &mut self,
        hello: &Hello,
        principal: PrincipalId,
        minted: Minted,
        now: Now,
    ) -> Result<Welcome, Refused> {
        if hello.version == 0 {
            return Err(self.refused(Refusal::Incompatible, false, "the protocol's versions begin at 1"));
        }
        let resumed = hello.resume.filter(|r| self.sessions.get(r).is_some_and(|s| s.principal == principal));
        let registration = match resumed {
            Some(registration) => registration,
            None if planted!(OldHelloRevives) => {
                let named = hello.resume.filter(|named| !self.sessions.contains_key(named));
                self.register(principal, named.unwrap_or(minted.registration), now)?
            }
            None => self.register(principal, minted.registration, now)?,
        };
        visit!("dedup: hello", "resumed {}, asked to {}", resumed.is_some(), hello.resume.is_some());
        if resumed.is_some() {
            self.counters.resumed += 1;
            // Of the registration that the hello names; under a new one nothing is closed yet.
            self.close(registration, principal, hello.acked_below, &[], now.moment);
        }
        Ok(Welcome {
            hello: hello.id,
            version: hello.version.min(wire::VERSION),
            registration,
            incarnation: self.identity.incarnation,
            stamp: minted.stamp,
            store: self.identity.store,
            generation: self.identity.generation,
            level: self.identity.level,
            ordinal: self.identity.ordinal,
            retention: self.limits.retention,
            window: self.limits.window,
            ..Welcome::default()
        })
    }

    fn register(
        &mut self,
        principal: PrincipalId,
        registration: Registration,
        now: Now,
    ) -> Result<Registration, Refused> {
        if self.sessions.len() >= self.limits.sessions {
            self.sweep(now);
        }
        if self.sessions.len() >= self.limits.sessions {
            return Err(self.refused(Refusal::Overloaded, false, "too many sessions"));
        }
        // Zero means none on the wire; a live one would be handed to a second client. Neither comes from honest dice.
        if registration == Registration(0) || self.sessions.contains_key(&registration) {
            return Err(self.refused(Refusal::Unavailable, false, "no registration could be minted"));
        }
        self.sessions.insert(registration, Session::new(principal, now.moment));
        let due = now.moment.saturating_add(self.limits.unused_retention.min(self.limits.retention));
        self.due.push(Reverse((due, registration)));
        self.counters.registered += 1;
        Ok(registration)
    }

    /// Takes an acknowledgement: what it closes is forgotten, and refused as stale from now on. Running calls run on.
    pub fn ack(&mut self, ack: &Ack, principal: PrincipalId, now: Now) {
        if planted!(AckOfAnotherSession) {
            let all: Vec<_> = self.sessions.keys().copied().collect();
            for registration in all {
                self.close(registration, principal, ack.below, &ack.closed, now.moment);
            }
        }
        self.close(ack.registration, principal, ack.below, &ack.closed, now.moment);
    }

    /// Keeps a session: its client pinged.
    pub fn touch(&mut self, registration: Registration, principal: PrincipalId, now: Now) {
        self.close(registration, principal, 0, &[], now.moment);
    }

    /// Hears of a session. False if it is not live for this principal.
    pub(super) fn close(
        &mut self,
        registration: Registration,
        principal: PrincipalId,
        below: u64,
        ranges: &[(u64, u64)],
        now: Moment,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&registration).filter(|s| s.principal == principal) else {
            return false;
        };
        session.seen = session.seen.max(now);
        let before = session.notes();
        let mut news = session.raise(below, &mut self.records);
        let limit = self.limits.window as usize;
        for &(first, last) in ranges.iter().take(limit) {
            news |= session.close(first, last, limit, &mut self.records);
        }
        self.notes = self.notes - before + session.notes();
        if news {
            self.note(Change::Closed(registration));
        }
        true
    }

    /// Nobody waits for a call any more. If it is still queued, this gives the execution to be dropped and then completed as
    /// [`Terminal::Cancelled`]. One that has [started](Dedup::started) runs to its end, one that has ended stays, and the number is not freed.
    pub fn cancel(&mut self, cancel: &Cancel, principal: PrincipalId, now: Now) -> Option<Execution> {
        if !self.close(cancel.registration, principal, 0, &[], now.moment) {
            return None;
        }
        let slot = match cancel.id {
            CallId::Sequenced(number) => self.sessions.get(&cancel.registration)?.entry(number)?.slot?,
            CallId::Keyed(key) => self.keyed.find(principal, key.key, &self.records)?,
        };
        let execution = self.records.execution(slot)?;
        let running = self.records.running_mut(execution)?;
        // Another life of the client, or another client with the same key, may wait as well; nobody cancels for others.
        let alone = running.waiters.iter().all(|w| w.registration == cancel.registration);
        if planted!(CancelFreesNumber) && running.started {
            if let Some(record) = self.records.remove(slot) {
                self.vacate(slot, record.registration, record.id, record.kept);
            }
            return None;
        }
        if running.started || running.cancelled || !alone {
            return None;
        }
        running.cancelled = true;
        visit!("dedup: cancel", "a queued call");
        Some(execution)
    }

    /// The execution has left the queue, its handler begins. False if it was cancelled, or is over: then do not run it.
    ///
    /// One whose number the client has closed meanwhile is over: nobody waits for it, and a copy may have been told that it is stale, after
    /// which no effect may start.
    pub fn started(&mut self, execution: Execution) -> bool {
        match self.records.running_mut(execution) {
            Some(running) if running.collected => {
                visit!("dedup: cancel", "closed while it was queued");
                self.discard(execution);
                false
            }
            Some(running) if !running.cancelled => {
                running.started = true;
                true
            }
            _ => false,
        }
    }

    /// Whether anybody waits for this execution: false once its client has closed its number, or it is over.
    pub fn is_wanted(&mut self, execution: Execution) -> bool {
        self.records.running_mut(execution).is_some_and(|running| !running.collected)
    }

    /// An execution whose number is closed has not begun, and does not.
    fn discard(&mut self, execution: Execution) {
        if let Some(record) = self.records.remove(execution.slot)
            && let Some(session) = self.sessions.get_mut(&record.registration)
        {
            session.running = session.running.saturating_sub(1);
        }
    }

    /// Ends what has outlived its time: idle sessions without running calls, and expired keyed records. Does a bounded amount of work and
    /// tells when to come again: at once, if there is more; never, if there is nothing to wait for.
    pub fn sweep(&mut self, now: Now) -> Option<Moment> {
        let more = self.sweep_sessions(now) | self.sweep_keyed(now.wall);
        if more {
            return Some(now.moment);
        }
        let session = self.due.peek().map(|Reverse((due, _))| *due);
        let expiry = self.expiries.next().map(|expiry| {
            now.moment.saturating_add(Duration::from_millis(expiry.0.saturating_sub(now.wall.0)))
        });
        [session, expiry].into_iter().flatten().min()
    }

    fn sweep_sessions(&mut self, now: Now) -> bool {
        for _ in 0..SWEEP {
            let Some(Reverse((due, registration))) = self.due.peek().copied() else { return false };
            if due > now.moment {
                return false;
            }
            self.due.pop();
            let Some(session) = self.sessions.get_mut(&registration) else { continue };
            let Limits { retention, unused_retention, .. } = self.limits;
            let kept_for = if session.used { retention } else { unused_retention.min(retention) };
            let before = session.notes();
            if let Some(expiry) = session.forget_expired(now.wall) {
                self.floor = self.floor.max(expiry);
            }
            let until = if session.running > 0 { now.moment } else { session.seen }.saturating_add(kept_for);
            if session.running > 0 || until > now.moment {
                self.notes -= before - session.notes();
                self.due.push(Reverse((until, registration)));
            } else if let Some(mut session) = self.sessions.remove(&registration) {
                let highest = session.highest();
                session.clear(&mut self.records);
                self.notes -= before;
                self.counters.sessions_ended += 1;
                visit!("dedup: sweep", "a session ends");
                self.note(Change::Ended(registration, highest));
            }
        }
        true
    }

    fn sweep_keyed(&mut self, wall: WallTime) -> bool {
        for _ in 0..SWEEP {
            let Some((expiry, principal, key)) = self.expiries.pop(wall) else { return false };
            // Before the record goes: from now on the floor refuses its nonce.
            if !planted!(ExpireWithoutFloor) {
                self.floor = self.floor.max(expiry);
            }
            if let Some(slot) = self.keyed.find(principal, key, &self.records) {
                self.keyed.remove(principal, key, slot);
                self.records.remove(slot);
                self.counters.expired += 1;
                visit!("dedup: sweep", "a key expires");
            }
            self.note(Change::Expired(principal, key, expiry));
        }
        true
    }
}
