//! What an onlooker makes of what passes: from it, and from what callers are told, follows whether the promises are kept.

use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Entry};

use super::{State, World, under};
use crate::client::Told;
use crate::message::{Message, Way};
use crate::seen::Ended;
use crate::store::News;

impl World {
    /// Of a message that a server sends.
    pub(super) fn look(&self, state: &mut State, message: u32) {
        let Message { way: Way::Down { client }, entry: Entry::Reply(reply) } = self.message(message) else {
            return;
        };
        let Some(purpose) = self.client(state, *client).purpose(reply.registration, reply.id) else { return };
        let waits = self.told(state, *client, purpose) == Told::Waits;
        let ended = match &reply.answer {
            Answer::Ok(body) => Ended::Ok(body[0], body[1]),
            Answer::Failed(_) => Ended::Failed,
            Answer::Declined { .. } => return,
            Answer::Refused(refused) => match refused.refusal {
                Refusal::RecordedUnknown => Ended::Unknown,
                Refusal::Cancelled => Ended::Cancelled,
                Refusal::Stale => {
                    // A copy of a client may have closed the number, and is refused for that.
                    let open = waits && !self.scenario.copied;
                    return state.seen.stale(purpose, under(reply.registration, reply.id), open);
                }
                _ => return,
            },
        };
        if !self.scenario.copied {
            state.seen.replied(purpose, ended);
        }
    }

    /// Of a message that a client takes.
    pub(super) fn hear(&self, state: &mut State, client: u8, message: u32) {
        if let Entry::Reply(reply) = &self.message(message).entry
            && let Answer::Refused(refused) = &reply.answer
            && matches!(refused.refusal, Refusal::SessionUnknown | Refusal::Expired)
            && let Some(purpose) = self.client(state, client).purpose(reply.registration, reply.id)
            && !self.may_come_back(refused.refusal)
        {
            state.seen.gone(purpose, under(reply.registration, reply.id));
        }
    }

    /// A session that one replica has forgotten may live at another.
    fn may_come_back(&self, refusal: Refusal) -> bool {
        refusal == Refusal::SessionUnknown && self.scenario.is_shared()
    }

    /// Of a step of the store.
    pub(super) fn learn(&self, state: &mut State, news: &News) {
        if let Some((purpose, under)) = news.starts {
            state.seen.starts(purpose, under);
        }
        if let Some(purpose) = news.effect {
            state.seen.works(purpose);
        }
    }
}
