//! Brokerless typed messaging.

mod generated;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod protocol;
