//! What a gate judges by beyond the bytes themselves: how often, and how much of it to tell.
//!
//! Pure like its neighbours: time comes in with each question. Frames are judged by the inspector in [`zmtp`](super::zmtp); places, time-outs and memory by
//! the gate in `io`, which has the connections.

mod complaints;
mod counters;
mod rate;

pub use complaints::Complaints;
pub use counters::GateCounters;
pub use rate::{Bucket, Rate};
