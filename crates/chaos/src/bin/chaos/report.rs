//! The printed table of a run.

use std::fmt;

use crate::verdict::Report;

/// Of each rule that was broken: more teach nothing.
const SHOWN: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { checked, counts, unknowns, ran } = self;
        let totals = &ran.totals;
        let get = |name: &str| counts.get(name).copied().unwrap_or_default();
        let servers = |name: &str| totals.servers.get(name).copied().unwrap_or_default();
        let list = |counts: &std::collections::BTreeMap<String, u64>| {
            let list: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            list.join(", ")
        };
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<22}{value}");
        row("calls", format!("{} (asked for {} times)", get("calls"), get("asked")))?;
        row("attempts", format!("{} for {} calls on channels", get("attempts"), get("client calls")))?;
        row("effects", get("effects").to_string())?;
        for name in ["Ok", "declined", "failed", "No", "Yes", "Unknown"] {
            row(name, get(name).to_string())?;
        }
        row("  of them", list(unknowns))?;
        row("dropped, never told", format!("{}, {}", get("dropped"), get("never told")))?;
        row("unknown after healing", ran.unknown.to_string())?;
        row("server kills", list(&totals.server_kills))?;
        row("client kills", totals.client_kills.to_string())?;
        row("stops, cuts", format!("{}, {}", totals.stops, totals.cuts))?;
        row("restarts", format!("{}; not started {}", totals.restarts, totals.not_started))?;
        row(
            "stores that stopped",
            format!("full disk {}, other {}", totals.full_disks, totals.stopped_stores),
        )?;
        row("rivals refused", totals.rivals_refused.to_string())?;
        row("database", list(&totals.database))?;
        row("replays, joins", format!("{}, {}", servers("replays"), servers("joins")))?;
        for (role, bytes) in &totals.resident {
            row(&format!("memory of a {role}"), format!("{} MiB at most", bytes >> 20))?;
        }
        row("relays", ran.relays.to_string())?;
        let (took, healing) = (ran.took.as_secs_f64(), ran.healing.as_secs_f64());
        row("took", format!("{took:.1} s, of them healing {healing:.1} s"))?;
        writeln!(f, "\n{checked}")?;
        for rule in checked.violations.chunk_by(|one, other| one.rule == other.rule) {
            rule.iter().take(SHOWN).try_for_each(|violation| writeln!(f, "  {violation}"))?;
        }
        for violation in &totals.violations {
            writeln!(f, "  {violation}")?;
        }
        if self.passed() { writeln!(f, "PASSED") } else { writeln!(f, "BROKEN: {}", self.first_violation()) }
    }
}
