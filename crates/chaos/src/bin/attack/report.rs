//! What is printed: a line for each attack when it is over, and the table of all.

use std::fmt;

use crate::lap::Lap;

/// What is known of an attack when it is over.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub name: &'static str,
    /// How it got through, if not by slowness alone.
    pub through: Option<String>,
    /// How it slowed the good client down.
    pub slow: Option<String>,
    pub tries: u32,
    /// Of the victim's memory, in MiB: its peak, by how much that was above the beginning, and may be.
    pub peak: u64,
    pub grown: u64,
    pub cap: u64,
    pub quiet: Lap,
    pub during: Lap,
    /// The counters that told, and by how much they rose.
    pub told: String,
}

impl Verdict {
    pub fn got_through(&self) -> bool {
        self.through.is_some() || self.slow.is_some()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.through.as_ref().or(self.slow.as_ref()) {
            None if self.tries > 1 => write!(f, "{:<20} held, at the {}. try", self.name, self.tries),
            None => write!(f, "{:<20} held", self.name),
            Some(how) => write!(f, "{:<20} GOT THROUGH: {how}", self.name),
        }
    }
}

/// All of them, a line each.
pub fn table(verdicts: &[Verdict]) -> String {
    let mut table = format!(
        "{:<20}{:<9}{:>9}{:>7}{:>5}  {:>15}  {:>15}  {}\n",
        "attack", "verdict", "peak MiB", "grown", "cap", "calls p99 ms", "events p99 ms", "what told"
    );
    let pair = |quiet: std::time::Duration, during: std::time::Duration| {
        format!("{:.1} -> {:.1}", quiet.as_secs_f64() * 1e3, during.as_secs_f64() * 1e3)
    };
    for verdict in verdicts {
        let Verdict { name, peak, grown, cap, quiet, during, told, .. } = verdict;
        table += &format!(
            "{name:<20}{:<9}{peak:>9}{grown:>7}{cap:>5}  {:>15}  {:>15}  {told}\n",
            if verdict.got_through() { "THROUGH" } else { "held" },
            pair(quiet.p99, during.p99),
            pair(quiet.event_p99, during.event_p99),
        );
    }
    table
}
