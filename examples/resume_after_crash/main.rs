//! A client is killed after it has asked and before it is answered, and so is the server: the next life of the client resumes the call from a file and gets
//! the reply, and the life after that gets the selfsame one, from the server's next incarnation. There is one effect.
//!
//! `cargo run --example resume_after_crash --features redb`

#[path = "../contracts/mod.rs"]
mod api;
mod client;
mod server;

use std::error::Error;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demonstrate(),
        ["server", endpoint, folder] => Ok(server::run(endpoint, Path::new(folder)).await?),
        ["client", endpoint, saved] => client::run(endpoint, Path::new(saved)).await,
        _ => Err("no arguments: it starts its server and its clients itself".into()),
    }
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let here = folder.path().to_str().ok_or("the folder's name is not UTF-8")?;
    let saved = format!("{here}/call");

    let mut server = Process::start(&["server", "tcp://127.0.0.1:0", here])?;
    let endpoint = server.says("listening on ")?;
    println!("a server listens on {endpoint}");

    let client = Process::start(&["client", &endpoint, &saved])?;
    let nonce = server.line()?;
    drop(client);
    println!("{nonce}; the client that asked is killed before the answer");

    let first = Process::start(&["client", &endpoint, &saved])?.line()?;
    println!("its next life resumes the call from the file: {first}");

    drop(server);
    println!("the server is killed");
    let mut server = Process::start(&["server", &endpoint, here])?;
    server.says("listening on ")?;
    let second = Process::start(&["client", &endpoint, &saved])?.line()?;
    println!("its next incarnation is asked by a third life of the client: {second}");

    let effects = std::fs::read_to_string(folder.path().join("changes"))?.lines().count();
    println!("{effects} effect");
    match (effects, first == second) {
        (1, true) => Ok(()),
        (1, false) => Err("the replies differ".into()),
        _ => Err("one call, one effect: this is not what happened".into()),
    }
}

/// A process of this example; killed, as `kill -9` does, when it is dropped.
struct Process {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(arguments: &[&str]) -> Result<Process, Box<dyn Error>> {
        let this = std::env::current_exe()?;
        let mut child = Command::new(this).args(arguments).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("it has no output")?).lines();
        Ok(Process { child, output })
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        Ok(self.output.next().ok_or("a process ended before it had said what it should")??)
    }

    fn says(&mut self, beginning: &str) -> Result<String, Box<dyn Error>> {
        let line = self.line()?;
        Ok(line
            .strip_prefix(beginning)
            .ok_or_else(|| format!("{beginning}… was expected, not {line}"))?
            .to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
