//! The command line.

use std::time::Duration;

use crate::corpus;

pub const HELP: &str = "\
Usage: attack [--spawn plain|tls] [--only NAME]... [--seconds N] [--scale X] [--floor MS] [--busy] [--keep]
       attack --list

  --spawn HOW    the victim's endpoints: plain TCP, or TLS with certificates of both sides; then attackers have one too, and more attacks
                 are made (plain)
  --only NAME    this attack alone; may be said again
  --seconds N    how long an attack goes on that does not end by itself, and at most the quiet before it (2)
  --scale X      sizes and numbers of the attacks, as a multiple (1)
  --floor MS     see below (5)
  --busy         other programs run beside it: attackers take their share of the processors, or they would never get to attack, and latencies tell of
                 nothing but a standstill (a floor of 500)
  --keep         keep the folder with what victim and client have written to standard error
  --list         say what there is

An attack got through if
- the victim's process died, or does not answer;
- a call of the good client failed, or no event of the victim reached it for two seconds;
- the p99 of its calls or of its events' way was more than twice that of the quiet run right before, and more than the floor above it: both share the
  processors with the attackers, so less is noise. What fails by its p99 alone is tried again up to three times in all, since an attack that does
  harm does it each time;
- the victim's memory at its peak was more than the attack's cap above what it was before;
- a counter that should tell of it did not rise, or connections were left behind;
- the attacker saw what it must not see.";

pub enum Command {
    Run(Options),
    List,
    Help,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub secure: bool,
    pub only: Vec<String>,
    pub time: Duration,
    pub scale: f64,
    pub floor: Duration,
    pub busy: bool,
    pub keep: bool,
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut options = Options {
        secure: false,
        only: Vec::new(),
        time: Duration::from_secs(2),
        scale: 1.0,
        floor: Duration::from_millis(5),
        busy: false,
        keep: false,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--spawn" => match value()?.as_str() {
                "plain" => options.secure = false,
                "tls" => options.secure = true,
                other => return Err(format!("{other} is no kind of endpoint")),
            },
            "--only" => options.only.push(value()?),
            "--seconds" => {
                let seconds = number(&value()?)?;
                options.time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            }
            "--scale" => options.scale = number(&value()?)?,
            "--floor" => options.floor = Duration::from_millis(number(&value()?)?),
            "--busy" => (options.busy, options.floor) = (true, Duration::from_millis(500)),
            "--keep" => options.keep = true,
            "--list" => return Ok(Command::List),
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("unknown option {argument}")),
        }
    }
    if !(options.scale > 0.0 && options.scale <= 100.0) {
        return Err("the scale must be above 0, and at most 100".into());
    }
    options.only.iter().try_for_each(|name| known(name, options.secure))?;
    Ok(Command::Run(options))
}

fn known(name: &str, secure: bool) -> Result<(), String> {
    let known = corpus::all(secure).iter().any(|attack| attack.name == name);
    if known { Ok(()) } else { Err(format!("there is no attack {name}; --list says which there are")) }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
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
        let Ok(Command::Run(options)) = parse_words("--only no-tls --spawn tls --seconds 7 --scale 0.5")
        else {
            panic!("a run was asked for")
        };
        assert_eq!((options.time, options.scale), (Duration::from_secs(7), 0.5));
        assert_eq!((options.secure, options.only), (true, vec!["no-tls".to_owned()]));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for words in [
            "--spawn smoke",
            "--seconds",
            "--scale 0",
            "--scale x",
            "--only nothing",
            "--only no-tls",
            "--what",
        ] {
            assert!(parse_words(words).is_err(), "{words}");
        }
    }
}
