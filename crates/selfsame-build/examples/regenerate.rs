//! Writes the committed code of this repository anew: `cargo run -p selfsame-build --example regenerate`, from the repository's root.
//! With `SELFSAME_CHECK=1` it writes nothing, and fails if something is stale.

use std::path::Path;

use selfsame_build::{Config, Error};

fn main() -> Result<(), Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Config::new().checked_in(root.join("src/generated")).compile([root.join("schemas/wire.capnp")])?;
    Config::new()
        .import_path(root.join("schemas"))
        .checked_in(root.join("examples/contracts"))
        .compile([root.join("schemas/examples")])
}
