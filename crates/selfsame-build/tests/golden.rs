//! The generated code of a few contracts, compared to the letter.
//!
//! A difference that is meant: `SELFSAME_REGENERATE=1 cargo test -p selfsame-build --test golden`, look at it, commit it. That the code
//! compiles and works is shown elsewhere: by the root crate's `tests/generated.rs`, which includes these files.

use std::path::{Path, PathBuf};
use std::{env, fs};

use selfsame_build::Config;

#[track_caller]
fn golden(name: &str) {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let out = tempfile::tempdir().unwrap();
    Config::new().checked_in(out.path()).compile([folder.join(name)]).unwrap();
    let text = fs::read_to_string(out.path().join("mod.rs")).unwrap();
    let golden = folder.join(format!("{name}.rs"));
    if env::var_os("SELFSAME_REGENERATE").is_some() {
        fs::write(&golden, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&golden).unwrap().replace("\r\n", "\n");
    let differs =
        (1..).zip(text.lines().zip(expected.lines())).find(|(_, (line, expected))| line != expected);
    if let Some((number, (line, expected))) = differs {
        panic!("{}:{number}\n  expected: {expected}\n generated: {line}", golden.display());
    }
    assert_eq!(text.len(), expected.len(), "{}: one of both is longer", golden.display());
}

#[test]
fn services_that_extend_others() {
    golden("service");
}

#[test]
fn types_and_constants() {
    golden("types");
}

#[test]
fn events() {
    golden("event");
}
