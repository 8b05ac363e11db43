//! What came of it: a table for people, a file for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Result;
use crate::broadcasts::{self, Heard};
use crate::connections::Connection;
use crate::goals::Goal;
use crate::peer::Peer;
use crate::process::Placement;
use crate::role::Sample;
use crate::rounds::{self, Cell, Failure};

/// A peer, and why it is not there if it is not.
#[derive(Clone, Debug, Serialize)]
pub struct Taking {
    pub name: String,
    pub about: String,
    pub missing: Option<String>,
}

impl Taking {
    /// What a peer says of itself.
    pub fn of(peer: &dyn Peer) -> Taking {
        Taking { name: peer.name().into(), about: peer.about().into(), missing: peer.missing() }
    }
}

/// The machine, as far as it explains figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub model: String,
    pub kernel: String,
    /// Processes that wanted a core in the minute before. More than a few tenths: the figures are not to be trusted.
    pub load_before: f64,
    pub placement: Placement,
}

impl Machine {
    /// This one, now.
    pub fn here(placement: &Placement) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let models = read("/proc/cpuinfo");
        let model = models.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.map_or_else(String::new, |(_, model)| model.trim().to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            placement: placement.clone(),
        }
    }
}

/// All of a run.
pub struct Report {
    pub command: String,
    pub machine: Machine,
    pub peers: Vec<Taking>,
    pub calls: rounds::Measured,
    pub events: broadcasts::Measured,
    pub connections: Vec<Connection>,
    pub goals: Vec<Goal>,
}

/// A cell in words.
pub fn name_of(cell: Cell) -> String {
    let Cell { workers, size, in_flight, pace } = cell;
    let runtime = if workers == 1 { "current-thread" } else { "two workers" };
    let pace = pace.map(|pace| format!(", {pace} calls/s")).unwrap_or_default();
    format!("{}, {in_flight} in flight, {runtime}{pace}", bytes(size))
}

fn bytes(size: usize) -> String {
    match size {
        1_048_576.. => format!("{} MiB", size >> 20),
        1024.. => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// A cell of one peer, as it is written down. Ratios are medians over rounds of the ratio within a round.
#[derive(Serialize)]
struct CallFigures<'a> {
    peer: &'a str,
    #[serde(flatten)]
    cell: Cell,
    calls_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    client_cpu_us: f64,
    server_cpu_us: f64,
    client_peak_kib: f64,
    server_peak_kib: f64,
    /// Of calls a second, by peer; that of the floor is `raw`.
    rate_ratio_to: BTreeMap<&'a str, f64>,
    p50_ratio_to: BTreeMap<&'a str, f64>,
    samples: &'a [Sample],
}

#[derive(Serialize)]
struct EventFigures<'a> {
    peer: &'a str,
    subscribers: usize,
    size: usize,
    events_per_second: f64,
    lost: u64,
    publisher_cpu_us: f64,
    subscriber_cpu_us: f64,
    rate_ratio_to: BTreeMap<&'a str, f64>,
    samples: &'a [Heard],
}

#[derive(Serialize)]
struct Written<'a> {
    command: &'a str,
    machine: &'a Machine,
    rounds: usize,
    peers: &'a [Taking],
    goals: &'a [Goal],
    calls: Vec<CallFigures<'a>>,
    events: Vec<EventFigures<'a>>,
    connections: &'a [Connection],
    failures: Vec<&'a Failure>,
}

impl Report {
    fn call_figures(&self) -> Vec<CallFigures<'_>> {
        let mut figures = Vec::new();
        for (cell, peers) in &self.calls.samples {
            for (peer, samples) in peers {
                let median = |of: fn(&Sample) -> f64| self.calls.median(*cell, peer, of).unwrap_or(f64::NAN);
                let ratios = |of: fn(&Sample) -> f64| {
                    let ratio = |to: &&String| self.calls.ratio(*cell, peer, to, of);
                    peers.keys().filter_map(|to| Some((to.as_str(), ratio(&to)?))).collect()
                };
                figures.push(CallFigures {
                    peer,
                    cell: *cell,
                    calls_per_second: median(Sample::rate),
                    p50_us: median(|sample| sample.p50),
                    p99_us: median(|sample| sample.p99),
                    p999_us: median(|sample| sample.p999),
                    client_cpu_us: median(|sample| sample.client_cpu),
                    server_cpu_us: median(|sample| sample.server_cpu),
                    client_peak_kib: median(|sample| sample.client_peak as f64),
                    server_peak_kib: median(|sample| sample.server_peak as f64),
                    rate_ratio_to: ratios(Sample::rate),
                    p50_ratio_to: ratios(|sample| sample.p50),
                    samples,
                });
            }
        }
        figures
    }

    fn event_figures(&self) -> Vec<EventFigures<'_>> {
        let mut figures = Vec::new();
        for (&subscribers, peers) in &self.events.heard {
            for (peer, samples) in peers {
                let median =
                    |of: fn(&Heard) -> f64| self.events.median(subscribers, peer, of).unwrap_or(f64::NAN);
                let ratio = |to: &&String| self.events.ratio(subscribers, peer, to);
                figures.push(EventFigures {
                    peer,
                    subscribers,
                    size: broadcasts::SIZE,
                    events_per_second: median(|heard| heard.rate),
                    lost: samples.iter().map(|heard| heard.lost).sum(),
                    publisher_cpu_us: median(|heard| heard.publisher_cpu),
                    subscriber_cpu_us: median(|heard| heard.subscriber_cpu),
                    rate_ratio_to: peers.keys().filter_map(|to| Some((to.as_str(), ratio(&to)?))).collect(),
                    samples,
                });
            }
        }
        figures
    }

    /// The tables.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("writing to a string succeeds");
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(
            text,
            "{} cores, {}, Linux {}; load before: {}",
            machine.cores, machine.model, machine.kernel, machine.load_before
        )?;
        writeln!(
            text,
            "medians of {} rounds, or as many as there was time for; times and CPU in µs, memory at its peak in MiB; × raw, × libzmq: ratios within a round",
            rounds::ROUNDS
        )?;
        for (cell, peers) in &self.calls.samples {
            writeln!(text, "\n{}", name_of(*cell))?;
            writeln!(
                text,
                "  {:<22}{:>11}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>10}{:>9}",
                "",
                "calls/s",
                "× raw",
                "× libzmq",
                "p50",
                "× raw",
                "p99",
                "p99.9",
                "client",
                "server",
                "mem cl.",
                "mem srv."
            )?;
            for taking in self.peers.iter().filter(|taking| peers.contains_key(&taking.name)) {
                let peer = taking.name.as_str();
                let median = |of: fn(&Sample) -> f64| self.calls.median(*cell, peer, of).unwrap_or(f64::NAN);
                let ratio = |to: &str, of: fn(&Sample) -> f64| {
                    self.calls
                        .ratio(*cell, peer, to, of)
                        .map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
                };
                writeln!(
                    text,
                    "  {:<22}{:>11.0}{:>9}{:>9}{:>9.1}{:>9}{:>9.1}{:>8.0}{:>8.2}{:>9.2}{:>10.1}{:>9.1}",
                    peer,
                    median(Sample::rate),
                    ratio("raw", Sample::rate),
                    ratio("libzmq", Sample::rate),
                    median(|sample| sample.p50),
                    ratio("raw", |sample| sample.p50),
                    median(|sample| sample.p99),
                    median(|sample| sample.p999),
                    median(|sample| sample.client_cpu),
                    median(|sample| sample.server_cpu),
                    median(|sample| sample.client_peak as f64 / 1024.0),
                    median(|sample| sample.server_peak as f64 / 1024.0),
                )?;
            }
        }
        self.write_events(text)?;
        self.write_rest(text)
    }

    fn write_events(&self, text: &mut String) -> std::fmt::Result {
        for (subscribers, peers) in &self.events.heard {
            writeln!(text, "\nevents of {}, {subscribers} subscribers", bytes(broadcasts::SIZE))?;
            writeln!(
                text,
                "  {:<22}{:>11}{:>9}{:>9}{:>11}{:>11}",
                "", "each/s", "× libzmq", "lost", "CPU pub.", "CPU sub."
            )?;
            for peer in peers.keys() {
                let median =
                    |of: fn(&Heard) -> f64| self.events.median(*subscribers, peer, of).unwrap_or(f64::NAN);
                let ratio = self.events.ratio(*subscribers, peer, "libzmq");
                writeln!(
                    text,
                    "  {peer:<22}{:>11.0}{:>9}{:>9}{:>11.2}{:>11.2}",
                    median(|heard| heard.rate),
                    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
                    peers[peer].iter().map(|heard| heard.lost).sum::<u64>(),
                    median(|heard| heard.publisher_cpu),
                    median(|heard| heard.subscriber_cpu),
                )?;
            }
        }
        Ok(())
    }

    fn write_rest(&self, text: &mut String) -> std::fmt::Result {
        if !self.connections.is_empty() {
            writeln!(
                text,
                "\nKiB a connection                idle: client   server      after a burst: client   server"
            )?;
        }
        for connection in &self.connections {
            writeln!(
                text,
                "  {:<22}{:>22.1}{:>9.1}{:>24.1}{:>9.1}",
                connection.peer,
                connection.idle_client,
                connection.idle_server,
                connection.burst_client,
                connection.burst_server
            )?;
        }
        writeln!(text, "\ngoals")?;
        for goal in &self.goals {
            writeln!(text, "  {goal}")?;
        }
        for taking in &self.peers {
            if let Some(why) = &taking.missing {
                writeln!(text, "missing: {}: {why}", taking.name)?;
            }
        }
        for failure in self.calls.failures.iter().chain(&self.events.failures) {
            writeln!(text, "failed: {}, {}: {}", failure.peer, failure.at, failure.why)?;
        }
        Ok(())
    }

    /// Writes `report.json` and `report.svg` into the folder.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let written = Written {
            command: &self.command,
            machine: &self.machine,
            rounds: rounds::ROUNDS,
            peers: &self.peers,
            goals: &self.goals,
            calls: self.call_figures(),
            events: self.event_figures(),
            connections: &self.connections,
            failures: self.calls.failures.iter().chain(&self.events.failures).collect(),
        };
        let path = folder.join("report.json");
        std::fs::write(&path, serde_json::to_string_pretty(&written)?)?;
        std::fs::write(folder.join("report.svg"), crate::plot::plot(&self.peers, &self.calls, &self.events))?;
        Ok(path)
    }
}
