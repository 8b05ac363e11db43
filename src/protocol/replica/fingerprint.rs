//! The fingerprint of one server process; see `protocol::fingerprint`.

use std::collections::BTreeMap;
use std::hash::Hasher;

use super::answers::Purpose;
use super::{Again, Asked, Claim, Replica};
use crate::protocol::dedup::{Execution, Now};
use crate::protocol::fingerprint::shown;
use crate::protocol::store::Ticket;
use crate::protocol::{Principal, Registration};

impl Replica {
    /// Adds all that decides what the machine does next. Tickets and executions count by their order, not by their numbers.
    pub fn fingerprint(&self, now: Now, hasher: &mut impl Hasher) {
        let Replica {
            incarnation,
            level,
            limits,
            dedup,
            state,
            tickets: _,
            asked,
            later,
            claims,
            closed,
            closing,
            refreshed,
            upkeep: _,
            actions,
            deliveries: _,
        } = self;
        shown(&(incarnation, level, state, closed, closing, actions), hasher);
        dedup.fingerprint(hasher);
        let order = self.order();
        for (ticket, asked) in asked {
            shown(&order.get(ticket), hasher);
            self.asked_to(asked, hasher);
        }
        for ((at, _), Again { op, asked }) in later {
            shown(&(at.saturating_sub(now.moment), op), hasher);
            self.asked_to(asked, hasher);
        }
        let mut claims: Vec<_> = claims.iter().collect();
        claims.sort_unstable_by_key(|(execution, _)| **execution);
        for (execution, Claim { ticket, intent }) in claims {
            shown(&(dedup.place(*execution), order.get(ticket), intent), hasher);
        }
        let stale = |last| now.moment.saturating_sub(last) >= limits.retention / 8;
        let refreshed: Vec<_> = refreshed.iter().map(|(session, last)| (session, stale(*last))).collect();
        shown(&refreshed, hasher);
    }

    /// The tickets that mean something to the machine, by their order.
    pub fn order(&self) -> BTreeMap<Ticket, usize> {
        let claimed = self.claims.values().map(|claim| claim.ticket);
        let mut tickets: Vec<_> = self.asked.keys().copied().chain(claimed).collect();
        tickets.sort_unstable();
        tickets.dedup();
        tickets.into_iter().zip(0..).collect()
    }

    /// The place of an execution that has not ended.
    pub fn place(&self, execution: Execution) -> Option<u32> {
        self.dedup.place(execution)
    }

    /// The session lives here for this principal.
    pub fn knows(&self, registration: Registration, principal: Principal) -> bool {
        self.dedup.knows(registration, principal)
    }

    /// The number is closed.
    pub fn has_closed(&self, registration: Registration, number: u64) -> bool {
        self.dedup.closed(registration).is_some_and(|(below, ranges)| {
            number < below || ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
        })
    }

    fn asked_to(&self, asked: &Asked, hasher: &mut impl Hasher) {
        let place = |execution: &Execution| self.dedup.place(*execution);
        match asked {
            Asked::Claim(execution) => shown(&("claim", place(execution)), hasher),
            Asked::Look(execution) => shown(&("look", place(execution)), hasher),
            Asked::Finish(execution, terminal) => shown(&("finish", place(execution), terminal), hasher),
            Asked::Settle(execution, Purpose::Claim(pause)) => {
                shown(&("settle", place(execution), pause), hasher);
            }
            Asked::Settle(execution, Purpose::Finish(terminal, pause)) => {
                shown(&("settle", place(execution), terminal, pause), hasher);
            }
            Asked::Register(_) | Asked::Resume(_) | Asked::Close(_) | Asked::Expire | Asked::Upkeep | Asked::End => {
                shown(asked, hasher);
            }
        }
    }
}
