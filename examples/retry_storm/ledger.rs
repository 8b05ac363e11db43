//! The two logs that are compared in the end: the effects that happened, and what the client was told of them. A line each.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;

/// One effect: the change of a password.
#[derive(Debug, PartialEq)]
pub struct Effect {
    /// One call, one user: so an effect names the intention that it came from.
    pub user: String,
    /// Counts all effects, so that no two have the same.
    pub version: u32,
    pub nonce: String,
}

/// What the client was told of one call.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub user: String,
    pub answer: Answer,
    /// For people: the error, or nothing.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// A reply with this version.
    Version(u32),
    /// An error, and the call executed.
    Yes,
    /// An error, and the call did not execute.
    No,
    /// An error, and it is not known whether it executed.
    Unknown,
}

/// The log of effects, as the server writes it.
pub struct Ledger {
    file: File,
    effects: AtomicU32,
}

impl Ledger {
    pub fn open(path: &Path) -> io::Result<Ledger> {
        Ok(Ledger { file: append(path)?, effects: AtomicU32::new(0) })
    }

    /// Has the effect: the version that the password is at from now on.
    pub fn change(&self, user: String, nonce: String) -> io::Result<u32> {
        let version = self.effects.fetch_add(1, Ordering::Relaxed) + 1;
        write_line(&self.file, Effect { user, version, nonce })?;
        Ok(version)
    }
}

pub fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// One write in append mode: the line is there as a whole, whoever else writes.
pub fn write_line(mut file: &File, line: impl fmt::Display) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}

pub fn read<T: FromStr<Err: fmt::Display>>(path: &Path) -> Result<Vec<T>> {
    let parse =
        |line: &str| line.parse().map_err(|error| format!("{}: {line:?}: {error}", path.display()).into());
    std::fs::read_to_string(path)?.lines().map(parse).collect()
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.user, self.version, self.nonce)
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let [user, version, nonce] = words(line)?;
        Ok(Effect { user, version: version.parse().map_err(|_| "no version")?, nonce })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { user, answer, why } = self;
        match answer {
            Answer::Version(version) => write!(f, "{user} {version} {why}"),
            Answer::Yes => write!(f, "{user} yes {why}"),
            Answer::No => write!(f, "{user} no {why}"),
            Answer::Unknown => write!(f, "{user} unknown {why}"),
        }
    }
}

impl FromStr for Told {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let [user, answer, why] = words(line)?;
        let answer = match answer.as_str() {
            "yes" => Answer::Yes,
            "no" => Answer::No,
            "unknown" => Answer::Unknown,
            version => Answer::Version(version.parse().map_err(|_| "no answer")?),
        };
        Ok(Told { user, answer, why })
    }
}

/// Three of them; the last may have blanks in it.
fn words(line: &str) -> std::result::Result<[String; 3], String> {
    let words: Vec<String> = line.splitn(3, ' ').map(str::to_owned).collect();
    words.try_into().map_err(|_| "not three words".to_owned())
}
