//! The command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selfsame_relay::Faults;

use crate::places;
use crate::store::Level;

pub const HELP: &str = "\
Usage: chaos [--store memory|durable|shared|atomic] [--minutes N | --seconds N] [--seed N] [--faults PERCENT] [--bug NAME] [--keep] [--trace]
       chaos --planted-bugs

  --store S         where the servers keep records (durable)
  --minutes N       how long the faults last; healing comes on top (1)
  --seconds N       the same in seconds
  --seed N          what the dice begin with (from the clock)
  --faults PERCENT  messages that the relays drop, from 0 to 24; doubled and delayed ones in proportion (2)
  --keep            keep the run's folder even if it passes
  --trace           have every process write what the library does to its .err file
  --bug NAME        plant a bug in the servers: the run has to fail
  --planted-bugs    plant each bug that only real stores can have, until it is caught; fails if one is not";

pub enum Command {
    Run(Options),
    PlantedBugs { seed: u64 },
    Help,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub level: Level,
    pub time: Duration,
    pub seed: u64,
    pub faults: Faults,
    pub bug: Option<String>,
    pub keep: bool,
    pub trace: bool,
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    // As likely as not to differ each time; the run prints it.
    let seed =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_micros()));
    let mut options = Options {
        level: Level::Durable,
        time: Duration::from_secs(60),
        seed,
        faults: Faults { percent: 2 },
        bug: None,
        keep: false,
        trace: false,
    };
    let mut planted_bugs = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--store" => options.level = value()?.parse()?,
            "--minutes" => options.time = Duration::from_secs(60 * number(&value()?)?),
            "--seconds" => options.time = Duration::from_secs(number(&value()?)?),
            "--seed" => options.seed = number(&value()?)?,
            "--faults" => {
                let percent = number(&value()?)?;
                if percent > 24 {
                    return Err("with more than 24 % of each fault nothing would pass unharmed".into());
                }
                options.faults = Faults { percent };
            }
            "--bug" => {
                let name = value()?;
                places::find_bug(&name).map_err(|error| error.to_string())?;
                options.bug = Some(name);
            }
            "--keep" => options.keep = true,
            "--trace" => options.trace = true,
            "--planted-bugs" => planted_bugs = true,
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("unknown option {argument}")),
        }
    }
    if planted_bugs {
        return Ok(Command::PlantedBugs { seed: options.seed });
    }
    Ok(Command::Run(options))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, String> {
        parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_run_is_what_was_asked_for() {
        let Ok(Command::Run(options)) = parse_words("--store atomic --minutes 10 --seed 7 --faults 3") else {
            panic!("a run was asked for")
        };
        assert_eq!(options.level, Level::Atomic);
        assert_eq!(options.time, Duration::from_secs(600));
        assert_eq!((options.seed, options.faults.percent), (7, 3));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for words in ["--store paper", "--minutes", "--seed x", "--faults 25", "--bug NoSuchBug", "--what"] {
            assert!(parse_words(words).is_err(), "{words}");
        }
    }
}
