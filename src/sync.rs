//! The locks, atomics and queues of what threads share, under one name: std's, which hold up a thread, and tokio's, which hold up a task. Not types of our own.
//!
//! The few files that share something take them from here, so that `crates/threads` can compile the same files against types that let it try every order in
//! which threads take their turns.

/// Of `std::sync`.
pub(crate) mod threads {
    pub(crate) use std::sync::*;
}

/// Of `tokio::sync`, and the handle that ends a task.
pub(crate) mod tasks {
    pub(crate) use futures_util::future::AbortHandle;
    pub(crate) use tokio::sync::*;
}
