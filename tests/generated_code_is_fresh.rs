//! The committed code is what the generator makes of the committed schemas.
//!
//! If this fails: `cargo run -p selfsame-build --example regenerate`, look at the difference, commit it. It needs the Cap'n Proto compiler
//! (Debian: `apt-get install capnproto`), and fails without it: it could not tell.

#[expect(dead_code, reason = "its main is the command that regenerates")]
#[path = "../crates/selfsame-build/examples/regenerate.rs"]
mod regenerate;

use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn generated_code_is_fresh() {
    if let Err(error) = regenerate::each(Path::new(ROOT), selfsame_build::Config::check) {
        panic!("{error}\nTo regenerate: cargo run -p selfsame-build --example regenerate");
    }
}

#[test]
fn the_embedded_annotations_are_the_published_ones() {
    let read = |path| fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    assert!(
        read("schemas/selfsame.capnp") == read("crates/selfsame-build/src/schemas/selfsame.capnp"),
        "schemas/selfsame.capnp and its copy in selfsame-build, which has to be inside that package, differ"
    );
}
