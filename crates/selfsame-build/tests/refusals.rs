//! Every error of the generator: a contract, or a machine, for which it cannot work, and the words that say so.

use std::fs;
use std::path::{Path, PathBuf};

use selfsame_build::{Config, Error};
use tempfile::TempDir;

/// A folder with schemas in it. Each gets an id and the annotations.
fn schemas(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, (name, text)) in files.iter().enumerate() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let head = format!("@0xf00000000000000{number};\nusing Selfsame = import \"/selfsame.capnp\";\n");
        fs::write(path, head + text).unwrap();
    }
    folder
}

fn compile(folder: &TempDir) -> Result<(), Error> {
    Config::new().out_dir(folder.path().join("out")).compile([folder.path()])
}

/// The error of a contract, with the folder's name left out.
fn error_of(files: &[(&str, &str)]) -> String {
    let folder = schemas(files);
    let error = compile(&folder).expect_err("it was compiled");
    assert!(!folder.path().join("out").exists(), "something was written in spite of an error");
    let prefix = format!("{}/", folder.path().display());
    let canonical = format!("{}/", fs::canonicalize(folder.path()).unwrap().display());
    error.to_string().replace(&prefix, "").replace(&canonical, "")
}

/// What the generator itself says against a contract of one file.
#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(error_of(&[("a.capnp", text)]), expected);
}

#[test]
fn capabilities() {
    let why = "it is a capability, and a message of selfsame is data: it may be stored and sent again; \
               pass a name or an id, and serve the interface by itself";
    refused("interface I { open @0 (file :I) -> (); }", &format!("a.capnp: I.open.file: {why}"));
    refused("interface I { open @0 () -> (file :Capability); }", &format!("a.capnp: I.open.file: {why}"));
    refused("interface I {} struct S { i @0 :List(I); }", &format!("a.capnp: S.i: {why}"));
    refused(
        "interface I {} struct S { g :group { i @0 :List(List(I)); } }",
        &format!("a.capnp: S.g.i: {why}"),
    );
    refused(
        "interface I {} struct B(T) { x @0 :T; } struct S { b @0 :B(I); }",
        &format!("a.capnp: S.b: {why}"),
    );
    refused(
        "interface I { m @0 B(I) -> B(I); } struct B(T) { x @0 :T; }",
        &format!("a.capnp: I.m: {why}\na.capnp: I.m: {why}"),
    );
}

#[test]
fn what_has_no_messages_of_its_own() {
    refused(
        "interface I { play @0 () -> stream; }",
        "a.capnp: I.play: it streams, which selfsame cannot: each call has one reply; \
         return a result, or publish events with $Selfsame.topic",
    );
    refused(
        "interface I(T) { get @0 () -> (x :T); }",
        "a.capnp: I: a generic interface cannot be served, since the messages of a service must be known; \
         write an interface for each type, or take the generic struct as a parameter",
    );
    refused(
        "struct S(T) { interface I { get @0 () -> (x :T); } }",
        "a.capnp: S.I: a generic interface cannot be served, since the messages of a service must be known; \
         write an interface for each type, or take the generic struct as a parameter",
    );
    refused(
        "interface I { get @0 [T] () -> (x :T); }",
        "a.capnp: I.get: a method with type parameters of its own cannot be served, since its messages must be known; \
         write a method for each type",
    );
}

#[test]
fn faults() {
    refused(
        "interface I { get @0 () -> () $Selfsame.Raises.it; }",
        "a.capnp: I.get: `$Selfsame.Raises` names no struct; name the struct of the typed no: $Selfsame.Raises(MyFault).it",
    );
    refused(
        "interface I $Selfsame.Raises(Text).it { get @0 () -> (); }",
        "a.capnp: I.get: what it raises is no struct; raise a struct: $Selfsame.Raises(MyFault).it",
    );
    refused(
        "struct F(T) { x @0 :T; } interface I { get @0 () -> () $Selfsame.Raises(F(Text)).it; }",
        "a.capnp: I.get: what it raises is generic, and a fault is told by its type id, which says nothing of type \
         arguments; raise a struct without type parameters",
    );
}

#[test]
fn an_annotation_that_is_there_twice() {
    let retry = "it has more than one retry class; keep one $Selfsame.retry";
    refused(
        "interface I { m @0 () -> () $Selfsame.retry(never) $Selfsame.retry(once); }",
        &format!("a.capnp: I.m: {retry}"),
    );
    refused(
        "interface I $Selfsame.retry(never) $Selfsame.retry(never) { m @0 () -> (); }",
        &format!("a.capnp: I: {retry}"),
    );
    let raises = "it raises more than one struct; keep one $Selfsame.Raises(…).it, of a struct with a union";
    let twice = "$Selfsame.Raises(A).it $Selfsame.Raises(B).it";
    refused(
        &format!("struct A {{}} struct B {{}} interface I {{ m @0 () -> () {twice}; }}"),
        &format!("a.capnp: I.m: {raises}"),
    );
    refused(
        &format!("struct A {{}} struct B {{}} interface I {twice} {{ m @0 () -> (); }}"),
        &format!("a.capnp: I: {raises}"),
    );
    // A method's own annotation besides its interface's is one of its own.
    let folder = schemas(&[(
        "a.capnp",
        "interface I $Selfsame.retry(never) { m @0 () -> () $Selfsame.retry(once); }",
    )]);
    compile(&folder).unwrap();
}

#[test]
fn what_capnpc_cannot_do() {
    refused(
        "struct S(T, U) { union { g :group { t @0 :T; } x @1 :Void; } }",
        "a.capnp: S.g: in the union of a generic struct, capnpc can have a group only if the union's members use every \
         type parameter between them; make the group a struct of its own",
    );
    refused(
        "struct S(T) { o :group { union { g :group { t @0 :Text; } x @1 :Void; } } }",
        "a.capnp: S.o.g: in the union of a generic struct, capnpc can have a group only if the union's members use every \
         type parameter between them; make the group a struct of its own",
    );
    refused("enum E {}", "a.capnp: E: an enum without enumerants has no value; give it one, or leave it out");
    refused(
        "struct S { r @0 :Selfsame.RetryClass; }",
        "a.capnp: S.r: no code is generated for its type, which is declared in selfsame.capnp or in a file that was not \
         compiled; declare a type of your own",
    );
}

#[test]
fn topics() {
    let topic = |name: &str| format!("struct E $Selfsame.topic(\"{name}\") {{}}");
    let remedy = "name it like \"account.password\"";
    refused(
        &topic("a/b"),
        &format!(
            "a.capnp: E: the topic \"a/b\" contains `/`, which ends the topic's name in the topic frame; {remedy}"
        ),
    );
    refused(
        &topic("a.*"),
        &format!(
            "a.capnp: E: the topic \"a.*\" contains `*`, which looks like a wildcard, and there are none; {remedy}"
        ),
    );
    refused(
        &topic("a b"),
        &format!("a.capnp: E: the topic \"a b\" contains white space or a control character; {remedy}"),
    );
    refused(
        &topic("a\\x01"),
        &format!("a.capnp: E: the topic \"a\\u{{1}}\" contains white space or a control character; {remedy}"),
    );
    refused(&topic(""), &format!("a.capnp: E: the topic \"\" is empty; {remedy}"));
    for reserved in ["selfsame", "selfsame.price", "selfsameness"] {
        refused(
            &topic(reserved),
            &format!(
                "a.capnp: E: the topic \"{reserved}\" begins with `selfsame`, as only the library's own do; {remedy}"
            ),
        );
    }
    let long = "t".repeat(201);
    refused(
        &topic(&long),
        &format!("a.capnp: E: the topic \"{long}\" is 201 bytes long, and 200 is the most; {remedy}"),
    );
    refused(
        "struct E(T) $Selfsame.topic(\"e\") { t @0 :T; }",
        "a.capnp: E: an event may not be generic, since its subscribers know its topic only; \
         wrap the generic struct in one without type parameters",
    );
    refused(
        "struct E $Selfsame.topic(\"e\") $Selfsame.topic(\"f\") {}",
        "a.capnp: E: it has two topics; keep one $Selfsame.topic",
    );
}

#[test]
fn two_topics_of_one_name() {
    let event = |name| format!("struct {name} $Selfsame.topic(\"e\") {{}}");
    let error = error_of(&[("a.capnp", &event("E")), ("sub/b.capnp", &event("F"))]);
    assert_eq!(
        error,
        "sub/b.capnp: F: the topic \"e\" is that of E in a.capnp too; give each event a topic of its own"
    );
}

#[test]
fn keys() {
    let event = |fields: &str| format!("struct E $Selfsame.topic(\"e\") {{ {fields} }}");
    refused(
        "struct S { k @0 :Text $Selfsame.key; }",
        "a.capnp: S.k: its struct is no event; annotate the struct with $Selfsame.topic, or leave out $Selfsame.key",
    );
    refused(
        &event("a @0 :Text $Selfsame.key; b @1 :Text $Selfsame.key;"),
        "a.capnp: E.b: it is a second key; keep one: an event has one key at most",
    );
    for ty in ["Float64", "Data", "List(Text)", "AnyPointer", "Void", "E"] {
        refused(
            &event(&format!("a @0 :{ty} $Selfsame.key;")),
            "a.capnp: E.a: a field of this type cannot be a key; take a field of type Text, an integer, Bool or an enum",
        );
    }
    refused(
        &event("union { a @0 :Text $Selfsame.key; b @1 :Void; }"),
        "a.capnp: E.a: a key may not be a member of a union, since not every event would have it; move it out of the union",
    );
    refused(
        &event("g :group { a @0 :Text $Selfsame.key; }"),
        "a.capnp: E.g.a: a key may not stand in a group; move it out to the event itself",
    );
}

#[test]
fn two_modules_of_one_name() {
    assert_eq!(
        error_of(&[("a-b.capnp", "struct S {}"), ("a_b.capnp", "struct S {}")]),
        "a_b.capnp: it and a-b.capnp would both become the module `a_b`; rename one of the files"
    );
    assert_eq!(
        error_of(&[("a.capnp", "struct Sub {}"), ("a/sub.capnp", "struct S {}")]),
        "a.capnp: Sub: it and the file a/sub.capnp would both become the module `a::sub`; rename the file or the declaration"
    );
}

#[test]
fn all_refusals_of_a_run_are_told() {
    let error = error_of(&[("a.capnp", "enum E {} interface I { s @0 () -> stream; t @1 (c :I) -> (); }")]);
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn what_the_compiler_refuses_is_told_in_its_own_words() {
    let wrong_place = error_of(&[("a.capnp", "struct S $Selfsame.retry(never) {}")]);
    assert!(
        wrong_place.contains(
            "a.capnp:3:11-25: error: 'Selfsame.retry' cannot be applied to this kind of declaration"
        ),
        "{wrong_place}"
    );
    let syntax = error_of(&[("a.capnp", "struct {")]);
    assert!(syntax.starts_with("`capnp compile` failed:\n") && syntax.contains("a.capnp:3:"), "{syntax}");
    let import = error_of(&[("a.capnp", "using X = import \"x.capnp\"; struct S { x @0 :X.X; }")]);
    assert!(import.contains("Import failed: x.capnp"), "{import}");
    let folder = schemas(&[
        ("one/a.capnp", "using X = import \"../two/x.capnp\"; struct S { x @0 :X.X; }"),
        ("two/x.capnp", "struct X {}"),
    ]);
    let config = || Config::new().out_dir(folder.path().join("out"));
    let outside = config().compile([folder.path().join("one")]).unwrap_err().to_string();
    assert!(outside.contains("leads by `..` out of the folders"), "{outside}");
    config().import_path(folder.path()).compile([folder.path().join("one")]).unwrap();
    let circle = error_of(&[("a.capnp", "interface I extends(J) {} interface J extends(I) {}")]);
    assert!(circle.contains("a.capnp"), "{circle}");
}

#[test]
fn a_missing_compiler_is_explained() {
    let folder = schemas(&[("a.capnp", "struct S {}")]);
    let config = Config::new().capnp("/nonexistent/capnp").out_dir(folder.path().join("out"));
    let error = config.compile([folder.path()]).unwrap_err();
    assert!(matches!(error, Error::CompilerMissing { .. }));
    let words = error.to_string();
    for install in ["apt-get install capnproto", "dnf install capnproto", "brew install capnp"] {
        assert!(words.contains(install), "{words}");
    }
    // A build.rs that returns the error prints its Debug form.
    assert_eq!(format!("{error:?}"), words);
}

#[test]
fn a_compiler_that_prints_nonsense_is_an_error() {
    let folder = schemas(&[("a.capnp", "struct S {}")]);
    for (tool, words) in [("/bin/echo", "its output is no request"), ("/bin/false", "failed")] {
        let config = Config::new().capnp(tool).out_dir(folder.path().join("out"));
        let error = config.compile([folder.path()]).unwrap_err();
        assert!(matches!(error, Error::Compiler { .. }) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn input_that_is_not_there() {
    let folder = schemas(&[]);
    let error = compile(&folder).unwrap_err();
    assert!(error.to_string().ends_with("no file in this folder ends in .capnp"), "{error}");
    let config = || Config::new().out_dir(folder.path().join("out"));
    let error = config().compile([folder.path().join("x.capnp")]).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("x.capnp")), "{error}");
    let error = config().compile(Vec::<PathBuf>::new()).unwrap_err();
    assert!(error.to_string().contains("no schema was given"), "{error}");
    let error = config().import_path(folder.path().join("no")).compile([folder.path()]).unwrap_err();
    assert!(matches!(error, Error::Input { .. } | Error::Io { .. }), "{error}");
}

#[test]
fn output_that_cannot_be_written() {
    let folder = schemas(&[("a.capnp", "struct S {}")]);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Config::new().out_dir(&file).compile([folder.path()]).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path == Path::new(&file.join("selfsame_contracts.rs"))),
        "{error}"
    );
}

/// No contract leads here; so it takes a compiler that gives a wrong answer.
#[test]
fn a_panic_becomes_an_error_that_names_the_files() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = schemas(&[("a.capnp", "struct S {}")]);
    let mut request = capnp::message::Builder::new_default();
    let root = request.init_root::<capnp::schema_capnp::code_generator_request::Builder<'_>>();
    root.init_requested_files(1).get(0).set_id(0xf000_0000_0000_0000);
    let answer = folder.path().join("answer");
    fs::write(&answer, capnp::serialize::write_message_to_words(&request)).unwrap();
    let tool = folder.path().join("tool");
    fs::write(&tool, format!("#!/bin/sh\nexec cat '{}'\n", answer.display())).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();

    let config = Config::new().capnp(tool).out_dir(folder.path().join("out"));
    let error = config.compile([folder.path().join("a.capnp")]).unwrap_err();
    assert!(matches!(&error, Error::Defect { files, .. } if files.ends_with("a.capnp")), "{error}");
}
