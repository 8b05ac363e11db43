//! Writes the committed code of this repository anew: `cargo run -p selfsame-build --example regenerate`.
//! The test `generated_code_is_fresh` fails as long as that would change something.

use std::path::Path;

use selfsame_build::{Config, Error};

fn main() -> Result<(), Error> {
    each(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), |config| config)
}

/// Compiles everything whose generated code is committed, below the repository's root.
pub fn each(root: &Path, set: impl Fn(Config) -> Config) -> Result<(), Error> {
    for (schemas, generated) in
        [("schemas/wire.capnp", "src/generated"), ("schemas/examples", "examples/contracts")]
    {
        set(Config::new()).checked_in(root.join(generated)).compile([root.join(schemas)])?;
    }
    Ok(())
}
