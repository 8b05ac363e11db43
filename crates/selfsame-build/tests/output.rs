//! Where output goes, when it is written, and what is used of it where there is no compiler.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use selfsame_build::{Config, Error};
use tempfile::TempDir;

const ACCOUNT: &str = "@0xf000000000000001;\ninterface Account { close @0 () -> (); }\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// All that a file system knows of when and as what a file was written.
fn trace(path: &Path) -> (u64, i64, i64, i64, i64) {
    let data = fs::metadata(path).unwrap();
    (data.ino(), data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec())
}

#[test]
fn unchanged_schemas_touch_nothing() {
    let folder = folder(&[("schemas/account.capnp", ACCOUNT)]);
    let (schemas, out) = (folder.path().join("schemas"), folder.path().join("out"));
    let compile = || Config::new().out_dir(&out).compile([&schemas]).unwrap();
    compile();
    let file = out.join("selfsame_contracts.rs");
    let (before, inside) = (trace(&file), trace(&out));
    compile();
    assert_eq!((trace(&file), trace(&out)), (before, inside));
    fs::write(schemas.join("account.capnp"), ACCOUNT.replace("close", "open")).unwrap();
    compile();
    assert_ne!(trace(&file), before);
    assert!(fs::read_to_string(&file).unwrap().contains("fn open("));
}

#[test]
fn the_same_schemas_give_the_same_code_wherever_they_lie() {
    let generated = || {
        let folder = folder(&[("account.capnp", ACCOUNT), ("b/c.capnp", "@0xf000000000000002; struct C {}")]);
        Config::new().out_dir(folder.path().join("out")).compile([folder.path()]).unwrap();
        fs::read_to_string(folder.path().join("out/selfsame_contracts.rs")).unwrap()
    };
    assert_eq!(generated(), generated());
}

#[test]
fn committed_code_serves_where_there_is_no_compiler() {
    let folder = folder(&[("schemas/account.capnp", ACCOUNT)]);
    let (schemas, api) = (folder.path().join("schemas"), folder.path().join("src/api"));
    let config = || Config::new().checked_in(&api);
    let without = || config().capnp("/nonexistent/capnp");
    assert!(
        matches!(without().compile([&schemas]), Err(Error::CompilerMissing { .. })),
        "nothing is committed yet"
    );

    config().compile([&schemas]).unwrap();
    let before = trace(&api.join("mod.rs"));
    config().compile([&schemas]).unwrap();
    without().compile([&schemas]).unwrap();
    config().check().compile([&schemas]).unwrap();
    assert_eq!(trace(&api.join("mod.rs")), before);
    assert!(
        matches!(without().check().compile([&schemas]), Err(Error::CompilerMissing { .. })),
        "it could not check"
    );

    fs::write(schemas.join("account.capnp"), ACCOUNT.replace("close", "open")).unwrap();
    let error = config().check().compile([&schemas]).unwrap_err();
    assert!(matches!(&error, Error::Stale { path } if *path == api.join("mod.rs")), "{error}");
    assert_eq!(trace(&api.join("mod.rs")), before, "checking wrote something");
    config().compile([&schemas]).unwrap();
    config().check().compile([&schemas]).unwrap();
}

#[test]
fn an_unpacked_package_is_built_with_what_was_committed() {
    for mark in [".cargo-ok", ".cargo-checksum.json", ".cargo_vcs_info.json", "../.cargo-ok"] {
        let folder = folder(&[("one/schemas/account.capnp", ACCOUNT), ("one/src/api/mod.rs", "// old\n")]);
        let one = folder.path().join("one");
        let (schemas, api) = (one.join("schemas"), one.join("src/api"));
        let config = || Config::new().checked_in(&api);
        let stale = config().check().compile([&schemas]).unwrap_err();
        assert!(matches!(stale, Error::Stale { .. }), "without {mark}: {stale}");

        fs::write(one.join(mark), "{}").unwrap();
        let before = trace(&api.join("mod.rs"));
        config().compile([&schemas]).unwrap();
        config().check().compile([&schemas]).unwrap();
        assert_eq!(trace(&api.join("mod.rs")), before, "{mark}");

        fs::remove_file(api.join("mod.rs")).unwrap();
        let missing = config().compile([&schemas]).unwrap_err();
        assert!(missing.to_string().contains("is missing in this package"), "{missing}");
        assert!(!api.join("mod.rs").exists(), "{mark}");
    }
}

#[test]
fn a_checkout_with_other_line_ends_is_fresh() {
    let folder = folder(&[("account.capnp", ACCOUNT)]);
    let config = || Config::new().checked_in(folder.path());
    config().compile([folder.path().join("account.capnp")]).unwrap();
    let text = fs::read_to_string(folder.path().join("mod.rs")).unwrap();
    fs::write(folder.path().join("mod.rs"), text.replace('\n', "\r\n")).unwrap();
    config().check().compile([folder.path().join("account.capnp")]).unwrap();
}

#[test]
fn a_file_alone_brings_what_it_imports() {
    let folder = folder(&[
        (
            "one/a.capnp",
            "@0xf000000000000001; using B = import \"sub/b.capnp\"; using C = import \"/c.capnp\"; struct A { b @0 :B.B; c @1 :C.C; }",
        ),
        ("one/sub/b.capnp", "@0xf000000000000002; using D = import \"../d.capnp\"; struct B { d @0 :D.D; }"),
        ("one/d.capnp", "@0xf000000000000003; struct D {}"),
        ("one/not.capnp", "@0xf000000000000004; struct Not {}"),
        ("two/c.capnp", "@0xf000000000000005; struct C {}"),
    ]);
    let path = |name| folder.path().join(name);
    // The import paths lie within each other: the outer one, though named last, says what module `c` is in.
    let config = Config::new().out_dir(path("out")).import_path(path("two")).import_path(folder.path());
    config.compile([path("one/a.capnp")]).unwrap();
    let text = fs::read_to_string(path("out/selfsame_contracts.rs")).unwrap();
    for (module, present) in
        [("a", true), ("sub", true), ("d", true), ("two", true), ("not", false), ("one", false)]
    {
        assert_eq!(text.contains(&format!("\npub mod {module} {{")), present, "{module}");
    }
}

#[test]
fn code_of_another_crate_is_named_and_not_printed() {
    let folder = folder(&[
        (
            "base/bank/base.capnp",
            "@0xf000000000000001; interface Base { name @0 () -> (x :Text); } struct B { e @0 :E; } enum E { x @0; }",
        ),
        (
            "mine/mine.capnp",
            "@0xf000000000000002; using Base = import \"/bank/base.capnp\"; interface Mine extends(Base.Base) { b @0 (b :Base.B) -> Base.B; }",
        ),
    ]);
    let path = |name| folder.path().join(name);
    let config = Config::new().out_dir(path("out")).provided_by("bank-contracts::api", path("base"));
    config.compile([path("mine")]).unwrap();
    let text = fs::read_to_string(path("out/selfsame_contracts.rs")).unwrap();
    assert!(!text.contains("pub mod bank"));
    for named in [
        "'static + ::bank_contracts::api::bank::base::Base {",
        "self.channel.call::<::bank_contracts::api::bank::base::base::Name, R>(fill)",
        "type Results = ::bank_contracts::api::bank::base::b::Owned;",
        "::bank_contracts::api::bank::base::b::Builder<'a>",
    ] {
        assert!(text.contains(named), "{named}");
    }
}
