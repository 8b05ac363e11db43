//! What the processes write down of what they did and were told: a line each, in one `write`, so that a line is in the file once it is written, whatever happens to
//! its process afterwards.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use crate::Result;

/// Microseconds of the machine's monotonic clock: all processes have the same.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// A file that lines are added to, by any number of processes.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn open(path: &Path) -> io::Result<Log> {
        Ok(Log(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If the disk is full: then none or a part of it was added, and [`read`] leaves it out.
    pub fn add(&self, line: impl fmt::Display) -> io::Result<()> {
        (&self.0).write_all(format!("{line}\n").as_bytes())
    }
}

/// All whole lines of a file. A last one without its end was never told to be written, and is left out.
///
/// # Errors
/// If it cannot be read, or a line is not understood.
pub fn read<T: FromStr<Err = String>>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse =
        |line: &str| line.parse().map_err(|error| format!("{}: {line:?}: {error}", path.display()).into());
    whole.lines().map(parse).collect()
}

/// What an effect leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Whose it is.
    pub call: String,
    /// Under which the call came.
    pub nonce: String,
    /// Of the parameters that came.
    pub hash: u64,
    /// When its handler began.
    pub begun: u64,
    /// Also in the reply.
    pub token: u64,
}

/// What a client writes down.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A call is about to be asked for, for the first time or again.
    Start(Start),
    /// This is how to ask for it again after a crash. Comes before the first start.
    Save(Saved),
    /// The caller was told.
    Told(Told),
}

/// A call that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its name.
    pub call: String,
    /// Tells this time of asking from others, within one life of a client.
    pub time: u64,
    /// Which method.
    pub method: String,
    /// Of its parameters.
    pub hash: u64,
    /// Of the parameters of the note that it leaves.
    pub note: Option<u64>,
    /// Its key, if it has one: a nonce.
    pub key: Option<String>,
    /// When it was asked for.
    pub at: u64,
    /// When its caller stops waiting.
    pub deadline: u64,
}

/// A call, to be sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Its name.
    pub call: String,
    /// Which method.
    pub method: String,
    /// Of its parameters.
    pub hash: u64,
    /// Of the parameters of the note that it leaves.
    pub note: Option<u64>,
    /// To which server.
    pub server: usize,
    /// `Call::to_bytes`.
    pub bytes: Vec<u8>,
}

/// What a client was told of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its name.
    pub call: String,
    /// As in its [`Start`].
    pub time: u64,
    /// When.
    pub at: u64,
    /// Under which it was sent, if that is known: replies do not say it.
    pub nonce: Option<String>,
    /// The token of the note that it left.
    pub note: Option<u64>,
    /// What.
    pub answer: Answer,
}

/// How a call ended, at its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With a reply, which has this token.
    Ok(u64),
    /// With the contract's no.
    Declined(u64),
    /// The handler failed, and this is recorded.
    Failed,
    /// It did not execute; why.
    No(String),
    /// Nobody knows; why.
    Unknown(String),
    /// It executed, and yet there is no reply that can be read; why.
    Yes(String),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effect { call, nonce, hash, begun, token } = self;
        write!(f, "{call} {nonce} {hash:x} {begun} {token:x}")
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let mut words = Words::of(line);
        Ok(Effect {
            call: words.next()?.to_owned(),
            nonce: words.next()?.to_owned(),
            hash: words.hex()?,
            begun: words.number()?,
            token: words.hex()?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |word: &Option<String>| word.clone().unwrap_or("-".into());
        let hex = |number: Option<u64>| number.map_or("-".into(), |number| format!("{number:x}"));
        match self {
            Entry::Start(Start { call, time, method, hash, note, key, at, deadline }) => {
                let (note, key) = (hex(*note), text(key));
                write!(f, "start {call} {time} {method} {hash:x} {note} {key} {at} {deadline}")
            }
            Entry::Save(Saved { call, method, hash, note, server, bytes }) => {
                write!(f, "save {call} {method} {hash:x} {} {server} ", hex(*note))?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Entry::Told(Told { call, time, at, nonce, note, answer }) => {
                write!(f, "told {call} {time} {at} {} {} {answer}", text(nonce), hex(*note))
            }
        }
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> std::result::Result<Self, String> {
        let mut words = Words::of(line);
        match words.next()? {
            "start" => Ok(Entry::Start(Start {
                call: words.next()?.to_owned(),
                time: words.number()?,
                method: words.next()?.to_owned(),
                hash: words.hex()?,
                note: words.optional_hex()?,
                key: words.optional()?,
                at: words.number()?,
                deadline: words.number()?,
            })),
            "save" => Ok(Entry::Save(Saved {
                call: words.next()?.to_owned(),
                method: words.next()?.to_owned(),
                hash: words.hex()?,
                note: words.optional_hex()?,
                server: words.number()?,
                bytes: words.bytes()?,
            })),
            "told" => Ok(Entry::Told(Told {
                call: words.next()?.to_owned(),
                time: words.number()?,
                at: words.number()?,
                nonce: words.optional()?,
                note: words.optional_hex()?,
                answer: Answer::parse(&mut words)?,
            })),
            word => Err(format!("no entry: {word}")),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ok(token) => write!(f, "ok {token:x}"),
            Answer::Declined(token) => write!(f, "declined {token:x}"),
            Answer::Failed => write!(f, "failed"),
            Answer::No(why) => write!(f, "no {why}"),
            Answer::Unknown(why) => write!(f, "unknown {why}"),
            Answer::Yes(why) => write!(f, "yes {why}"),
        }
    }
}

impl Answer {
    fn parse(words: &mut Words<'_>) -> std::result::Result<Self, String> {
        match words.next()? {
            "ok" => Ok(Answer::Ok(words.hex()?)),
            "declined" => Ok(Answer::Declined(words.hex()?)),
            "failed" => Ok(Answer::Failed),
            "no" => Ok(Answer::No(words.next()?.to_owned())),
            "unknown" => Ok(Answer::Unknown(words.next()?.to_owned())),
            "yes" => Ok(Answer::Yes(words.next()?.to_owned())),
            word => Err(format!("no answer: {word}")),
        }
    }
}

struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        Words(line.split(' '))
    }

    fn next(&mut self) -> std::result::Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a word is missing".to_owned())
    }

    fn number<T: FromStr>(&mut self) -> std::result::Result<T, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("not a number: {word}"))
    }

    fn hex(&mut self) -> std::result::Result<u64, String> {
        let word = self.next()?;
        u64::from_str_radix(word, 16).map_err(|_| format!("not a hexadecimal number: {word}"))
    }

    fn optional(&mut self) -> std::result::Result<Option<String>, String> {
        let word = self.next()?;
        Ok((word != "-").then(|| word.to_owned()))
    }

    fn optional_hex(&mut self) -> std::result::Result<Option<u64>, String> {
        let Some(word) = self.optional()? else { return Ok(None) };
        let number = u64::from_str_radix(&word, 16);
        number.map(Some).map_err(|_| format!("not a hexadecimal number: {word}"))
    }

    fn bytes(&mut self) -> std::result::Result<Vec<u8>, String> {
        let digits = self.next()?.as_bytes();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        digits.chunks(2).map(byte).collect::<Option<_>>().ok_or_else(|| "not bytes".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_as_they_went_in() {
        let call = || "c1.2.3".to_owned();
        let told =
            |answer| Entry::Told(Told { call: call(), time: 4, at: 7, nonce: None, note: Some(3), answer });
        let start = Start {
            call: call(),
            time: 4,
            method: "add".into(),
            hash: u64::MAX,
            note: None,
            key: Some("k-1".into()),
            at: 6,
            deadline: 9,
        };
        let bytes = vec![0, 1, 0xfe];
        let saved = Saved { call: call(), method: "add".into(), hash: 5, note: Some(1), server: 2, bytes };
        for entry in [
            Entry::Start(start),
            Entry::Save(saved),
            told(Answer::Ok(u64::MAX)),
            told(Answer::Declined(1)),
            told(Answer::Failed),
            told(Answer::No("Overloaded".into())),
            told(Answer::Unknown("Deadline".into())),
            told(Answer::Yes("ReplyEvicted".into())),
        ] {
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let effect = Effect { call: "c".into(), nonce: "s-1".into(), hash: 1, begun: 2, token: 3 };
        std::fs::write(&path, format!("{effect}\nc s-1 ")).expect("written");
        assert_eq!(read::<Effect>(&path).expect("readable"), [effect]);
    }

    #[test]
    fn a_line_in_the_middle_that_is_not_understood_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        std::fs::write(&path, "start\ntold c 1 1 - - failed\n").expect("written");
        let error = read::<Entry>(&path).expect_err("not an entry").to_string();
        assert!(error.contains("a word is missing"), "{error}");
    }
}
