//! Entries on their way, as the network of the search holds them: once sent, one is there for ever, and may arrive at any time, as often as it likes, or
//! never. Loss, repetition, delay and reordering, over reconnects and restarts, are all in that.

use std::fmt;
use std::time::Duration;

use selfsame::protocol::wire::{Answer, Entry};
use selfsame::protocol::{CallId, Registration};

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a client to a server process.
    Up {
        /// Which client.
        client: u8,
        /// Which server.
        server: u8,
    },
    /// To a client.
    Down {
        /// Which client.
        client: u8,
    },
}

/// One entry on its way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it goes.
    pub way: Way,
    /// What it says.
    pub entry: Entry,
}

impl Message {
    /// Two messages of one text are one message.
    pub fn new(way: Way, mut entry: Entry) -> Self {
        if let Entry::Call(call) = &mut entry {
            // Nobody's clock is another's: what is left of the time says nothing, unless it is up, and then a client does not send.
            call.time_left = Duration::from_secs(1);
        }
        Message { way, entry }
    }
}

/// A registration as the search mints it: by number.
pub fn name(registration: Registration) -> String {
    format!("R{}", registration.0)
}

fn call(registration: Registration, id: CallId) -> String {
    match id {
        CallId::Sequenced(number) => format!("{}/{number}", name(registration)),
        CallId::Keyed(key) => format!("key {} under {}", key.key, name(registration)),
    }
}

/// What a reply says, in short.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Ok(body) => format!("Ok (effect {} of intention {})", body[1], body[0] + 1),
        Answer::Declined { .. } => "Declined".into(),
        Answer::Failed(_) => "Failed".into(),
        Answer::Refused(refused) => {
            let sure = if refused.ambiguous { "may have run" } else { "did not run" };
            format!("{:?} ({sure})", refused.refusal)
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Entry::Hello(hello) => match hello.resume {
                Some(resume) => {
                    write!(f, "hello, resume {}, closed below {}", name(resume), hello.acked_below)
                }
                None => write!(f, "hello, new session"),
            },
            Entry::Welcome(welcome) => write!(
                f,
                "welcome to {}, incarnation {}, stamp {}",
                name(welcome.registration),
                welcome.incarnation.0,
                welcome.stamp.0
            ),
            Entry::Call(c) => write!(
                f,
                "call {} attempt {}, incarnation {}, first stamp {}, closed below {}",
                call(c.registration, c.id),
                c.attempt,
                c.incarnation.0,
                c.first_stamp.0,
                c.acked_below
            ),
            Entry::Reply(reply) => write!(
                f,
                "reply to {} attempt {}: {}",
                call(reply.registration, reply.id),
                reply.attempt,
                answer(&reply.answer)
            ),
            Entry::Ack(ack) => {
                write!(f, "ack {}, closed below {} and {:?}", name(ack.registration), ack.below, ack.closed)
            }
            Entry::Cancel(cancel) => write!(f, "cancel {}", call(cancel.registration, cancel.id)),
            other => write!(f, "{other:?}"),
        }
    }
}
