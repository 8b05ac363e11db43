//! The judgement: what happened against what the client was told.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use selfsame_relay::Counts;

use crate::child;
use crate::ledger::{Answer, Effect, Told};

/// The comparison of the two logs.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub calls: u64,
    pub effects: u64,
    /// Effects beyond the first of a call.
    pub duplicates: u64,
    /// Calls that were told to be done and have no effect; and calls of which nothing was told.
    pub lost: u64,
    /// Replies that name another version than the log does, calls told not to be done that have an effect, effects that nobody asked for.
    pub disagreeing: u64,
    /// Calls of which the client was told that it cannot be known. Not wrong, only sad.
    pub unknown: u64,
    /// Calls that the client was told to be not executed, rightly.
    pub not_executed: u64,
    /// The first few lines about what went wrong.
    pub oddities: Vec<String>,
}

impl Verdict {
    /// Compares the logs of `calls` calls by user-0, user-1, ….
    pub fn new(effects: &[Effect], told: &[Told], calls: u64) -> Verdict {
        let mut verdict = Verdict { calls, effects: effects.len() as u64, ..Verdict::default() };
        let mut by_user: HashMap<&str, Vec<&Effect>> = HashMap::new();
        for effect in effects {
            by_user.entry(&effect.user).or_default().push(effect);
        }
        for told in told {
            verdict.judge(told, &by_user.remove(&*told.user).unwrap_or_default());
        }
        for (user, effects) in by_user {
            verdict.disagreeing += 1;
            verdict.odd(format!("{user} has effects of which no one was told: {}", versions(&effects)));
        }
        let untold = calls.saturating_sub(told.len() as u64);
        if untold > 0 {
            verdict.lost += untold;
            verdict.odd(format!("of {untold} calls nothing was told"));
        }
        verdict
    }

    pub fn passed(&self) -> bool {
        self.duplicates == 0 && self.lost == 0 && self.disagreeing == 0
    }

    fn judge(&mut self, told: &Told, effects: &[&Effect]) {
        let user = &told.user;
        if effects.len() > 1 {
            self.duplicates += effects.len() as u64 - 1;
            self.odd(format!("{user} was changed more than once: {}", versions(effects)));
        }
        match told.answer {
            Answer::Version(_) | Answer::Yes if effects.is_empty() => {
                self.lost += 1;
                self.odd(format!("{user} was told to be changed ({:?}) and was not", told.answer));
            }
            Answer::Version(version) if effects.iter().all(|effect| effect.version != version) => {
                self.disagreeing += 1;
                self.odd(format!(
                    "{user} was told version {version}, and the log says {}",
                    versions(effects)
                ));
            }
            Answer::No if !effects.is_empty() => {
                self.disagreeing += 1;
                self.odd(format!(
                    "{user} was told not to be changed, and was: {} ({})",
                    versions(effects),
                    told.why
                ));
            }
            Answer::No => {
                self.not_executed += 1;
                self.odd(format!("{user}: {}", told.why));
            }
            Answer::Unknown => {
                self.unknown += 1;
                self.odd(format!("{user}: {}", told.why));
            }
            Answer::Version(_) | Answer::Yes => {}
        }
    }

    fn odd(&mut self, line: String) {
        if self.oddities.len() < 5 {
            self.oddities.push(line);
        }
    }
}

fn versions(effects: &[&Effect]) -> String {
    let list: Vec<String> =
        effects.iter().map(|effect| format!("version {} under {}", effect.version, effect.nonce)).collect();
    list.join(", ")
}

/// The verdict and everybody's counters, for people.
pub struct Report {
    pub verdict: Verdict,
    pub client: child::Counts,
    pub server: child::Counts,
    pub relay: Counts,
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counts: &child::Counts, name: &str| counts.get(name).copied().unwrap_or(0);
        let verdict = &self.verdict;
        writeln!(f)?;
        for (name, value) in [
            ("calls", verdict.calls),
            ("attempts", count(&self.client, "attempts")),
            ("replies replayed", count(&self.server, "replayed")),
            ("joins", count(&self.server, "joined")),
            ("reconnects", count(&self.client, "connections").saturating_sub(1)),
            ("effects", verdict.effects),
            ("lost", verdict.lost),
            ("duplicates", verdict.duplicates),
            ("disagreeing", verdict.disagreeing),
            ("not executed", verdict.not_executed),
            ("unknown", verdict.unknown),
        ] {
            writeln!(f, "  {name:<20}{:>10}", thousands(value))?;
        }
        writeln!(f)?;
        for line in &verdict.oddities {
            writeln!(f, "  {line}")?;
        }
        let judgement = if verdict.passed() {
            "PASSED: every call had one effect at most, and every reply agrees with the log."
        } else {
            "FAILED: what happened and what the client was told do not agree."
        };
        writeln!(f, "{judgement}\nIn {:.1} s the relay saw {}.", self.took.as_secs_f64(), self.relay)
    }
}

/// 10000 as 10,000.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
