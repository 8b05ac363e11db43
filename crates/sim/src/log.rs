//! What happened: facts to the checker, and lines for people, if they want them.

use std::fmt::Write;

use selfsame::protocol::Moment;
use selfsame_check::{Checker, Expect, Fact, Report, Time};

/// What is to become of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// Nobody reads it.
    Off,
    /// Printed as it happens.
    Print,
    /// Kept, to be compared.
    Keep,
}

/// See the [module](self).
pub struct Log {
    checker: Checker,
    tracing: Tracing,
    kept: String,
}

/// Microseconds of the simulated clock.
pub fn micros(moment: Moment) -> Time {
    u64::try_from(moment.as_micros()).unwrap_or(u64::MAX)
}

impl Log {
    /// Nothing has happened yet.
    pub fn new(expect: Expect, tracing: Tracing) -> Self {
        Log { checker: Checker::new(expect), tracing, kept: String::new() }
    }

    /// Something that the checker is to know.
    pub fn fact(&mut self, now: Moment, fact: Fact) {
        if self.tracing != Tracing::Off {
            self.line(now, &fact.to_string());
        }
        self.checker.take(micros(now), fact);
    }

    /// Something that a reader of the trace may want to know.
    pub fn say(&mut self, now: Moment, what: impl FnOnce() -> String) {
        if self.tracing != Tracing::Off {
            self.line(now, &what());
        }
    }

    fn line(&mut self, now: Moment, what: &str) {
        let at = now.as_secs_f64();
        match self.tracing {
            Tracing::Off => {}
            Tracing::Print => println!("{at:>11.6} {what}"),
            Tracing::Keep => {
                // Writing to a string does not fail.
                let _ = writeln!(self.kept, "{at:>11.6} {what}");
            }
        }
    }

    /// The verdict, and the trace if it was kept.
    pub fn finish(self) -> (Report, String) {
        (self.checker.finish(), self.kept)
    }
}
