//! The methods that a client calls, behind one face: made, saved, resumed and awaited alike.

use selfsame::{Call, Error, Kind, Message, Outcome};
use selfsame::{Method, capnp};
use selfsame_chaos::api::ledger::ledger::{Add, AddAndNote, Assign, Look, Shout};
use selfsame_chaos::api::ledger::{LedgerClient, declined, receipt};
use selfsame_chaos::intention::Intention;
use selfsame_chaos::log::Answer;

/// A method of the ledger.
pub trait Asked: Method {
    /// A call of it.
    fn make(ledger: &LedgerClient, what: &Intention) -> Call<Self>
    where
        Self: Sized;

    /// The receipts in a reply: the call's own, and that of the note that it left.
    fn receipts(
        reply: <Self::Results as capnp::traits::Owned>::Reader<'_>,
    ) -> capnp::Result<(receipt::Reader<'_>, Option<receipt::Reader<'_>>)>;
}

macro_rules! asked {
    ($($method:ident by $verb:ident,)+) => {$(
        impl Asked for $method {
            fn make(ledger: &LedgerClient, what: &Intention) -> Call<Self> {
                ledger.$verb(|p| what.write(p.init_what()))
            }

            fn receipts(
                reply: <Self::Results as capnp::traits::Owned>::Reader<'_>,
            ) -> capnp::Result<(receipt::Reader<'_>, Option<receipt::Reader<'_>>)> {
                Ok((reply.get_receipt()?, None))
            }
        }
    )+};
}

asked! { Add by add, Assign by assign, Look by look, Shout by shout, }

impl Asked for AddAndNote {
    fn make(ledger: &LedgerClient, what: &Intention) -> Call<Self> {
        ledger.add_and_note(|p| what.write(p.init_what()))
    }

    fn receipts(
        reply: <Self::Results as capnp::traits::Owned>::Reader<'_>,
    ) -> capnp::Result<(receipt::Reader<'_>, Option<receipt::Reader<'_>>)> {
        Ok((reply.get_receipt()?, Some(reply.get_note()?)))
    }
}

/// What a client was told: of the call, and of the note that it left.
pub struct Outcomes {
    pub nonce: Option<String>,
    pub call: Answer,
    /// Its token.
    pub note: Option<u64>,
}

/// Awaits a call.
pub async fn ask<M: Asked>(call: Call<M>) -> Outcomes {
    let key = call.known_nonce().map(|nonce| nonce.to_string());
    match call.await {
        Ok(reply) => match read::<M>(&reply) {
            Ok((call, note)) => Outcomes { nonce: key, call: Answer::Ok(call), note },
            // No reply looks like that: no token agrees with it.
            Err(why) => {
                eprintln!("client: {why}");
                Outcomes { nonce: key, call: Answer::Ok(0), note: None }
            }
        },
        Err(error) => {
            // For people who look into a run that failed.
            if !matches!(error.kind(), Kind::Declined | Kind::Deadline) {
                eprintln!("client: {error}");
            }
            let nonce = error.nonce().map(|nonce| nonce.to_string());
            Outcomes { nonce: nonce.or(key), call: answer(&error), note: None }
        }
    }
}

fn read<M: Asked>(reply: &Message<M::Results>) -> std::result::Result<(u64, Option<u64>), String> {
    let reply = reply.get().map_err(|error| error.to_string())?;
    let (call, note) = M::receipts(reply).map_err(|error| error.to_string())?;
    Ok((token(call)?, note.map(token).transpose()?))
}

/// The token of a receipt whose padding is of one piece with it.
fn token(receipt: receipt::Reader<'_>) -> std::result::Result<u64, String> {
    let token = receipt.get_token();
    let padding = receipt.get_padding().map_err(|error| error.to_string())?;
    let whole = padding.iter().all(|byte| *byte == token as u8);
    if whole { Ok(token) } else { Err("the padding is another reply's".into()) }
}

/// What an error says of a call.
pub fn answer(error: &Error) -> Answer {
    let why = match error.kind() {
        Kind::Refused(refusal) => format!("{refusal:?}"),
        kind => format!("{kind:?}"),
    };
    match (error.kind(), error.outcome()) {
        (Kind::Declined, _) => {
            match error.fault::<declined::Owned>().map(|fault| fault.read(|no| Ok(no.get_token()))) {
                Some(Ok(token)) => Answer::Declined(token),
                _ => Answer::Yes(why),
            }
        }
        (Kind::Failed, Outcome::Unknown) => Answer::Failed,
        (_, Outcome::No) => Answer::No(why),
        (_, Outcome::Unknown) => Answer::Unknown(why),
        (_, Outcome::Yes) => Answer::Yes(why),
    }
}

/// Whether asking again cannot lead to another answer.
pub fn is_final(answer: &Answer) -> bool {
    const MAY_CHANGE: [&str; 7] =
        ["Cancelled", "Deadline", "InProgress", "Interrupted", "Overloaded", "ShuttingDown", "Unavailable"];
    !matches!(answer, Answer::Unknown(why) if MAY_CHANGE.contains(&why.as_str()))
}
