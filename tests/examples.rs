//! The examples do what they promise: each is run as its reader would, as processes that talk over TCP.
//!
//! Cargo builds the examples before it runs tests, and puts them beside the tests; ports are chosen by the system.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// An example that says nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process whose output is read line by line; killed when it is dropped.
struct Running {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(example: &str, arguments: &[&str]) -> Running {
        let mut process =
            command(example, arguments).stdout(Stdio::piped()).spawn().expect("the example starts");
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Running { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the example says something")
    }

    /// The endpoint that a server has bound.
    fn endpoint(&self) -> String {
        let line = self.line();
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("no endpoint: {line}")).to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(example: &str, arguments: &[&str]) -> Command {
    // …/debug/deps/examples-0123 -> …/debug/examples/<example>
    let mut path: PathBuf = std::env::current_exe().expect("this test is a file");
    path.pop();
    path.pop();
    path.extend(["examples", example]);
    path.set_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: `cargo build --examples` builds it", path.display());
    let mut command = Command::new(path);
    command.args(arguments);
    command
}

fn run(example: &str, arguments: &[&str]) -> Output {
    command(example, arguments).output().expect("the example runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The number in a row of retry_storm's table.
fn row(report: &str, name: &str) -> u64 {
    let number = report.lines().find_map(|line| line.trim().strip_prefix(name));
    let number = number.unwrap_or_else(|| panic!("no row {name} in\n{report}"));
    number.trim().replace(',', "").parse().unwrap_or_else(|error| panic!("row {name}: {error} in\n{report}"))
}

#[test]
fn an_account_client_changes_a_password_at_an_account_server() {
    let server = Running::start("account_server", &["tcp://127.0.0.1:0"]);
    let endpoint = server.endpoint();
    for version in 1..=2 {
        let output = run("account_client", &[&endpoint]);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(text(&output).trim(), format!("ann's password is at version {version}"));
    }
}

#[test]
fn a_login_that_is_tried_again_has_one_effect_below() {
    let output = run("login", &[]);
    assert!(output.status.success(), "{}", text(&output));
}

#[cfg(feature = "redb")]
#[test]
fn a_client_that_is_killed_resumes_its_call_and_there_is_one_effect() {
    let output = run("resume_after_crash", &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("the client that asked is killed before the answer"), "{}", text(&output));
}

#[cfg(feature = "tls")]
#[test]
fn of_two_clients_with_certificates_one_may_change_a_password() {
    let output = run("certificates", &[]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for line in ["ann.example may change it", "bob.example asks for a version", "bob.example may not: "] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn no_money_is_made_or_lost_while_the_server_is_killed() {
    let output = run("transfer", &[]);
    assert!(output.status.success(), "{}", text(&output));
    let killed = text(&output)
        .lines()
        .find_map(|line| line.strip_prefix("the server was killed ")?.split(' ').next()?.parse().ok());
    assert!(killed.is_some_and(|times: u32| times > 0), "{}", text(&output));
}

#[test]
fn a_watcher_sees_the_prices_of_its_symbol_and_no_others() {
    let ticker = Running::start("ticker", &["tcp://127.0.0.1:0"]);
    let endpoint = ticker.endpoint();
    let watcher = Running::start("watcher", &[&endpoint, "ACME"]);
    for _ in 0..3 {
        let line = watcher.line();
        assert!(line.starts_with("ACME "), "{line}");
    }
}

#[test]
fn a_retry_storm_leaves_one_effect_a_call() {
    let output = run("retry_storm", &["--calls", "300", "--seed", "7"]);
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert_eq!(row(&report, "calls"), 300);
    assert_eq!(
        row(&report, "effects") + row(&report, "unknown") + row(&report, "not executed"),
        300,
        "{report}"
    );
    assert!(row(&report, "attempts") > 300, "the storm was a calm:\n{report}");
    for name in ["lost", "duplicates", "disagreeing"] {
        assert_eq!(row(&report, name), 0, "{report}");
    }
}

#[test]
fn without_deduplication_a_retry_storm_shows_duplicates_and_fails() {
    let output = run("retry_storm", &["--calls", "300", "--seed", "7", "--without-dedup"]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(row(&report, "duplicates") > 0, "{report}");
    // A failed storm keeps its logs for whoever wants to look into it.
    let logs = report.lines().find_map(|line| line.strip_prefix("The logs are kept in "));
    std::fs::remove_dir_all(logs.expect("it says where the logs are")).expect("the logs are there");
}

#[test]
fn a_retry_storm_explains_its_options() {
    let output = run("retry_storm", &["--calls", "many"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("many is not a number"), "{}", text(&output));
}
