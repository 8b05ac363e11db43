//! Brokerless typed messaging.

mod generated;
#[doc(hidden)]
pub mod protocol;
