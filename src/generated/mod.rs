//! What the schema compiler made of `schemas/`. Committed, so that building this crate runs no generator.

#[allow(clippy::all, dead_code, missing_docs, unused_qualifications)]
pub(crate) mod wire;
