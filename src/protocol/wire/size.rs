//! What an entry takes in the header: known before it is written, so that limits are kept and the header is one segment of exact size.
//!
//! Everything is in words of 8 bytes: the structs' sizes are those of `schemas/wire.capnp`, and the tests compare with what is written.

use bytes::Bytes;

use super::{Answer, Contract, Entry};

const ENTRY: usize = 3 + 1;
const ID128: usize = 2;
const CALL_ID: usize = 5;

/// The words of an entry with all that it points to.
pub(super) fn entry_words(entry: &Entry) -> usize {
    ENTRY
        + match entry {
            Entry::Hello(hello) => {
                3 + 3 + ID128 + hello.resume.map_or(0, |_| ID128) + contracts(&hello.contracts)
            }
            Entry::Welcome(welcome) => 8 + 3 + 2 * ID128 + contracts(&welcome.contracts),
            Entry::Call(call) => 16 + 1 + metadata_words(&call.metadata),
            Entry::Reply(reply) => {
                let answer = match &reply.answer {
                    Answer::Ok(_) | Answer::Declined { .. } => 0,
                    Answer::Failed(why) => text(why),
                    Answer::Refused(refused) => 1 + 1 + text(&refused.message),
                };
                9 + 1 + answer
            }
            Entry::Cancel(_) => 2 + ID128 + CALL_ID,
            Entry::Ack(ack) => 1 + 2 + ID128 + list(ack.closed.iter().map(|_| 2)),
            Entry::Ping(_) | Entry::Pong(_) => 0,
            Entry::Goodbye(goodbye) => 1 + 1 + text(&goodbye.reason),
            Entry::Event(_) => 8,
            Entry::Numbers(numbers) => {
                let last = list(numbers.last.iter().map(|last| 3 + data(&last.topic)));
                3 + 2 + last + pointers(numbers.denied.iter().map(|topic| text(topic)))
            }
        }
}

/// The words of names and values.
pub(super) fn metadata_words(metadata: &[(String, Bytes)]) -> usize {
    list(metadata.iter().map(|(name, value)| 2 + text(name) + data(value)))
}

fn contracts(contracts: &[Contract]) -> usize {
    list(contracts.iter().map(|contract| 3 + list(contract.shape.iter().map(|_| 2))))
}

/// A list of structs, each with what it points to; an empty one is not written.
fn list(elements: impl ExactSizeIterator<Item = usize>) -> usize {
    if elements.len() == 0 { 0 } else { 1 + elements.sum::<usize>() }
}

/// A list of pointers, each with what it points to; an empty one is not written.
fn pointers(elements: impl ExactSizeIterator<Item = usize>) -> usize {
    elements.len() + elements.sum::<usize>()
}

fn text(text: &str) -> usize {
    (text.len() + 1).div_ceil(8) // a zero follows
}

fn data(data: &[u8]) -> usize {
    data.len().div_ceil(8)
}
