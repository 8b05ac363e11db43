//! The command line: a storm for people, and the two roles that a storm starts itself in.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use selfsame_relay::Faults;

use crate::report::thousands;

pub const HELP: &str = "\
Usage: retry_storm [--calls N] [--seed N] [--faults none|some|many|PERCENT] [--without-dedup]

  --calls N         how many calls to make (10000)
  --seed N          the seed of the relay's dice (from the clock)
  --faults F        how bad the relay is: none, some (the same as 5), many (15), or a percentage from 0 to 24 (some)
  --without-dedup   call the twin that is annotated idempotent although it is not; must show duplicates and fail";

pub enum Command {
    Storm(Storm),
    Server { log: PathBuf },
    Client(Calls),
    Help,
}

pub struct Storm {
    pub calls: u64,
    pub seed: u64,
    pub faults: Faults,
    pub dedup: bool,
}

/// What the client is to do.
pub struct Calls {
    pub endpoint: String,
    pub calls: u64,
    pub dedup: bool,
    pub told: PathBuf,
}

impl Storm {
    /// For the client's process; [`parse`] reads them there.
    pub fn client_arguments(&self, endpoint: &str, told: &Path) -> [OsString; 4] {
        [endpoint.into(), self.calls.to_string().into(), self.dedup.to_string().into(), told.into()]
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.dedup { "calls" } else { "calls WITHOUT deduplication" };
        write!(f, "{} {what}; seed {}; the relay: {}", thousands(self.calls), self.seed, self.faults)
    }
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    // As likely as not to differ each time; the storm prints it, so that it can be had again.
    let seed =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_micros()));
    let mut storm = Storm { calls: 10_000, seed, faults: Faults { percent: 5 }, dedup: true };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--calls" => storm.calls = number(&value()?)?,
            "--seed" => storm.seed = number(&value()?)?,
            "--faults" => storm.faults = faults(&value()?)?,
            "--without-dedup" => storm.dedup = false,
            "--help" | "-h" => return Ok(Command::Help),
            "server" => return Ok(Command::Server { log: value()?.into() }),
            "client" => {
                let (endpoint, calls, dedup) = (value()?, number(&value()?)?, value()? == "true");
                return Ok(Command::Client(Calls { endpoint, calls, dedup, told: value()?.into() }));
            }
            _ => return Err(format!("unknown option {argument}")),
        }
    }
    Ok(Command::Storm(storm))
}

fn number(text: &str) -> Result<u64, String> {
    text.replace([',', '_'], "").parse().map_err(|_| format!("{text} is not a number"))
}

fn faults(text: &str) -> Result<Faults, String> {
    match text.trim_end_matches('%') {
        "none" => Ok(Faults { percent: 0 }),
        "some" => Ok(Faults { percent: 5 }),
        "many" => Ok(Faults { percent: 15 }),
        percent => match number(percent)? {
            percent @ 0..=24 => Ok(Faults { percent }),
            _ => Err("with more than 24 % of each fault nothing would pass unharmed".into()),
        },
    }
}
