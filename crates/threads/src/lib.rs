//! What threads share in selfsame, tried in every order in which they can take their turns, or in very many.
//!
//! The machines are owned by one thread; what is shared lies in few small files: `client`, `publisher`, `subscriber`, `store`, `derived` and
//! `server` compile those of the library a second time, the same text, against locks, atomics and queues that hand the choice of the next thread to a scheduler. Each
//! model plays one story with threads over them, and says what must hold whoever comes first. A planted bug for each shows that it can fail.
//!
//! It is not a model of memory orders: all threads see all writes at once. What the library shares by atomics alone is counters and flags,
//! and nothing is read on the word of them.

pub mod campaign;
mod client;
mod derived;
pub mod models;
mod publisher;
mod server;
mod store;
mod subscriber;

/// Where the library has std's and tokio's types.
mod sync {
    pub(crate) mod threads {
        pub(crate) use shuttle::sync::*;
        pub(crate) use std::sync::PoisonError;
    }

    pub(crate) mod tasks {
        pub(crate) use shuttle_tokio::sync::*;
        pub(crate) use shuttle_tokio::task::AbortHandle;
    }
}

pub(crate) use selfsame::protocol;

mod sabotage {
    macro_rules! planted {
        ($bug:ident) => {
            selfsame::sabotage::is_planted(selfsame::sabotage::Bug::$bug)
        };
    }

    pub(crate) use planted;
}
