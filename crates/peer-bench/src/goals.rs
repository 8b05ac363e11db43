//! What is to be reached, and what was: every line of the table of goals, by name.
//!
//! A goal says what it compares; one whose peers did not run has not been measured, and is not met.

use std::fmt;

use serde::Serialize;

use crate::broadcasts;
use crate::connections::Connection;
use crate::role::Sample;
use crate::rounds::{Cell, Measured};

/// Where a figure has to lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(bound) => write!(f, "<= {bound}"),
            Bound::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

/// One goal.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    pub name: String,
    pub goal: String,
    /// None: this run has no figure for it.
    pub measured: Option<f64>,
    pub met: bool,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.measured, self.met) {
            (None, _) => "?      ",
            (_, true) => "met    ",
            (_, false) => "NOT MET",
        };
        let measured = self.measured.map_or_else(|| "not measured".into(), |value| format!("{value:.3}"));
        write!(f, "{verdict} {:<72}{:>12}{:>14}", self.name, self.goal, measured)
    }
}

/// The selfsame that sleeps at once, and the default one, which may spin.
const SLEEPS: &str = "selfsame-spinOff";
const DEFAULT: &str = "selfsame";

const SMALL: Cell = Cell::new(64, 1);
const SIXTY_FOUR: Cell = Cell::new(64, 64);
const MANY: Cell = Cell::new(64, 512);
const LARGE: Cell = Cell::new(16 * 1024, 64);

fn p50(sample: &Sample) -> f64 {
    sample.p50
}

/// What a run has measured.
#[derive(Clone, Copy)]
pub struct Figures<'a> {
    pub calls: &'a Measured,
    pub events: &'a broadcasts::Measured,
    pub connections: &'a [Connection],
    /// MiB of the example server.
    pub size: Option<f64>,
}

/// Gathers goals.
struct Goals<'a> {
    figures: Figures<'a>,
    all: Vec<Goal>,
}

/// All goals, with what this run says to them.
pub fn goals(gate_alone: bool, figures: &Figures<'_>) -> Vec<Goal> {
    let mut goals = Goals { figures: *figures, all: Vec::new() };
    if !gate_alone {
        goals.latency();
        goals.throughput();
        goals.events();
        goals.deduplication();
        goals.flatness();
        goals.pace();
        goals.add("MiB of account_server, a release build, stripped", Bound::AtMost(6.0), figures.size);
    }
    goals.gate();
    goals.connections();
    goals.all
}

impl Goals<'_> {
    fn add(&mut self, name: impl Into<String>, bound: Bound, measured: Option<f64>) {
        let met = measured.is_some_and(|value| bound.holds(value));
        self.all.push(Goal { name: name.into(), goal: bound.to_string(), measured, met });
    }

    fn latency(&mut self) {
        let ratio = |peer, to| self.figures.calls.ratio(SMALL, peer, to, p50);
        let mut found = vec![
            ("64 B, 1 in flight: p50 / raw, no spin".into(), Bound::AtMost(1.4), ratio(SLEEPS, "raw")),
            ("64 B, 1 in flight: p50 / raw, adaptive spin".into(), Bound::AtMost(0.6), ratio(DEFAULT, "raw")),
        ];
        for to in ["libzmq", "capnp-rpc", "tarpc", "tonic", "nats"] {
            for (how, peer) in [("no spin", SLEEPS), ("adaptive spin", DEFAULT)] {
                found.push((
                    format!("64 B, 1 in flight: p50 / {to}, {how}"),
                    Bound::AtMost(1.0),
                    ratio(peer, to),
                ));
            }
        }
        for (name, bound, measured) in found {
            self.add(name, bound, measured);
        }
    }

    fn throughput(&mut self) {
        let ratio = |cell, peer, to| self.figures.calls.ratio(cell, peer, to, Sample::rate);
        let mut found = vec![(
            "64 B, 64 in flight: rate / libzmq, adaptive spin".to_owned(),
            2.0,
            ratio(SIXTY_FOUR, DEFAULT, "libzmq"),
        )];
        for (to, bound) in
            [("libzmq", 1.5), ("tarpc", 3.0), ("capnp-rpc", 6.0), ("tonic", 9.0), ("nats", 4.0)]
        {
            found.push((
                format!("64 B, 64 in flight: rate / {to}, no spin"),
                bound,
                ratio(SIXTY_FOUR, SLEEPS, to),
            ));
        }
        for (what, cell, to, bound) in [
            ("64 B, 512 in flight: rate / libzmq", MANY, "libzmq", 1.5),
            ("16 KiB, 64 in flight: rate / zeromq", LARGE, "zeromq", 0.6),
            ("16 KiB, 64 in flight: rate / libzmq", LARGE, "libzmq", 2.0),
            ("16 KiB, 64 in flight: rate / raw (stretch)", LARGE, "raw", 0.7),
        ] {
            found.push((what.into(), bound, ratio(cell, DEFAULT, to)));
        }
        let rate = |cell| self.figures.calls.median(cell, DEFAULT, Sample::rate);
        found.push(("64 B, 512 in flight: calls a second (stretch)".into(), 1.2e6, rate(MANY)));
        let two = rate(SIXTY_FOUR.two_workers()).zip(rate(SIXTY_FOUR)).map(|(two, one)| two / one);
        found.push(("64 B, 64 in flight: rate of two workers / current-thread".into(), 0.85, two));
        for (name, bound, measured) in found {
            self.add(name, Bound::AtLeast(bound), measured);
        }
    }

    fn events(&mut self) {
        for subscribers in [1, 4] {
            let ratio = self.figures.events.ratio(subscribers, DEFAULT, "libzmq");
            self.add(
                format!("events of 64 B, {subscribers} subscribers: rate / libzmq"),
                Bound::AtLeast(4.0),
                ratio,
            );
        }
        let rounds = self.figures.events.heard.values().filter_map(|peers| peers.get(DEFAULT)).flatten();
        let lost = rounds.map(|heard| heard.lost as f64).reduce(|a, b| a + b);
        self.add("events lost at full speed under the block policy", Bound::AtMost(0.0), lost);
    }

    fn deduplication(&mut self) {
        let without = "selfsame-idempotent";
        let rate = self.figures.calls.ratio(SIXTY_FOUR, DEFAULT, without, Sample::rate);
        self.add("64 B, 64 in flight: rate with a record / without", Bound::AtLeast(0.97), rate);
        let cpu = |sample: &Sample| sample.client_cpu + sample.server_cpu;
        let with = self.figures.calls.median(SIXTY_FOUR, DEFAULT, cpu);
        let more = with
            .zip(self.figures.calls.median(SIXTY_FOUR, without, cpu))
            .map(|(with, without)| (with - without) * 1000.0);
        self.add("64 B, 64 in flight: CPU of a record, ns a call", Bound::AtMost(500.0), more);
    }

    fn flatness(&mut self) {
        for (what, peer) in
            [("10,000 sessions", "selfsame-sessions"), ("1,000,000 keyed records", "selfsame-keyed")]
        {
            let cost = self.figures.calls.ratio(SIXTY_FOUR, DEFAULT, peer, Sample::rate);
            self.add(
                format!("64 B, 64 in flight: time a call with {what} / with one"),
                Bound::AtMost(1.2),
                cost,
            );
        }
    }

    fn pace(&mut self) {
        let server = self.figures.calls.ratio(Cell::paced(), DEFAULT, SLEEPS, |sample| sample.server_cpu);
        let client = self.figures.calls.ratio(Cell::paced(), DEFAULT, SLEEPS, |sample| sample.client_cpu);
        self.add("450 calls/s: server CPU a call, adaptive / no spin", Bound::AtMost(1.1), server);
        self.add("450 calls/s: client CPU a call, adaptive / no spin", Bound::AtMost(1.4), client);
    }

    fn gate(&mut self) {
        let latency = self.figures.calls.ratio(SMALL, "gate-server", "zeromq", p50);
        self.add("one plain gate: p50 / none, 64 B, 1 in flight", Bound::AtMost(1.1), latency);
        for (what, cell) in [("64 B, 64", SIXTY_FOUR), ("64 B, 512", MANY)] {
            let rate = self.figures.calls.ratio(cell, "gate-server", "zeromq", Sample::rate);
            self.add(format!("one plain gate: rate / none, {what} in flight"), Bound::AtLeast(0.9), rate);
        }
        let spinning = self.figures.calls.ratio(SMALL, "gate-both-spin", "raw", p50);
        self.add("gates at both ends, spin: p50 / raw, 64 B, 1 in flight", Bound::AtMost(0.6), spinning);
        for (what, cell) in [("64 B, 64", SIXTY_FOUR), ("64 B, 512", MANY), ("16 KiB, 64", LARGE)] {
            let rate = self.figures.calls.ratio(cell, "gate-both-tls", "gate-both", Sample::rate);
            self.add(
                format!("gates at both ends: rate of TLS / plain, {what} in flight"),
                Bound::AtLeast(0.75),
                rate,
            );
        }
    }

    fn connections(&mut self) {
        for (peer, kind, idle) in [(DEFAULT, "plain", 16.0), ("selfsame-tls", "TLS", 24.0)] {
            let found = self.figures.connections.iter().find(|connection| connection.peer == peer);
            let figures = [
                ("idle, client", idle, found.map(|connection| connection.idle_client)),
                ("idle, server", idle, found.map(|connection| connection.idle_server)),
                ("after a burst, client", 96.0, found.map(|connection| connection.burst_client)),
                ("after a burst, server", 96.0, found.map(|connection| connection.burst_server)),
            ];
            for (what, bound, measured) in figures {
                self.add(format!("KiB a {kind} connection: {what}"), Bound::AtMost(bound), measured);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_met() {
        let (calls, events) = (Measured::default(), broadcasts::Measured::default());
        let all = goals(false, &Figures { calls: &calls, events: &events, connections: &[], size: None });
        assert!(all.len() > 30);
        assert!(all.iter().all(|goal| goal.measured.is_none() && !goal.met));
    }

    #[test]
    fn bounds_hold_at_their_edge() {
        assert!(Bound::AtMost(1.4).holds(1.4) && !Bound::AtMost(1.4).holds(1.41));
        assert!(Bound::AtLeast(0.9).holds(0.9) && !Bound::AtLeast(0.9).holds(0.89));
    }
}
