//! Compiles Cap'n Proto contracts to typed `selfsame` clients, servers and events.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), selfsame_build::Error> {
//!     selfsame_build::compile("schemas")
//! }
//! ```
//! ```text
//! // src/lib.rs
//! selfsame::include_contracts!(pub mod api);
//! ```
//!
//! That is all for a crate whose contracts lie in its folder `schemas`. [`Config`] is for whoever has them elsewhere too, shares them between
//! crates, or commits the generated code.
//!
//! It needs the Cap'n Proto schema compiler, `capnp`; it is tested with 0.9.2 (Debian: `capnproto`, Fedora: `capnproto`, macOS: `brew install capnp`).
//! What it does not do: RPC in Cap'n Proto's sense. Capabilities, streams and generic interfaces are refused, with the place and the
//! reason.
//!
//! # What is generated
//! For `schemas/bank/account.capnp`, in `api::bank::account`:
//!
//! | the contract says | you get |
//! | --- | --- |
//! | `interface Account` | the trait `Account`, `AccountServer`, `AccountClient`; in the module `account` the types that stand for the methods |
//! | `struct PasswordChanged` | `PasswordChanged`, and its `Reader` and `Builder` in the module `password_changed` |
//! | `$Selfsame.topic` on a struct | an event, to publish and to subscribe to |
//! | `enum Colour` | `Colour` |
//! | `const limit :UInt32 = 5` | `LIMIT` |
//!
//! Names become Rust's way of writing them. Where one would be a keyword, or taken, it gets an underscore at the end.
//!
//! How a contract may change while clients and servers of other versions run is in the library's `docs/contracts.md`.
//!
//! # How
//! Schema, model, text: `request` runs the schema compiler, `model` is what it said, `check` refuses what cannot work, `names` decides what
//! everything is called, `normalise` makes a request that capnpc can print the messages of, and `print` writes it all down.

mod check;
mod config;
mod error;
mod fingerprint;
mod model;
mod names;
mod normalise;
mod output;
mod print;
mod request;

use std::path::Path;

pub use config::Config;
pub use error::{Error, Refusal};

/// Compiles a schema file, or all schema files in a folder and its subfolders, to `$OUT_DIR/selfsame_contracts.rs`, which
/// `selfsame::include_contracts!` includes. Call it once in a `build.rs`.
///
/// Paths are relative to the package's root, where Cargo runs `build.rs`. Cargo is told to run it again when a schema changes.
///
/// # Errors
/// See [`Error`].
pub fn compile(path: impl AsRef<Path>) -> Result<(), Error> {
    Config::new().compile([path])
}
