//! Brokerless typed messaging.

#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod protocol;
