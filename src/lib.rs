//! Brokerless typed messaging.

#[doc(hidden)]
pub mod protocol;
