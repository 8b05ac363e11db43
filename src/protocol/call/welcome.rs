//! What a welcome means: the registration goes on, and every open call is sent again; or it does not, and
//! each call may be sent under the new one, or its outcome is unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Client;
use super::connection::Link;
use super::numbers::Numbers;
use super::open::State;
use super::terms::{Action, Handle, Notice};
use crate::protocol::wire::{Refused, VERSION, Welcome};
use crate::protocol::{Incarnation, Level, Moment, Refusal, Registration, RetryClass, Stamp};
use crate::sabotage::{planted, visit};

/// What the latest welcome said.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub registration: Registration,
    /// It is not to be resumed: somebody else uses it, the server does not know it, or it counts as forgotten.
    pub abandoned: bool,
    pub incarnation: Incarnation,
    pub stamp: Stamp,
    store: u128,
    generation: u64,
    ordinal: u64,
    pub retention: Duration,
    /// A moment after which the server has heard of us.
    pub proven: Moment,
    pub window: usize,
    pub heartbeat: Duration,
    pub body_limit: u32,
}

/// A server that asks for a ping more often is humoured no further than this.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);
/// A server that asks for none would never be noticed to be gone.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);

/// An interface that this client calls.
#[derive(Clone, Debug)]
pub(super) struct Contract {
    pub interface: u64,
    pub name: &'static str,
    pub fingerprint: u64,
    shape: &'static [(u64, u64)],
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Compatible,
    Incompatible,
}

impl Contract {
    pub(super) fn new(
        interface: u64,
        name: &'static str,
        fingerprint: u64,
        shape: &'static [(u64, u64)],
    ) -> Self {
        Contract { interface, name, fingerprint, shape, verdict: Verdict::Same }
    }

    pub(super) fn is_compatible(&self) -> bool {
        self.verdict != Verdict::Incompatible
    }

    /// Compatible: each member that both have is of one form.
    fn compare(&self, theirs: &[(u64, u64)]) -> Verdict {
        let ours =
            |id: u64| self.shape.binary_search_by_key(&id, |member| member.0).ok().map(|at| self.shape[at].1);
        if theirs.iter().all(|&(id, form)| ours(id).is_none_or(|our_form| our_form == form)) {
            Verdict::Compatible
        } else {
            Verdict::Incompatible
        }
    }
}

impl Standing {
    fn new(welcome: &Welcome, proven: Moment) -> Self {
        Standing {
            registration: welcome.registration,
            abandoned: false,
            incarnation: welcome.incarnation,
            stamp: welcome.stamp,
            store: welcome.store,
            generation: welcome.generation,
            ordinal: welcome.ordinal,
            retention: welcome.retention,
            proven,
            window: welcome.window as usize,
            heartbeat: welcome.heartbeat.clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT),
            body_limit: welcome.body_limit,
        }
    }

    /// Whether the records that this store held are those that the welcoming one holds. One whose count of
    /// lives has fallen is a backup; so is a file, with its single owner, of which two lives have the same count.
    fn same_store(&self, welcome: &Welcome) -> bool {
        let counted = self.ordinal != 0 && welcome.ordinal != 0;
        let twice = welcome.level == Level::Durable
            && welcome.ordinal == self.ordinal
            && welcome.incarnation != self.incarnation;
        self.store == welcome.store
            && (self.generation == welcome.generation || planted!(GenerationIgnored))
            && !(counted && (welcome.ordinal < self.ordinal || twice))
    }
}

impl Client {
    pub(super) fn welcome(&mut self, welcome: &Welcome, now: Moment) {
        if self.connection.link != Link::Greeting || welcome.hello != self.connection.hello {
            self.counters.stray += 1;
            return;
        }
        if !(1..=VERSION).contains(&welcome.version) {
            let why = format!(
                "the server speaks version {} of the protocol, this client up to {VERSION}",
                welcome.version
            );
            self.refuse_all(Refusal::Incompatible, &why, now);
            return self.reconnect(&why);
        }
        let before = self.standing.as_ref();
        let known = before.is_some_and(|standing| standing.registration == welcome.registration);
        let same_store = before.is_some_and(|standing| standing.same_store(welcome));
        let abandoned = before.is_some_and(|standing| standing.abandoned);
        if welcome.registration == Registration::default() || known && abandoned {
            return self.reconnect("the welcome names no registration, or one that was given up");
        }
        let resumed = known && same_store;
        let same_life = before.is_some_and(|standing| standing.incarnation == welcome.incarnation);
        visit!("client: welcome", "known {known}, same store {same_store}, given up {abandoned}");
        let undisturbed = self.connection.comparing && resumed && same_life;
        if !resumed {
            self.leave_registration(same_store, now);
            self.counters.registrations += u64::from(self.standing.is_some());
        }
        self.counters.welcomes += u64::from(!undisturbed);
        self.standing = Some(Standing::new(welcome, self.connection.hello_sent));
        if known && !same_store {
            // Numbers were used under this registration that this store may have forgotten, so they cannot be
            // counted anew: another one.
            self.abandon_registration();
            return self.hello(now);
        }
        self.compare_contracts(welcome);
        visit!("client: link", "{:?} -> Ready", self.connection.link);
        self.connection.link = Link::Ready;
        self.name_contracts(now);
        if !undisturbed {
            let registration = welcome.registration;
            self.actions.push_back(Action::Notice(Notice::Welcomed { registration, resumed }));
            self.queue_again(now);
        }
    }

    /// Another registration, or another store: a call that may have run keeps its place only if running it
    /// twice is safe, or if its key is known there.
    fn leave_registration(&mut self, same_store: bool, now: Moment) {
        for handle in self.calls.in_order() {
            let Some(call) = self.calls.get_mut(handle) else { continue };
            if call.first.is_none() || call.intent.key.is_some() && same_store {
                continue;
            }
            let twice = matches!(call.intent.retry, RetryClass::Idempotent | RetryClass::ReadOnly);
            if twice || call.unsettled.is_empty() {
                call.first = None;
                call.number = None;
                self.under_way -= 1;
            } else if same_store {
                self.unknown(
                    handle,
                    Refusal::SessionUnknown,
                    "the server does not know the session any more",
                    now,
                );
            } else {
                self.unknown(
                    handle,
                    Refusal::StoreChanged,
                    "the server's store is not the one that the call was sent to",
                    now,
                );
            }
        }
        self.numbers = Numbers::new();
        self.owed = 0;
    }

    /// Every open call waits for its turn again, except those whose back-off goes on: first what was sent
    /// before, then the rest.
    fn queue_again(&mut self, now: Moment) {
        self.queue.clear();
        let mut unsent = Vec::new();
        for handle in self.calls.in_order() {
            let Some(call) = self.calls.get_mut(handle) else { continue };
            call.unsettled.unanswerable();
            if call.state == State::BackingOff {
                continue;
            }
            if call.intent.retry == RetryClass::Never && !call.unsettled.is_empty() && call.attempts > 0 {
                let why = "the connection was lost after the call was sent, and the contract says never to send it again";
                self.unknown(handle, Refusal::Unavailable, why, now);
            } else if call.first.is_some() {
                self.counters.resends += 1;
                self.enqueue(handle);
            } else {
                unsent.push(handle);
            }
        }
        for handle in unsent {
            self.enqueue(handle);
        }
        if self.numbers.has_holes() && self.owed == 0 {
            // They may not have been told on the connection before.
            self.owed = 1;
            self.owed_since = now;
        }
    }

    fn unknown(&mut self, handle: Handle, refusal: Refusal, message: &str, now: Moment) {
        let refused = Refused { refusal, ambiguous: true, retry_after: None, message: message.into() };
        self.end_unknown(handle, refused, now);
    }

    /// The welcome names those that differ.
    fn compare_contracts(&mut self, welcome: &Welcome) {
        let theirs: BTreeMap<u64, &[(u64, u64)]> =
            welcome.contracts.iter().map(|theirs| (theirs.interface, &theirs.shape[..])).collect();
        for ours in &mut self.contracts {
            let verdict = theirs.get(&ours.interface).map_or(Verdict::Same, |shape| ours.compare(shape));
            if ours.verdict != verdict && verdict != Verdict::Same {
                let (interface, compatible) = (ours.name, verdict == Verdict::Compatible);
                self.actions.push_back(Action::Notice(Notice::ContractDiffers { interface, compatible }));
            }
            ours.verdict = verdict;
        }
    }
}
