//! What a reply means for the call that it answers: the table of `docs/wire.md`, "The client".

use super::Client;
use super::connection::Link;
use super::open::State;
use super::terms::{Action, Conclusion, Failure, Handle, Notice, Outcome, Why};
use crate::protocol::wire::{Answer, Refused, Reply};
use crate::protocol::{CallId, Moment, Refusal, RetryClass, Session};
use crate::sabotage::visit;

impl Client {
    pub(super) fn reply(&mut self, reply: Reply, now: Moment) {
        let Some(handle) = self.addressee(&reply) else {
            self.counters.stray += 1;
            return;
        };
        let attempt = reply.attempt;
        self.prove(handle, attempt);
        let conclusion = match reply.answer {
            Answer::Refused(refused) => return self.refused(handle, attempt, refused, now),
            Answer::Ok(body) => Conclusion::Ok(body),
            Answer::Declined { fault, body } => {
                failed(Why::Declined { fault, body }, Outcome::Yes, String::new())
            }
            Answer::Failed(message) => failed(Why::Failed, Outcome::Unknown, message),
        };
        self.connection.greetings = 0;
        self.counters.replayed += u64::from(reply.replayed);
        self.end(handle, conclusion, reply.replayed, now);
    }

    /// The open call that a reply answers. A closed one needs no answer, and an attempt that was never sent has none.
    fn addressee(&self, reply: &Reply) -> Option<Handle> {
        let slot = match reply.id {
            CallId::Sequenced(number) => {
                // Numbers begin anew under each registration.
                let current = self.standing.as_ref()?.registration == reply.registration;
                current.then(|| self.numbers.slot(number))??
            }
            CallId::Keyed(key) => *self.keyed.get(&key.key)?,
        };
        let handle = self.calls.in_slot(slot)?;
        let call = self.calls.get(handle)?;
        (call.latest != 0 && (call.earliest..=call.latest).contains(&reply.attempt)).then_some(handle)
    }

    fn refused(&mut self, handle: Handle, attempt: u32, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get_mut(handle) else { return };
        visit!("client: refusal", "{:?} in {:?}", refused.refusal, call.state);
        if settles(&refused) {
            call.unsettled.settle(attempt);
        } else if refused.refusal != Refusal::HelloFirst {
            call.unsettled.answered(attempt);
        }
        if !asks_for_hello(refused.refusal) {
            self.connection.greetings = 0;
        }
        match refused.refusal {
            Refusal::HelloFirst => self.hello_first(handle, attempt, now),
            Refusal::InProgress
            | Refusal::Overloaded
            | Refusal::ShuttingDown
            | Refusal::Unavailable
            | Refusal::Interrupted => self.try_again(handle, attempt, refused, now),
            Refusal::Stale | Refusal::SessionShared => self.lost_to_another(handle, refused, now),
            Refusal::SessionUnknown => self.unknown_there(handle, attempt, refused, now),
            Refusal::StoreChanged => self.unknown_there(handle, attempt, refused, now),
            Refusal::ReplyEvicted => {
                let Refused { refusal, message, .. } = refused;
                self.end(handle, failed(Why::Refused(refusal), Outcome::Yes, message), false, now);
            }
            Refusal::Mismatch | Refusal::Expired | Refusal::RecordedUnknown => {
                self.end_unknown(handle, refused, now)
            }
            Refusal::Deadline => self.out_of_time(handle, refused, now),
            Refusal::Cancelled
            | Refusal::UnknownMethod
            | Refusal::Incompatible
            | Refusal::Malformed
            | Refusal::TooLarge
            | Refusal::Denied => self.end_refused(handle, refused, now),
        }
    }

    /// This attempt was turned away, a later one may not be.
    fn try_again(&mut self, handle: Handle, attempt: u32, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let idle = self.connection.link == Link::Ready && !call.unsettled.awaits();
        match call.state {
            State::InFlight | State::Quiet if attempt == call.latest => self.retry(handle, refused, now),
            State::Quiet if idle => self.retry(handle, refused, now),
            // The latest attempt is still to be answered, or it goes out again anyhow.
            State::Queued | State::InFlight | State::BackingOff | State::Quiet => {
                self.remember(handle, refused)
            }
        }
    }

    /// The server is another life than the one that welcomed this connection. The attempt stays unsettled.
    fn hello_first(&mut self, handle: Handle, attempt: u32, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        // Of an attempt from before the latest welcome this is old news; it was sent again since.
        if call.latest == attempt && call.welcome == self.counters.welcomes {
            self.greet_again(now);
        }
    }

    /// Somebody else has used this session's numbers: whose calls the server's records are is not known.
    fn lost_to_another(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let sequenced = self.calls.get(handle).is_some_and(|call| call.number.is_some());
        self.end_unknown(handle, refused, now);
        if sequenced && self.abandon_registration() {
            let before = self.session;
            self.session = Session(u128::from(self.random.bits()) << 64 | u128::from(self.random.bits()));
            self.actions.push_back(Action::Notice(Notice::SessionReplaced { before, now: self.session }));
            self.greet_again(now);
        }
    }

    /// The server has no session, or no longer the store, of this attempt. What is safe to run twice is sent
    /// again after the next welcome.
    fn unknown_there(&mut self, handle: Handle, attempt: u32, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        let (class, deadline) = (call.intent.retry, call.intent.deadline);
        let current = call.latest == attempt && call.welcome == self.counters.welcomes;
        let session = refused.refusal == Refusal::SessionUnknown;
        if matches!(class, RetryClass::Once | RetryClass::Never) {
            self.end_unknown(handle, refused, now);
        } else if current {
            self.calls.set(handle, State::Quiet, deadline);
            self.remember(handle, refused);
        }
        if current {
            if session {
                self.abandon_registration();
            }
            self.greet_again(now);
        }
    }

    /// The server found the time to be up, which it will soon be here too.
    fn out_of_time(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let Some(call) = self.calls.get(handle) else { return };
        if call.unsettled.awaits() {
            self.remember(handle, refused);
        } else {
            self.give_up(handle, now);
        }
    }

    pub(super) fn end_unknown(&mut self, handle: Handle, refused: Refused, now: Moment) {
        let Refused { refusal, message, .. } = refused;
        self.end(handle, failed(Why::Refused(refusal), Outcome::Unknown, message), false, now);
    }

    /// The server has heard of us since this attempt was sent.
    fn prove(&mut self, handle: Handle, attempt: u32) {
        if let Some(call) = self.calls.get(handle)
            && call.latest == attempt
        {
            self.heard_since(call.sent);
        }
    }
}

/// Whether this refusal means that the attempt did not run and never will. For most the server says so
/// itself; of the others the protocol says that they settle nothing, whatever the server says.
fn settles(refused: &Refused) -> bool {
    match refused.refusal {
        Refusal::Overloaded
        | Refusal::ShuttingDown
        | Refusal::Unavailable
        | Refusal::Cancelled
        | Refusal::Deadline
        | Refusal::UnknownMethod
        | Refusal::Incompatible
        | Refusal::Malformed
        | Refusal::TooLarge
        | Refusal::Denied => !refused.ambiguous,
        Refusal::HelloFirst
        | Refusal::InProgress
        | Refusal::Interrupted
        | Refusal::Mismatch
        | Refusal::Stale
        | Refusal::SessionUnknown
        | Refusal::SessionShared
        | Refusal::StoreChanged
        | Refusal::Expired
        | Refusal::ReplyEvicted
        | Refusal::RecordedUnknown => false,
    }
}

fn asks_for_hello(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::HelloFirst
            | Refusal::Stale
            | Refusal::SessionShared
            | Refusal::SessionUnknown
            | Refusal::StoreChanged
    )
}

fn failed(why: Why, outcome: Outcome, message: String) -> Conclusion {
    Conclusion::Failed(Failure { why, outcome, retry_after: None, message })
}
