//! The checker: takes a log of what happened in a run (calls, effects, what callers were told, replies on the wire) and holds it against what selfsame
//! promises. The simulator and the chaos run feed the same one.
//!
//! It is not a model of the protocol and knows nothing of sessions, stores or retries: only facts that somebody outside could have
//! observed. So it cannot share a mistake with what it checks.
//!
//! Facts may come in any order, since the logs of many processes are read one after another; memory is some 200 bytes a call, so a log of millions of
//! facts is judged in one pass. What a log has no facts for is not checked, and [`Report`] shows how often each rule was.

mod check;
mod fact;
mod report;
mod rule;
#[cfg(test)]
mod tests;
mod text;

pub use check::{Checker, Expect};
pub use fact::{Class, Fact, Nonce, Replied, Time, Told};
pub use report::{Report, Violation};
pub use rule::Rule;
pub use text::{BadLine, Lines, parse, read};
