//! This binary once more, in another role; and what parent and child tell each other.
//!
//! A child prints a line for each thing that it has to say and is told things the same way. It ends when its standard input does, and is killed by the kernel when its parent
//! dies, even while it is stopped. Its standard error goes to a file.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::Result;

/// What a child is told at its start, as words `name=value`.
#[derive(Clone, Debug, Default)]
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// Reads them from the command line.
    ///
    /// # Errors
    /// If a word is not of the form.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let pair = |word: String| {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Arguments(words.map(pair).collect::<Result<_>>()?))
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// One that may be missing.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One that has to be there.
    ///
    /// # Errors
    /// If it is not, or is of another form.
    pub fn get<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let value = self.find(name).ok_or_else(|| format!("{name}=… is missing"))?;
        value.parse().map_err(|_| format!("{name}={value} is not understood").into())
    }

    fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

/// A child process; killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    pid: Pid,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

/// What a child does next.
#[derive(Debug)]
pub enum Happened {
    /// It said this.
    Said(String),
    /// It is gone. Comes last.
    Ended(ExitStatus),
}

impl Child {
    /// Starts one. What it writes to standard error is added to the file `errors`.
    ///
    /// To be called from a thread that lives as long as the children should: they die with it.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn start(role: &str, arguments: &Arguments, errors: &Path) -> Result<Child> {
        let errors = OpenOptions::new().create(true).append(true).open(errors)?;
        let parent = rustix::process::getpid().as_raw_nonzero();
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(arguments.clone().with("parent", parent).words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            // Ctrl-C is the parent's business.
            .process_group(0)
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no standard output")?;
        let id = process.id().ok_or("it is gone already")?;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        Ok(Child { process, pid, input, output: BufReader::new(output).lines() })
    }

    /// Its process id. Valid until [`Happened::Ended`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What it does next. Cancel-safe.
    pub async fn happened(&mut self) -> io::Result<Happened> {
        // First all that it said, then its end.
        if let Ok(Some(line)) = self.output.next_line().await {
            return Ok(Happened::Said(line));
        }
        self.process.wait().await.map(Happened::Ended)
    }

    /// Says a line to it. One that is dead does not hear it.
    pub async fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(format!("{line}\n").as_bytes()).await;
        }
    }

    /// Asks it to end in good order.
    pub fn dismiss(&mut self) {
        self.input = None;
    }

    /// Sends it a signal. Not after it has [`Ended`](Happened::Ended).
    pub fn signal(&self, signal: Signal) {
        // It may be dead and not yet waited for: then nothing happens, and its id is not another's.
        let _ = rustix::process::kill_process(self.pid, signal);
    }

    /// From now on no file of its may grow beyond so many bytes: a disk that is full. Not after it has [`Ended`](Happened::Ended).
    pub fn limit_files(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: None };
        let _ = rustix::process::prlimit(Some(self.pid), Resource::Fsize, limit);
    }

    /// Bytes of memory that it occupies.
    pub fn resident(&self) -> Option<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid.as_raw_nonzero())).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

/// In a child, first thing: has the kernel kill it when its parent dies.
///
/// # Errors
/// If the parent is dead already, or there is none.
pub fn die_with_parent(arguments: &Arguments) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent: i32 = arguments.get("parent")?;
    match rustix::process::getppid() {
        Some(pid) if pid.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err("the parent is gone".into()),
    }
}

/// In a child: the lines that the parent says. Ends when the parent dismisses it.
pub fn orders() -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    // A thread, not tokio's stdin: that one would keep the runtime from shutting down until a line arrives.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_out_as_they_went_in() {
        let sent = Arguments::default().with("place", 3).with("store", "postgres://x?a=b");
        let got = Arguments::parse(sent.words()).expect("well formed");
        assert_eq!(got.get::<u32>("place").expect("there"), 3);
        assert_eq!(got.find("store"), Some("postgres://x?a=b"));
        assert!(got.get::<u32>("life").is_err());
        assert!(Arguments::parse(["place".to_owned()].into_iter()).is_err());
    }
}
