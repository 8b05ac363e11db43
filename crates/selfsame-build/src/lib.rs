//! x
mod check; mod error; mod fingerprint; mod model; mod names; mod normalise; mod request;
