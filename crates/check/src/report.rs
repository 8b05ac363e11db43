//! The verdict: what was broken, and how often each rule was checked.

use std::collections::BTreeMap;
use std::fmt;

use crate::rule::Rule;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Whose, and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken promises, by rule; of each rule the first hundred.
    pub violations: Vec<Violation>,
    checks: BTreeMap<Rule, u64>,
    broken: BTreeMap<Rule, u64>,
}

/// More of one kind teach nothing.
const SHOWN: u64 = 100;

impl Report {
    pub(crate) fn check(&mut self, rule: Rule, holds: bool, what: impl FnOnce() -> String) {
        *self.checks.entry(rule).or_default() += 1;
        if holds {
            return;
        }
        let broken = self.broken.entry(rule).or_default();
        *broken += 1;
        if *broken <= SHOWN {
            self.violations.push(Violation { rule, what: what() });
        }
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// How often a rule was checked.
    pub fn checks(&self, rule: Rule) -> u64 {
        self.checks.get(&rule).copied().unwrap_or_default()
    }

    /// How often it was broken.
    pub fn broken(&self, rule: Rule) -> u64 {
        self.broken.get(&rule).copied().unwrap_or_default()
    }

    /// Adds the counts of another run, and its violations.
    pub fn add(&mut self, other: Report) {
        for (rule, checks) in other.checks {
            *self.checks.entry(rule).or_default() += checks;
        }
        for (rule, broken) in other.broken {
            *self.broken.entry(rule).or_default() += broken;
        }
        let room = (SHOWN as usize * Rule::ALL.len()).saturating_sub(self.violations.len());
        self.violations.extend(other.violations.into_iter().take(room));
    }
}

/// A table of rules, checks and violations.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:>12} {:>8}", "rule", "checks", "broken")?;
        for &rule in Rule::ALL {
            writeln!(f, "{:<22} {:>12} {:>8}", rule.name(), self.checks(rule), self.broken(rule))?;
        }
        Ok(())
    }
}
