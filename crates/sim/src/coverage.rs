//! What a run has reached: states, answers, errors, faults. A kind that is hardly ever reached is not tested, whatever the verdict says.

use std::collections::BTreeMap;

use selfsame::protocol::call::{Conclusion, Ended, Why};
use selfsame::protocol::dedup::Terminal;
use selfsame::protocol::store::{Done, Op, StoreEvent};
use selfsame::protocol::wire::{Answer, Reply};

use crate::event::Kind;

/// Counts by what was reached, in which part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub(crate) BTreeMap<(&'static str, String), u64>);

/// The first word of a value's debug form: the name of its variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// What has to be reached: a line `part | what`, and for what cannot be, `part | what | why not`.
const WANTED: &str = include_str!("coverage.txt");
/// How often in so many runs.
const OFTEN: u64 = 10;
const RUNS: u64 = 500;

/// What was reached, as a table; and what should have been reached more often.
pub fn table(seen: &Seen, runs: u64) -> (String, Vec<String>) {
    let wanted: Vec<Vec<&str>> = WANTED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(" | ").collect())
        .collect();
    let enough = (OFTEN * runs / RUNS).max(1);
    let mut table = String::new();
    let mut missing = Vec::new();
    for ((part, what), count) in &seen.0 {
        table += &format!("{count:>10}  {part:<22} {what}\n");
    }
    for line in wanted {
        let (Some(part), Some(what), why) = (line.first(), line.get(1), line.get(2)) else { continue };
        let count = seen.0.iter().find(|((p, w), _)| p == part && w == what).map_or(0, |(_, count)| *count);
        match why {
            Some(why) => table += &format!("{:>10}  {part:<22} {what}: {why}\n", "(none)"),
            None if count < enough => missing.push(format!("{part} | {what}: {count} times, not {enough}")),
            None => {}
        }
    }
    (table, missing)
}

impl Seen {
    /// This was reached once more.
    pub fn visit(&mut self, part: &'static str, what: impl Into<String>) {
        *self.0.entry((part, what.into())).or_default() += 1;
    }

    /// Adds what the machines have counted.
    pub fn add_visits(&mut self, visits: selfsame::sabotage::Visits) {
        self.add(Seen(visits));
    }

    /// Adds another run's.
    pub fn add(&mut self, other: Seen) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        let what = match &reply.answer {
            Answer::Refused(refused) => {
                format!(
                    "{:?}, {}",
                    refused.refusal,
                    if refused.ambiguous { "ambiguous" } else { "not executed" }
                )
            }
            answer => format!("{}, {}", variant(answer), if reply.replayed { "replayed" } else { "first" }),
        };
        self.visit("server: reply", what);
    }

    pub(crate) fn conclusion(&mut self, ended: &Ended) {
        let what = match &ended.conclusion {
            Conclusion::Ok(_) => "Ok".to_string(),
            Conclusion::Failed(failure) => match &failure.why {
                Why::Refused(refusal) => format!("{refusal:?}, {:?}", failure.outcome),
                why => format!("{}, {:?}", variant(why), failure.outcome),
            },
        };
        self.visit("client: conclusion", what);
    }

    pub(crate) fn terminal(&mut self, terminal: &Terminal) {
        self.visit("server: terminal", variant(terminal));
    }

    pub(crate) fn asked(&mut self, op: &Op) {
        self.visit("replica: asks", variant(op));
    }

    pub(crate) fn store_done(&mut self, op: &Op, done: &Done) {
        let done = match done {
            Done::Found(found) => format!("Found {}", variant(&found.state)),
            done => variant(done),
        };
        self.visit("store: answers", format!("{}: {done}", variant(op)));
    }

    pub(crate) fn store_event(&mut self, event: &StoreEvent) {
        self.visit("store: event", variant(event));
    }

    pub(crate) fn fault(&mut self, kind: Kind) {
        self.visit("fault", format!("{kind:?}"));
    }
}
