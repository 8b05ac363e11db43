//! Sending calls and sending them again: the window, time-outs, back-off, and how a call ends. What a reply
//! means is in `replies`.

use std::time::Duration;

use super::Client;
use super::connection::Link;
use super::open::{Open, State};
use super::terms::{Action, Conclusion, Ended, Failure, Handle, Notice, Outcome, Why};
use super::welcome::Contract;
use crate::protocol::wire::{self, Entry, Refused};
use crate::protocol::{Moment, Refusal, RetryClass};
use crate::sabotage::{planted, visit};

/// How soon a call that is due looks again whether contracts are compared. Some round trips: a comparison is one.
const COMPARED_SOON: Duration = Duration::from_millis(10);

impl Client {
    /// Sends what waits, as far as connection and window allow.
    pub(super) fn pump(&mut self, now: Moment) {
        while self.connection.link == Link::Ready {
            let Some(&handle) = self.queue.front() else { return };
            let Some(call) = self.calls.get(handle).filter(|call| call.state == State::Queued) else {
                self.queue.pop_front();
                continue;
            };
            if call.first.is_none() && self.under_way + self.untold() >= self.window() {
                return;
            }
            self.queue.pop_front();
            self.send(handle, now);
        }
    }

    /// Sends the next attempt of a call, on a connection that is ready.
    fn send(&mut self, handle: Handle, now: Moment) {
        let Some(standing) = &self.standing else { return };
        let (registration, incarnation, stamp) =
            (standing.registration, standing.incarnation, standing.stamp);
        let body_limit = standing.body_limit.min(self.config.body_limit);
        let Some(call) = self.calls.get_mut(handle) else { return };
        let intent = &call.intent;
        if intent.deadline <= now {
            return self.give_up(handle, now);
        }
        let differs = |ours: &&Contract| ours.interface == intent.interface && !ours.is_compatible();
        if let Some(Contract { name, .. }) = self.contracts.iter().find(differs) {
            let message =
                format!("something in {name} that both have is of another form at the server than here");
            return self.refuse(handle, Refusal::Incompatible, &message, now);
        }
        if intent.body.len() > body_limit as usize {
            let message =
                format!("{} bytes of parameters, and at most {body_limit} are taken", intent.body.len());
            return self.refuse(handle, Refusal::TooLarge, &message, now);
        }
        if call.first.is_none() {
            call.first = Some(stamp);
            self.under_way += 1;
            if intent.key.is_none() {
                call.number = Some(self.numbers.take(handle.slot));
            }
        }
        let Some(id) = call.id() else { return };
        let attempt = if intent.key.is_some() {
            self.keyed_attempts = self.keyed_attempts.checked_add(1).unwrap_or(1);
            self.keyed_attempts
        } else {
            call.latest.saturating_add(u32::from(call.latest == 0 || !planted!(AttemptReused)))
        };
        // From here on the attempt may arrive, whatever becomes of the entry.
        call.enter(attempt, now, self.counters.welcomes);
        self.counters.attempts += 1;
        let intent = &call.intent;
        let entry = wire::Call {
            registration,
            incarnation,
            first_stamp: call.first.unwrap_or(stamp),
            id,
            interface: intent.interface,
            method: intent.method,
            retry: intent.retry,
            attempt,
            time_left: intent.deadline - now,
            acked_below: self.numbers.below(),
            trace: intent.trace,
            issued: intent.issued,
            metadata: intent.metadata.clone(),
            body: intent.body.clone(),
        };
        let late = now.saturating_add(timeout(self.config.attempt_timeout, call.tries));
        self.calls.set(handle, State::InFlight, late);
        self.send_entry(Entry::Call(entry), now);
        if !self.numbers.has_holes() {
            self.owed = 0;
        }
    }

    /// The call's timer went off.
    pub(super) fn due(&mut self, handle: Handle, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let deadline = call.intent.deadline;
        if deadline <= now {
            return self.give_up(handle, now);
        }
        let state = call.state;
        if self.is_comparing() && matches!(state, State::InFlight | State::BackingOff) {
            // Nothing is sent before the welcome, and that one sends nothing again: so the call looks for it.
            return self.calls.set(handle, state, now.saturating_add(COMPARED_SOON));
        }
        match state {
            State::InFlight => self.late(handle, now),
            State::BackingOff if self.connection.link != Link::Ready => {
                self.calls.set(handle, State::Quiet, deadline)
            }
            // It lost its place in the window when the registration changed.
            State::BackingOff if call.first.is_none() => self.enqueue(handle),
            State::BackingOff => self.send(handle, now),
            State::Queued | State::Quiet => self.calls.set(handle, state, deadline),
        }
    }

    /// An attempt was not answered in time.
    fn late(&mut self, handle: Handle, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let (deadline, tries) = (call.intent.deadline, call.tries);
        if self.connection.link != Link::Ready || !self.may_try_again(call, now) {
            return self.calls.set(handle, State::Quiet, deadline);
        }
        if !self.budget.withdraw(now) {
            self.counters.starved += 1;
            let later = now.saturating_add(timeout(self.config.attempt_timeout, tries));
            return self.calls.set(handle, State::InFlight, later);
        }
        self.count_retry(handle, None, Duration::ZERO);
        self.send(handle, now);
    }

    /// The latest attempt was refused, in a way that a later one may not be.
    pub(super) fn retry(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let (deadline, tries) = (call.intent.deadline, call.tries);
        let jitter = self.config.backoff.delay(tries.saturating_sub(1), self.random.bits());
        let delay = jitter.max(refused.retry_after.unwrap_or_default());
        let until = now.saturating_add(delay);
        let may = until < deadline && self.may_try_again(call, now);
        let paid = may && self.budget.withdraw(now);
        self.counters.starved += u64::from(may && !paid);
        if paid {
            self.count_retry(handle, Some(refused.refusal), delay);
            self.calls.set(handle, State::BackingOff, until);
            self.remember(handle, refused);
        } else {
            self.wait_or_end(handle, refused, now);
        }
    }

    /// The call is not sent again on this connection: it waits for the answer to an earlier attempt, if one can come.
    pub(super) fn wait_or_end(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        if call.unsettled.awaits() {
            let deadline = call.intent.deadline;
            self.calls.set(handle, State::Quiet, deadline);
            self.remember(handle, refused);
        } else {
            self.end_refused(handle, refused, now);
        }
    }

    fn may_try_again(&self, call: &Open, now: Moment) -> bool {
        let class = call.intent.retry;
        // A record may be gone when the server has not heard of us for its retention: then a retry must not arrive.
        let forgotten = class == RetryClass::Once && call.number.is_some() && self.is_forgotten(now);
        let may_have_run = !call.unsettled.is_empty();
        let too_late = forgotten && may_have_run;
        class != RetryClass::Never && call.tries < self.config.attempts && !too_late
    }

    fn count_retry(&mut self, handle: Handle, refusal: Option<Refusal>, delay: Duration) {
        if let Some(call) = self.calls.get_mut(handle) {
            call.tries += 1;
            self.counters.retries += 1;
            self.actions.push_back(Action::Notice(Notice::Retrying { handle, refusal, delay }));
        }
    }

    pub(super) fn remember(&mut self, handle: Handle, refused: Refused) {
        if let Some(call) = self.calls.get_mut(handle) {
            call.refused = Some(refused);
        }
    }

    /// The time is up.
    pub(super) fn give_up(&mut self, handle: Handle, now: Moment) {
        let Some(call) = self.calls.get_mut(handle) else { return };
        let (message, retry_after) = match call.refused.take() {
            Some(Refused { refusal, retry_after, message, .. }) => {
                (format!("last refused as {}", refusal.told(&message)), retry_after)
            }
            None => (String::new(), None),
        };
        let outcome = unless_settled(call);
        self.fail(handle, Failure { why: Why::Deadline, outcome, retry_after, message }, now);
    }

    /// This client refuses the call itself.
    pub(super) fn refuse(&mut self, handle: Handle, refusal: Refusal, message: &str, now: Moment) {
        let refused = Refused { refusal, ambiguous: false, retry_after: None, message: message.into() };
        self.end_refused(handle, refused, now);
    }

    /// Ends the call with a refusal. It did not execute only if all attempts were refused as not executed.
    pub(super) fn end_refused(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let outcome = unless_settled(call);
        let Refused { refusal, retry_after, message, .. } = refused;
        self.fail(handle, Failure { why: Why::Refused(refusal), outcome, retry_after, message }, now);
    }

    pub(super) fn fail(&mut self, handle: Handle, failure: Failure, now: Moment) {
        self.end(handle, Conclusion::Failed(failure), false, now);
    }

    pub(super) fn end(&mut self, handle: Handle, conclusion: Conclusion, replayed: bool, now: Moment) {
        let Some(call) = self.close(handle, now) else { return };
        if let Conclusion::Failed(Failure { outcome: Outcome::Unknown, .. }) = conclusion {
            self.counters.unknown += 1;
        }
        let registration = self.registration().unwrap_or_default();
        let (id, attempts) = (call.id(), call.attempts);
        self.actions
            .push_back(Action::Done(handle, Ended { id, registration, attempts, replayed, conclusion }));
    }

    /// Forgets a call; its number is closed.
    pub(super) fn close(&mut self, handle: Handle, now: Moment) -> Option<Open> {
        let call = self.calls.remove(handle)?;
        visit!("client: state", "{:?} -> closed", call.state);
        self.under_way -= usize::from(call.first.is_some());
        if let Some(key) = call.intent.key
            && self.keyed.get(&key.key) == Some(&handle.slot)
        {
            self.keyed.remove(&key.key);
        }
        if let Some(number) = call.number {
            self.numbers.close(number);
            if self.owed == 0 {
                self.owed_since = now;
            }
            self.owed = self.owed.saturating_add(1);
        }
        if self.calls.len() == 0 {
            self.queue.clear();
        }
        Some(call)
    }
}

/// What may be said of a call that got no answer.
fn unless_settled(call: &Open) -> Outcome {
    if call.unsettled.is_empty() || planted!(NoAlthoughUnsettled) { Outcome::No } else { Outcome::Unknown }
}

/// The time-out of the attempt that counts as the n-th.
fn timeout(first: Duration, tries: u32) -> Duration {
    let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    first.max(Duration::from_millis(1)).saturating_mul(doubled)
}
