//! What a run with real processes is made of: children that can be killed, calls to make, and logs that survive both. The runs themselves are the binaries; the
//! bad network between their processes is `selfsame-relay`, and `selfsame-check` judges.
//!
//! - [`child`]: this binary once more, in another role; dies with its parent.
//! - [`log`]: what the processes write down of what they did and were told, a line each.
//! - [`pipe`]: connections to a database, which can be cut, and part a COMMIT from its asker.
//! - [`intention`]: one call as its client means it.

pub mod child;
pub mod intention;
pub mod log;
pub mod pipe;

selfsame::include_contracts!(
    /// The contracts of `schema/ledger.capnp` and `schema/mark.capnp`.
    pub mod api
);

/// What can go wrong in a run: a text for people.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What any part of a run can end with.
pub type Result<T, E = Error> = std::result::Result<T, E>;
