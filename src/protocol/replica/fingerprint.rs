//! The fingerprint of one server process; see `protocol::fingerprint`.

use std::collections::BTreeMap;
use std::hash::Hasher;

use super::answers::Purpose;
use super::{Again, Asked, Claim, Replica};
use crate::protocol::Registration;
use crate::protocol::dedup::{Execution, Now};
use crate::protocol::fingerprint::shown;
use crate::protocol::store::Ticket;

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
            ending,
            forgotten,
            doubted,
            refreshed,
            upkeep: _,
            actions,
            deliveries: _,
        } = self;
        shown(&(incarnation, level, state, closed, closing, ending, forgotten, doubted, actions), hasher);
        dedup.fingerprint(hasher);
        let order = self.order();
        let mut asked: Vec<_> =
            asked.iter().map(|(ticket, asked)| (order.get(ticket), self.text_of(asked))).collect();
        asked.sort_unstable();
        shown(&asked, hasher);
        for ((at, _), Again { op, asked }) in later {
            shown(&(at.saturating_sub(now.moment), op, self.text_of(asked)), hasher);
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

    /// The tickets that mean something to the machine, numbered by what they stand for: not by when they were asked, which means nothing.
    pub fn order(&self) -> BTreeMap<Ticket, usize> {
        let asked = self.asked.iter().map(|(ticket, asked)| (self.text_of(asked), *ticket));
        let claimed = self.claims.values().filter(|claim| !self.asked.contains_key(&claim.ticket));
        let claimed = claimed.map(|claim| (format!("{:?}", claim.intent), claim.ticket));
        let mut tickets: Vec<_> = asked.chain(claimed).collect();
        tickets.sort_unstable();
        tickets.into_iter().map(|(_, ticket)| ticket).zip(0..).collect()
    }

    /// The place of an execution that has not ended.
    pub fn place(&self, execution: Execution) -> Option<u32> {
        self.dedup.place(execution)
    }

    /// The number is closed.
    pub fn has_closed(&self, registration: Registration, number: u64) -> bool {
        self.dedup.closed(registration).is_some_and(|(below, ranges)| {
            number < below || ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
        })
    }

    fn text_of(&self, asked: &Asked) -> String {
        let place = |execution: &Execution| self.dedup.place(*execution);
        match asked {
            Asked::Claim(execution) => format!("claim {:?}", place(execution)),
            Asked::Look(execution) => format!("look {:?}", place(execution)),
            Asked::Finish(execution, terminal) => format!("finish {:?} {terminal:?}", place(execution)),
            Asked::Settle(execution, Purpose::Claim(pause)) => {
                format!("settle a claim {:?} {pause:?}", place(execution))
            }
            Asked::Settle(execution, Purpose::Finish(terminal, pause)) => {
                format!("settle an end {:?} {terminal:?} {pause:?}", place(execution))
            }
            Asked::Register(_)
            | Asked::Resume(_)
            | Asked::Close(_)
            | Asked::Expire
            | Asked::Upkeep
            | Asked::End(_)
            | Asked::Stale(_)
            | Asked::Unknown(_) => format!("{asked:?}"),
        }
    }
}
