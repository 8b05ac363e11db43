//! What the store's answers mean for the calls that wait for them.

use std::time::Duration;

use super::super::dedup::{Attempt, Execution, Imprint, Now, Terminal};
use super::super::store::{Done, Found, Intent, Kept, Op, StoredSession};
use super::super::wire::{Answer, Reply};
use super::super::{Level, Refusal};
use super::{AGAIN, Action, Asked, DOUBTED, Doubted, LATEST, Replica};
use crate::sabotage::{planted, visit};

/// Why something has to be settled.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// The claim is in doubt; the handler has not begun.
    Claim(Duration),
    /// The end, and with it all that the handler did, is in doubt.
    Finish(Terminal, Duration),
}

impl Replica {
    pub(super) fn done(&mut self, asked: Asked, done: Done, now: Now) {
        visit!("replica: store", "{}: {}", head(&asked), head(&done));
        match asked {
            Asked::Register(greeting) => self.registered(*greeting, done, now),
            Asked::Resume(greeting) => self.resumed(*greeting, done, now),
            Asked::Claim(execution) => self.claimed(execution, done, now),
            Asked::Look(execution) => self.looked(execution, done, now),
            Asked::Settle(execution, Purpose::Claim(pause)) => {
                self.claim_settled(execution, done, pause, now)
            }
            Asked::Settle(execution, Purpose::Finish(terminal, pause)) => {
                self.finish_settled(execution, terminal, done, pause, now);
            }
            Asked::Finish(execution, terminal) => self.finished(execution, terminal, done, now),
            Asked::Close(registration) => self.numbers_closed(registration, &done, now),
            Asked::End(registration) => {
                self.ending.remove(&registration);
            }
            Asked::Stale(doubted) => self.stale_or_not(*doubted, done),
            Asked::Unknown(doubted) => self.unknown_or_not(*doubted, done, now),
            Asked::Expire | Asked::Upkeep => {}
        }
    }

    fn intent_of(&self, execution: Execution) -> Option<Intent> {
        Some(self.claims.get(&execution)?.intent)
    }

    fn claimed(&mut self, execution: Execution, done: Done, now: Now) {
        let Some(intent) = self.intent_of(execution) else { return };
        match done {
            Done::Claimed => self.run(execution, &intent),
            Done::Found(found) => self.found(execution, &intent, found, true, now),
            Done::InDoubt(why) if planted!(InDoubtIsNotDone) => self.refuse(execution, &why, now),
            Done::InDoubt(_) => {
                self.ask(Op::Settle(intent), Asked::Settle(execution, Purpose::Claim(AGAIN)));
            }
            Done::Busy => self.skip(execution, Terminal::Forbidden(Refusal::InProgress), now),
            Done::NotDone(why) => self.refuse(execution, &why, now),
            done => self.barred(execution, &intent, &done, now),
        }
    }

    /// The record is this execution's. If its client has closed the number meanwhile, a copy may have been told that it is stale: then no effect may
    /// start any more, and the record goes.
    fn run(&mut self, execution: Execution, intent: &Intent) {
        if self.dedup.is_wanted(execution) {
            return self.actions.push_back(Action::Run(execution));
        }
        self.actions.push_back(Action::Skip(execution));
        let Some(claim) = self.claims.get(&execution) else { return };
        let op = Op::Finish { claim: claim.ticket, intent: *intent, keep: None };
        self.ask(op, Asked::Finish(execution, Terminal::Silent));
    }

    /// The store has a record of the call. `ours`: the claim was just made, so a running record of this very incarnation is the rest of an
    /// execution that this table has lost.
    fn found(&mut self, execution: Execution, intent: &Intent, found: Found, ours: bool, now: Now) {
        if let Err(refusal) = intent.imprint.matches(&found.imprint, intent.id) {
            return self.skip(execution, Terminal::Forbidden(refusal), now);
        }
        match found.state {
            Kept::Ended(answer) => self.skip(execution, Terminal::Found(answer), now),
            Kept::Running(owner) => {
                let abandon = ours && owner == self.incarnation;
                let op = Op::Look { record: intent.record(), abandon };
                self.ask_later(op, Asked::Look(execution), if abandon { Duration::ZERO } else { AGAIN }, now);
            }
        }
    }

    /// The record runs elsewhere: looks until it has ended.
    fn looked(&mut self, execution: Execution, done: Done, now: Now) {
        let Some(intent) = self.intent_of(execution) else { return };
        match done {
            Done::Found(found) => self.found(execution, &intent, found, false, now),
            // Dropped by its owner: it did nothing, and this attempt may.
            Done::Absent => {
                let ticket = self.ask(Op::Claim(intent), Asked::Claim(execution));
                if let Some(claim) = self.claims.get_mut(&execution) {
                    claim.ticket = ticket;
                }
            }
            Done::Passed | Done::Gone | Done::Expired => self.barred(execution, &intent, &done, now),
            _ => {
                let op = Op::Look { record: intent.record(), abandon: false };
                self.ask_later(op, Asked::Look(execution), LATEST, now);
            }
        }
    }

    fn claim_settled(&mut self, execution: Execution, done: Done, pause: Duration, now: Now) {
        let Some(intent) = self.intent_of(execution) else { return };
        match done {
            Done::Claimed => self.run(execution, &intent),
            Done::Found(found) => self.found(execution, &intent, found, false, now),
            Done::Absent => self.refuse(execution, "its transaction was rolled back", now),
            Done::Passed | Done::Gone | Done::Expired => self.barred(execution, &intent, &done, now),
            _ => {
                let again = Asked::Settle(execution, Purpose::Claim(longer(pause)));
                self.ask_later(Op::Settle(intent), again, pause, now);
            }
        }
    }

    /// The store says that this call may not run, and why.
    fn barred(&mut self, execution: Execution, intent: &Intent, done: &Done, now: Now) {
        let terminal = match done {
            Done::Passed => Terminal::Forbidden(Refusal::Stale),
            Done::Expired => Terminal::Forbidden(Refusal::Expired),
            Done::Gone => Terminal::Forbidden(Refusal::SessionUnknown),
            // Not an answer to this question: nothing is known, so nothing is said.
            _ => Terminal::Silent,
        };
        self.skip(execution, terminal, now);
        if *done == Done::Gone {
            self.gone(intent.registration);
        }
    }

    fn finished(&mut self, execution: Execution, terminal: Terminal, done: Done, now: Now) {
        let Some(claim) = self.claims.get(&execution).cloned() else { return };
        match done {
            Done::Stored => self.end(execution, terminal, now),
            Done::Found(Found { state: Kept::Ended(answer), .. }) => {
                // Somebody took it for unfinished, or an earlier try of this very operation succeeded.
                self.end(execution, Terminal::Found(answer), now);
            }
            // It was given to another to run.
            Done::Found(_) => self.end(execution, Terminal::Silent, now),
            // A record that was to be removed is; one that was to be kept went with its session.
            Done::Absent if self.dedup.to_keep(execution, &terminal).is_none() => {
                self.end(execution, terminal, now);
            }
            Done::Absent | Done::Passed | Done::Gone => self.end(execution, Terminal::Silent, now),
            Done::InDoubt(_) if planted!(InDoubtIsDone) => self.end(execution, terminal, now),
            Done::InDoubt(why) if planted!(InDoubtIsNotDone) && self.level == Level::Atomic => {
                self.undone(execution, &why, now)
            }
            Done::NotDone(why) if self.level == Level::Atomic => self.undone(execution, &why, now),
            Done::InDoubt(_) if self.level == Level::Atomic => {
                let settle = Asked::Settle(execution, Purpose::Finish(terminal, AGAIN));
                self.ask(Op::Settle(claim.intent), settle);
            }
            _ => {
                let keep = self.dedup.to_keep(execution, &terminal);
                let op = Op::Finish { claim: claim.ticket, intent: claim.intent, keep };
                self.ask_later(op, Asked::Finish(execution, terminal), LATEST, now);
            }
        }
    }

    /// The transaction is rolled back, and with it what the handler did there. It ran all the same: calls within the request, which a later run makes again
    /// under the same nonces, may have had effects elsewhere. So it may run again, but nobody is told that nothing happened.
    fn undone(&mut self, execution: Execution, why: &str, now: Now) {
        let message = format!("the transaction was rolled back: {why}");
        let retry_after = None;
        let terminal = match () {
            () if planted!(SettleBySelect) => Terminal::Unavailable { message, retry_after },
            () if planted!(InDoubtIsNotDone) => Terminal::Unavailable { message, retry_after },
            () => Terminal::Interrupted { message, retry_after },
        };
        self.end(execution, terminal, now);
    }

    fn finish_settled(
        &mut self,
        execution: Execution,
        terminal: Terminal,
        done: Done,
        pause: Duration,
        now: Now,
    ) {
        let Some(intent) = self.intent_of(execution) else { return };
        match done {
            Done::Found(Found { state: Kept::Ended(answer), imprint }) => {
                match intent.imprint.matches(&imprint, intent.id) {
                    Ok(()) => self.end(execution, Terminal::Found(answer), now),
                    Err(refusal) => self.end(execution, Terminal::Forbidden(refusal), now),
                }
            }
            Done::Absent => self.undone(execution, "its commit did not arrive", now),
            Done::Passed | Done::Gone | Done::Expired => {
                self.end(execution, Terminal::Silent, now);
                if done == Done::Gone {
                    self.gone(intent.registration);
                }
            }
            _ => {
                let again = Asked::Settle(execution, Purpose::Finish(terminal, longer(pause)));
                self.ask_later(Op::Settle(intent), again, pause, now);
            }
        }
    }

    /// Asks the store what it says of a call that this table takes for stale. An insert that waits for whoever holds the record, taken back: only so is the
    /// store's watermark one that no claim is under way against.
    pub(super) fn ask_whether_stale(&mut self, attempt: &Attempt<'_>, reply: Reply) {
        if let Some(doubted) = self.doubt(attempt, reply) {
            self.ask(Op::Settle(doubted.intent), Asked::Stale(doubted));
        }
    }

    /// Asks the store whether it knows the session of a call.
    pub(super) fn ask_whether_unknown(&mut self, attempt: &Attempt<'_>, reply: Reply) {
        if let Some(doubted) = self.doubt(attempt, reply) {
            let Intent { registration, principal, .. } = doubted.intent;
            self.ask(Op::Resume { registration, principal }, Asked::Unknown(doubted));
        }
    }

    /// Keeps a refusal until the store has confirmed it. None: too many wait for that.
    fn doubt(&mut self, attempt: &Attempt<'_>, reply: Reply) -> Option<Box<Doubted>> {
        if self.doubted >= DOUBTED {
            return None;
        }
        self.doubted += 1;
        let (registration, id, imprint) = (reply.registration, reply.id, Imprint::of(attempt));
        let intent = Intent { registration, principal: attempt.principal, id, imprint };
        Some(Box::new(Doubted { to: attempt.from, reply, intent }))
    }

    /// A session that lives after all is known here from now on, and who sent the call asks again; unless this table has forgotten what it refused under
    /// it: then its client has to say hello first.
    fn unknown_or_not(&mut self, doubted: Doubted, done: Done, now: Now) {
        self.doubted -= 1;
        let Doubted { to, mut reply, intent: Intent { registration, principal, .. } } = doubted;
        match done {
            Done::Gone => self.actions.push_back(Action::Reply { to, reply }),
            Done::Session { below, ranges, ordinal } if self.may_adopt(registration, principal, below) => {
                self.resume(StoredSession { registration, principal, below, ranges }, ordinal, now);
            }
            Done::Session { .. } => {
                if let Answer::Refused(refused) = &mut reply.answer {
                    refused.refusal = Refusal::HelloFirst;
                }
                self.actions.push_back(Action::Reply { to, reply });
            }
            _ => {}
        }
    }

    fn stale_or_not(&mut self, doubted: Doubted, done: Done) {
        self.doubted -= 1;
        let Doubted { to, mut reply, intent } = doubted;
        match done {
            Done::Passed => {}
            Done::Found(Found { imprint, state: Kept::Ended(answer) }) => {
                match (intent.imprint.matches(&imprint, intent.id), &mut reply.answer) {
                    (Ok(()), _) => (reply.answer, reply.replayed) = (answer, true),
                    (Err(refusal), Answer::Refused(refused)) => refused.refusal = refusal,
                    (Err(_), _) => return,
                }
            }
            // Not known, or not to be said from here: who still waits asks again.
            _ => return,
        }
        self.actions.push_back(Action::Reply { to, reply });
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LATEST)
}

/// The name of the variant that a value is.
#[cfg(feature = "sabotage")]
fn head(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}
