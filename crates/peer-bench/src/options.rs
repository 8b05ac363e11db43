//! What is asked for on the command line.

use std::time::{Duration, Instant};

use crate::Result;

/// How to use it.
pub const HELP: &str = "\
peer-bench: the same echo over selfsame and over what would be used instead, from one run

  cargo run --release -p peer-bench -- [OPTIONS]

  --quick           at most three minutes: fewer sizes, and shorter rounds. Without it at most twenty.
  --only A,B,…      these peers alone (see --list); what a goal compares with has to be among them
  --gate            what the gate costs, alone: the socket layer without and with it, plain and over TLS
  --no-events       without publishing and subscribing
  --list            the peers, and which of them are missing here and why
  --help            this

Client and server need a core each, and the machine to themselves. The table goes to standard output; target/peer-bench/report.json has every
figure, target/peer-bench/report.svg a plot.";

/// The options.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub quick: bool,
    pub only: Option<Vec<String>>,
    pub gate: bool,
    pub no_events: bool,
    pub list: bool,
    pub help: bool,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// If one is not known.
    pub fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => options.quick = true,
                "--gate" => options.gate = true,
                "--no-events" => options.no_events = true,
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                "--only" => {
                    let names = words.next().ok_or("--only wants names of peers; see --list")?;
                    options.only = Some(names.split(',').map(str::to_owned).collect());
                }
                other => return Err(format!("{other:?} is no option; see --help").into()),
            }
        }
        Ok(options)
    }

    /// Whether this peer is asked for.
    pub fn wants(&self, peer: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == peer))
    }

    /// How the time is spent. Each part has so long, seen from the begin of the run; what is not done by then is left out, and said to be.
    pub fn times(&self) -> Times {
        let seconds = match (self.quick, self.gate) {
            (true, true) => [80, 80, 110],
            (true, false) => [120, 150, 172],
            (false, true) => [300, 300, 360],
            (false, false) => [960, 1080, 1180],
        };
        let [calls, events, connections] = seconds.map(Duration::from_secs);
        Times { began: Instant::now(), calls, events, connections }
    }
}

/// See [`Options::times`].
#[derive(Clone, Copy, Debug)]
pub struct Times {
    began: Instant,
    calls: Duration,
    events: Duration,
    connections: Duration,
}

impl Times {
    /// For how long calls should be measured. Starting processes, and what some peers prepare, comes on top.
    pub fn for_calls(&self) -> Duration {
        self.calls * 3 / 4
    }

    /// Whether there is still time for calls; likewise for events and connections.
    pub fn calls(&self) -> Result<()> {
        self.within(self.calls)
    }

    pub fn events(&self) -> Result<()> {
        self.within(self.events)
    }

    pub fn connections(&self) -> Result<()> {
        self.within(self.connections)
    }

    fn within(&self, part: Duration) -> Result<()> {
        if self.began.elapsed() < part {
            return Ok(());
        }
        Err("the time is up: the machine is slower than this was planned for".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_understood_or_refused() {
        let options = parse("--quick --only raw,selfsame").expect("well formed");
        assert!(options.quick && options.wants("raw") && !options.wants("tonic"));
        assert!(parse("").expect("none").wants("tonic"));
        assert!(parse("--only").is_err() && parse("--fast").is_err());
    }
}
