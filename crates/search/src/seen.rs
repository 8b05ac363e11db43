//! What an onlooker sees who sees everything: effects, and what was said of them. The promises are kept if what callers are told agrees with it, now and in
//! every later state.

use crate::client::{Purpose, Told};

/// How a call has ended, by what a server says to its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Nothing was said yet.
    #[default]
    Not,
    /// With the reply of this intention's n-th effect.
    Ok(u8, u8),
    /// The handler failed.
    Failed,
    /// Nobody knows whether it ran, and that is recorded.
    Unknown,
    /// The caller dropped it in the queue.
    Cancelled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Intention {
    effects: u8,
    ended: Ended,
    /// The registrations under which a server called it stale, by bit. 0 stands for its key.
    stale: u8,
    /// The registrations under which its caller was told that the session, or the key, is gone.
    gone: u8,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    intentions: [Intention; 2],
    broken: Option<Promise>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Promise {
    Replies,
    Starts,
    Stale,
}

impl Seen {
    /// Effects of an intention.
    pub fn effects(&self, purpose: Purpose) -> u8 {
        self.intentions[purpose as usize].effects
    }

    /// A call is taken in to be run, under the registration of this number.
    pub fn starts(&mut self, purpose: Purpose, under: u8) {
        let Intention { stale, gone, .. } = self.intentions[purpose as usize];
        if (stale | gone) & 1 << under != 0 {
            self.broken = Some(Promise::Starts);
        }
    }

    /// An effect happens.
    pub fn works(&mut self, purpose: Purpose) {
        self.intentions[purpose as usize].effects += 1;
    }

    /// A server tells how the call has ended.
    pub fn replied(&mut self, purpose: Purpose, ended: Ended) {
        let before = std::mem::replace(&mut self.intentions[purpose as usize].ended, ended);
        if before != Ended::Not && before != ended {
            self.broken = Some(Promise::Replies);
        }
    }

    /// A server says that its client had closed the number. `open`: it has not.
    pub fn stale(&mut self, purpose: Purpose, under: u8, open: bool) {
        self.intentions[purpose as usize].stale |= 1 << under;
        if open {
            self.broken = Some(Promise::Stale);
        }
    }

    /// A caller is told that its session, or its key, is gone.
    pub fn gone(&mut self, purpose: Purpose, under: u8) {
        self.intentions[purpose as usize].gone |= 1 << under;
    }

    /// The promise that is broken, if the caller was told this.
    pub fn broken(&self, purpose: Purpose, told: Told) -> Option<&'static str> {
        match self.broken {
            Some(Promise::Replies) => return Some("every reply to a call is the same"),
            Some(Promise::Starts) => return Some("nothing starts after Stale, SessionUnknown or Expired"),
            Some(Promise::Stale) => return Some("no open call is Stale"),
            None => {}
        }
        let effects = self.effects(purpose);
        match told {
            _ if effects > 1 => Some("one intention has one effect at most"),
            Told::Ok if effects != 1 => Some("Ok means one effect"),
            Told::Yes if effects != 1 => Some("Yes means one effect"),
            Told::No if effects != 0 => Some("No means no effect, now and later"),
            _ => None,
        }
    }
}
