//! House rules, as a failing test.
//!
//! Which part may name which is what keeps the machines provable and the socket crate in one room (docs/design.md, "Shape of the code"). So the
//! source is read as text, comments left out, and each line that breaks a rule is shown.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder or the file itself, relative to the root, generated ones left out.
fn rust_files(below: &str) -> Vec<PathBuf> {
    let start = root().join(below);
    let mut files = Vec::new();
    let mut folders = vec![start.clone()];
    if start.is_file() {
        files.push(start);
        folders.clear();
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.retain(|file| {
        !file.components().any(|part| part.as_os_str() == "generated" || part.as_os_str() == "golden")
    });
    files.sort();
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").display().to_string()
}

/// The lines of a file that are code, with their numbers.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("readable source");
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().trim().to_string();
    text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line))).collect()
}

/// Lines below `place` that contain one of `words`.
fn breaches(place: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files(place) {
        for (number, line) in code(&file) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number} names {word}: {line}", relative(&file)));
            }
        }
    }
    found
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_machines_know_no_socket_no_runtime_no_clock_and_no_dice() {
    let shells = [
        "zeromq",
        "tokio",
        "Instant::now",
        "SystemTime",
        "thread::",
        "getrandom",
        "crate::io",
        "crate::client",
        "crate::server",
    ];
    none(breaches("src/protocol", &shells));
}

#[test]
fn only_io_names_the_socket_crate() {
    let all = breaches("src", &["zeromq::"]);
    none(all.into_iter().filter(|line| !line.starts_with("src/io/")).collect());
}

#[test]
fn io_knows_the_machines_and_nothing_above_them() {
    none(breaches(
        "src/io",
        &["crate::client", "crate::server", "crate::publisher", "crate::subscriber", "crate::codegen"],
    ));
}

#[test]
fn client_and_server_never_import_each_other() {
    // `Channel::local` is where they meet, and it says so.
    let client = breaches("src/client", &["crate::server"]);
    none(client.into_iter().filter(|line| !line.contains("crate::server::local(service)")).collect());
    none(breaches("src/server", &["crate::client"]));
}

#[test]
fn no_part_is_a_stub() {
    let words = ["todo!(", "unimplemented!(", "#[ignore"];
    let here = "tests/tidy.rs";
    for place in ["src", "crates", "examples", "tests"] {
        none(breaches(place, &words).into_iter().filter(|line| !line.starts_with(here)).collect());
    }
}

#[test]
fn a_file_can_be_read_in_a_sitting() {
    let mut found = Vec::new();
    for file in rust_files("src").into_iter().chain(rust_files("crates")) {
        let lines = fs::read_to_string(&file).expect("readable source").lines().count();
        if lines > 600 {
            found.push(format!("{} has {lines} lines; would two rooms be clearer?", relative(&file)));
        }
    }
    none(found);
}

#[test]
fn every_module_says_what_it_is() {
    let mut found = Vec::new();
    for file in rust_files("src") {
        let text = fs::read_to_string(&file).expect("readable source");
        if !text.starts_with("//!") {
            found.push(format!("{} does not begin with what it is", relative(&file)));
        }
    }
    none(found);
}
