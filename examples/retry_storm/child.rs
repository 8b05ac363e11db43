//! This binary once more, in another role; and what parent and child tell each other.
//!
//! A child prints its counters as lines of `name=value`, and ends when its standard input does: when the parent closes it, or is gone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::Result;

/// Counters by name.
pub type Counts = HashMap<String, u64>;

/// A child process; killed when it is dropped.
pub struct Child {
    role: &'static str,
    process: tokio::process::Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    counts: Counts,
}

impl Child {
    pub fn start(
        role: &'static str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no standard output")?;
        Ok(Child { role, process, input, output: BufReader::new(output).lines(), counts: Counts::new() })
    }

    /// The rest of the next line, which begins with `prefix`.
    pub async fn line_after(&mut self, prefix: &str) -> Result<String> {
        let line = self.output.next_line().await?.unwrap_or_default();
        let rest = line.strip_prefix(prefix).ok_or_else(|| format!("the {} said {line:?}", self.role))?;
        Ok(rest.to_owned())
    }

    /// Waits for the next line of counters; an error if the child ends.
    pub async fn changed(&mut self) -> Result<()> {
        match self.output.next_line().await? {
            Some(line) => {
                self.read_counts(&line);
                Ok(())
            }
            None => Err(format!("the {} ended too early", self.role).into()),
        }
    }

    /// Ends the child in good order, and takes its last counters.
    pub async fn stop(mut self) -> Result<Counts> {
        drop(self.input.take());
        let end = async {
            while let Some(line) = self.output.next_line().await? {
                read_counts(&mut self.counts, &line);
            }
            self.process.wait().await
        };
        let status: io::Result<ExitStatus> = tokio::time::timeout(Duration::from_secs(20), end).await?;
        match status? {
            status if status.success() => Ok(self.counts),
            status => Err(format!("the {} ended with {status}", self.role).into()),
        }
    }

    /// A counter as of the last line.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn read_counts(&mut self, line: &str) {
        read_counts(&mut self.counts, line);
    }
}

fn read_counts(counts: &mut Counts, line: &str) {
    for (name, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
        if let Ok(value) = value.parse() {
            counts.insert(name.to_owned(), value);
        }
    }
}

/// In a child: completes when the parent asks it to end, or is gone.
pub async fn dismissed() {
    let (tell, told) = oneshot::channel();
    // A thread, not tokio's stdin: that one would keep the runtime from shutting down until a line arrives.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}
