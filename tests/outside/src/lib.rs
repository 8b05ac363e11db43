//! Contracts of all kinds, compiled by `selfsame-build` with `selfsame` alone to run on. That this crate compiles is most of the test.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]

selfsame::include_contracts!(
    /// The contracts in `schemas`.
    pub mod api
);
