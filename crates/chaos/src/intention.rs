//! One call as its client means it: drawn by lot, written into the parameters, and read from them by the handler. Both compute its hash, each from what it
//! has: the client from what it meant, the handler from what arrived.

use xxhash_rust::xxh3::Xxh3;

use crate::api::ledger::{Wish, intention};
use selfsame_relay::Dice;

/// What a call is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Intention {
    /// Its name, over all lives of its client.
    pub call: String,
    /// What to count.
    pub counter: u16,
    /// How to answer.
    pub wish: Wish,
    /// How long to work on it, in milliseconds.
    pub pause: u16,
    /// Makes the parameters big.
    pub padding: Vec<u8>,
    /// Makes the reply big, in bytes.
    pub reply_size: u32,
}

/// There are so many counters: few, so that many calls meet at each.
pub const COUNTERS: u64 = 16;
/// Longer than an attempt's time-out, so that retries meet running calls.
const SLOW: std::ops::Range<u64> = 200..600;
/// Beyond 4 KiB a body travels as a frame of its own.
const BIG: std::ops::Range<u64> = 4_000..100_000;

impl Intention {
    /// Draws one.
    pub fn draw(call: String, dice: &mut Dice) -> Intention {
        let wish = match dice.below(20) {
            0 | 1 => Wish::Decline,
            2 => Wish::Fail,
            3 | 4 => Wish::Unavailable,
            5 | 6 => Wish::Interrupt,
            _ => Wish::Reply,
        };
        let pause = if dice.once_in(16) { dice.within(SLOW) } else { dice.below(20) };
        let mut size = |times| if dice.once_in(times) { dice.within(BIG) } else { dice.below(64) };
        let (padding, reply_size) = (size(24), size(24));
        let fill = dice.bits();
        Intention {
            call,
            counter: dice.below(COUNTERS) as u16,
            wish,
            pause: pause as u16,
            padding: (0..padding).map(|at| (fill >> (at % 57)) as u8).collect(),
            reply_size: reply_size as u32,
        }
    }

    /// Writes it into the parameters of a call.
    pub fn write(&self, mut to: intention::Builder<'_>) {
        to.set_call(&self.call);
        to.set_counter(self.counter);
        to.set_wish(self.wish);
        to.set_pause(self.pause);
        to.set_padding(&self.padding);
        to.set_reply_size(self.reply_size);
    }

    /// Reads it from the parameters of a call.
    ///
    /// # Errors
    /// If they are not of the contract's form.
    pub fn read(from: intention::Reader<'_>) -> std::result::Result<Intention, selfsame::capnp::Error> {
        Ok(Intention {
            call: from.get_call()?.to_string()?,
            counter: from.get_counter(),
            wish: from.get_wish()?,
            pause: from.get_pause(),
            padding: from.get_padding()?.to_vec(),
            reply_size: from.get_reply_size(),
        })
    }

    /// What an effect has to agree with its call in.
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(self.call.as_bytes());
        hash.update(&self.counter.to_le_bytes());
        hash.update(&(self.wish as u16).to_le_bytes());
        hash.update(&self.pause.to_le_bytes());
        hash.update(&self.reply_size.to_le_bytes());
        hash.update(&self.padding);
        hash.digest()
    }

    /// The note that is left of it by `addAndNote`, at another server: no pause, no padding, and a reply.
    pub fn note(&self) -> Intention {
        Intention {
            call: format!("{}/note", self.call),
            wish: Wish::Reply,
            pause: 0,
            padding: Vec::new(),
            reply_size: 0,
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts_for_the_hash() {
        let one = Intention::draw("c0.1.1".into(), &mut Dice::new(1, 1));
        let others = [
            Intention { call: "c0.1.2".into(), ..one.clone() },
            Intention { counter: one.counter + 1, ..one.clone() },
            Intention { pause: one.pause + 1, ..one.clone() },
            Intention { reply_size: one.reply_size + 1, ..one.clone() },
            Intention { padding: vec![1; one.padding.len() + 1], ..one.clone() },
            one.note(),
        ];
        assert!(others.iter().all(|other| other.hash() != one.hash()));
        assert_eq!(one.hash(), Intention::draw("c0.1.1".into(), &mut Dice::new(1, 1)).hash());
    }
}
