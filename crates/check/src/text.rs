//! Facts as text, one a line, for the logs of processes that may be killed while they write: `<microseconds> <kind> <name>=<value> …`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::fact::{Class, Fact, Nonce, Replied, Time, Told};

/// A line that is not a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for BadLine {}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// Its facts, in order.
    pub facts: Vec<(Time, Fact)>,
    /// Its last line was not finished: the process was killed while it wrote.
    pub torn: bool,
}

/// Reads a whole log. A last line without its end is left out, whatever it holds.
///
/// # Errors
/// A finished line that is not a fact.
pub fn read(log: &str) -> Result<Lines, BadLine> {
    let mut lines = Lines::default();
    for (at, line) in log.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else {
            lines.torn = true;
            break;
        };
        let fact = parse(line).map_err(|why| BadLine { line: at + 1, why })?;
        lines.facts.push(fact);
    }
    Ok(lines)
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<(Time, Fact), String> {
    let mut words = line.split_ascii_whitespace();
    let at = words.next().ok_or("an empty line")?;
    let at: Time = at.parse().map_err(|_| format!("{at:?} is not a time in microseconds"))?;
    let kind = words.next().ok_or("a time, and no fact")?;
    let mut fields = Fields(BTreeMap::new());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not name=value"))?;
        fields.0.insert(name, value);
    }
    let fact = match kind {
        "call" => Fact::Call {
            call: fields.number("call")?,
            purpose: fields.number("purpose")?,
            class: fields.word("class")?.parse()?,
            key: fields.optional("key")?,
            body: fields.hash("body")?,
            tally: fields.optional("tally")?,
            deadline: fields.number("deadline")?,
        },
        "told" => Fact::Told {
            call: fields.number("call")?,
            nonce: fields.optional("nonce")?,
            told: fields.word("told")?.parse()?,
        },
        "left" => Fact::Left { call: fields.number("call")? },
        "start" => Fact::Start {
            nonce: fields.word("nonce")?.parse()?,
            replica: fields.number("replica")?,
            incarnation: fields.number("incarnation")?,
        },
        "effect" => Fact::Effect {
            nonce: fields.word("nonce")?.parse()?,
            purpose: fields.optional("purpose")?,
            tally: fields.optional("tally")?,
            body: fields.hash("body")?,
            replica: fields.number("replica")?,
            incarnation: fields.number("incarnation")?,
        },
        "reply" => Fact::Reply {
            nonce: fields.word("nonce")?.parse()?,
            attempt: fields.number("attempt")?,
            replica: fields.number("replica")?,
            incarnation: fields.number("incarnation")?,
            replied: fields.word("replied")?.parse()?,
        },
        "healed" => Fact::Healed,
        "measure" => Fact::Measure {
            what: fields.word("what")?.into(),
            value: fields.number("value")?,
            at_most: fields.number("at_most")?,
        },
        other => return Err(format!("no kind of fact is called {other:?}")),
    };
    Ok((at, fact))
}

struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn word(&self, name: &str) -> Result<&'a str, String> {
        self.0.get(name).copied().ok_or_else(|| format!("{name}= is missing"))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let word = self.word(name)?;
        word.parse().map_err(|_| format!("{name}={word:?} is not a number that fits"))
    }

    fn hash(&self, name: &str) -> Result<u64, String> {
        hash(self.word(name)?)
    }

    /// `-` is none.
    fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let word = self.word(name)?;
        if word == "-" {
            return Ok(None);
        }
        word.parse().map(Some).map_err(|_| format!("{name}={word:?} is not what it should be"))
    }
}

fn hash(word: &str) -> Result<u64, String> {
    u64::from_str_radix(word, 16).map_err(|_| format!("{word:?} is not a hash in hexadecimal"))
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nonce::Sequenced { registration, number } => write!(f, "s-{registration:032x}-{number}"),
            Nonce::Keyed { principal, key } => write!(f, "k-{principal}-{key:032x}"),
        }
    }
}

impl FromStr for Nonce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a nonce: s-<registration>-<number> or k-<principal>-<key>");
        let mut parts = text.split('-');
        let (Some(kind), Some(first), Some(second), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let hex = |word: &str| u128::from_str_radix(word, 16).map_err(|_| wrong());
        let number = |word: &str| word.parse::<u64>().map_err(|_| wrong());
        match kind {
            "s" => Ok(Nonce::Sequenced { registration: hex(first)?, number: number(second)? }),
            "k" => Ok(Nonce::Keyed { principal: number(first)?, key: hex(second)? }),
            _ => Err(wrong()),
        }
    }
}

macro_rules! words {
    ($type:ident, $what:literal: $($variant:ident $word:literal),+) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $word,)+ })
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($type::$variant),)+
                    _ => Err(format!("{text:?} is not {}", $what)),
                }
            }
        }
    };
}

words!(Class, "a class": Once "once", Never "never", Idempotent "idempotent", ReadOnly "readOnly");

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Ok(hash) => write!(f, "ok:{hash:x}"),
            Told::Declined(hash) => write!(f, "declined:{hash:x}"),
            Told::Failed => f.write_str("failed"),
            Told::Yes => f.write_str("yes"),
            Told::No => f.write_str("no"),
            Told::Unknown { lasting: false } => f.write_str("unknown"),
            Told::Unknown { lasting: true } => f.write_str("unknown-for-good"),
        }
    }
}

impl FromStr for Told {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some(("ok", word)) => Told::Ok(hash(word)?),
            Some(("declined", word)) => Told::Declined(hash(word)?),
            None if text == "failed" => Told::Failed,
            None if text == "yes" => Told::Yes,
            None if text == "no" => Told::No,
            None if text == "unknown" => Told::Unknown { lasting: false },
            None if text == "unknown-for-good" => Told::Unknown { lasting: true },
            _ => return Err(format!("{text:?} is nothing that a caller is told")),
        })
    }
}

impl fmt::Display for Replied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replied::Ok(hash) => write!(f, "ok:{hash:x}"),
            Replied::Declined(hash) => write!(f, "declined:{hash:x}"),
            Replied::Failed(hash) => write!(f, "failed:{hash:x}"),
            Replied::RecordedUnknown => f.write_str("recorded-unknown"),
            Replied::Stale => f.write_str("stale"),
            Replied::SessionUnknown => f.write_str("session-unknown"),
            Replied::Expired => f.write_str("expired"),
            Replied::ReplyEvicted => f.write_str("reply-evicted"),
        }
    }
}

impl FromStr for Replied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some(("ok", word)) => Replied::Ok(hash(word)?),
            Some(("declined", word)) => Replied::Declined(hash(word)?),
            Some(("failed", word)) => Replied::Failed(hash(word)?),
            None if text == "recorded-unknown" => Replied::RecordedUnknown,
            None if text == "stale" => Replied::Stale,
            None if text == "session-unknown" => Replied::SessionUnknown,
            None if text == "expired" => Replied::Expired,
            None if text == "reply-evicted" => Replied::ReplyEvicted,
            _ => return Err(format!("{text:?} is nothing that a server answers")),
        })
    }
}

struct Optional<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// The fact as a line without its time and its end: `format!("{at} {fact}\n")` is what [`parse`] reads.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Call { call, purpose, class, key, body, tally, deadline } => {
                let (key, tally) = (Optional(*key), Optional(*tally));
                write!(f, "call call={call} purpose={purpose} class={class} key={key} body={body:x} ")?;
                write!(f, "tally={tally} deadline={deadline}")
            }
            Fact::Told { call, nonce, told } => {
                write!(f, "told call={call} nonce={} told={told}", Optional(*nonce))
            }
            Fact::Left { call } => write!(f, "left call={call}"),
            Fact::Start { nonce, replica, incarnation } => {
                write!(f, "start nonce={nonce} replica={replica} incarnation={incarnation}")
            }
            Fact::Effect { nonce, purpose, tally, body, replica, incarnation } => {
                let (purpose, tally) = (Optional(*purpose), Optional(*tally));
                write!(f, "effect nonce={nonce} purpose={purpose} tally={tally} body={body:x} ")?;
                write!(f, "replica={replica} incarnation={incarnation}")
            }
            Fact::Reply { nonce, attempt, replica, incarnation, replied } => {
                write!(f, "reply nonce={nonce} attempt={attempt} replica={replica} ")?;
                write!(f, "incarnation={incarnation} replied={replied}")
            }
            Fact::Healed => f.write_str("healed"),
            Fact::Measure { what, value, at_most } => {
                write!(f, "measure what={what} value={value} at_most={at_most}")
            }
        }
    }
}
