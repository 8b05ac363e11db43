//! The verdict: what the processes wrote down, told to the checker as facts; and the report of a run.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use selfsame_chaos::Result;
use selfsame_chaos::log::{self, Answer, Effect, Entry, Start, Told};
use selfsame_check::{Checker, Class, Expect, Fact, Nonce, Replied, Time};
use selfsame_relay::Counts;

use crate::asked::is_final;
use crate::client::DROPPED;
use crate::effects;
use crate::options::Options;
use crate::places::{self, CLIENTS, SERVERS};
use crate::store::Level;
use crate::tally::Totals;

/// What a run did, besides what the processes wrote down.
pub struct Ran {
    pub took: Duration,
    pub healing: Duration,
    /// When the faults were over.
    pub healed_at: Time,
    /// Calls of which clients could not learn what became of them.
    pub unknown: u64,
    pub relays: Counts,
    pub totals: Totals,
    /// Where effects are besides the logs.
    pub database: Option<String>,
}

/// A client that is stopped is told when it goes on: so much later than its deadline.
const SLACK: Duration = Duration::from_secs(10);
/// What a server may occupy: records of a ten-minute run, and as much again for what is under way.
const SERVER_MEMORY: u64 = 400 << 20;
/// What a client may occupy.
const CLIENT_MEMORY: u64 = 150 << 20;

/// What came of a run.
pub struct Report {
    pub checked: selfsame_check::Report,
    pub counts: BTreeMap<&'static str, u64>,
    pub unknowns: BTreeMap<String, u64>,
    pub ran: Ran,
}

impl Report {
    /// Reads all logs of a run's folder, and judges.
    pub async fn of(options: &Options, folder: &Path, ran: Ran) -> Result<Report> {
        let level = options.level;
        let expect = Expect {
            atomic: level == Level::Atomic,
            slack: SLACK.as_micros() as Time,
            grace: None,
            one_clock: true,
        };
        let mut judge = Judge::new(Checker::new(expect), expect.atomic);
        judge.checker.take(ran.healed_at, Fact::Healed);
        for effect in effects::all(folder, ran.database.as_deref()).await? {
            judge.effect(effect)?;
        }
        for path in places::files(folder, "told-")? {
            judge.client(log::read::<Entry>(&path)?)?;
        }
        judge.measure(&ran);
        judge.count("calls", judge.calls.len() as u64);
        let Judge { checker, mut counts, unknowns, .. } = judge;
        counts.insert("unknown for good", ran.unknown);
        Ok(Report { checked: checker.finish(), counts, unknowns, ran })
    }

    /// Whether nothing was broken.
    pub fn passed(&self) -> bool {
        self.checked.is_clean()
            && self.ran.totals.violations.is_empty()
            && self.ran.unknown == 0
            && self.has_worked()
    }

    /// Nothing is broken where nothing is done.
    fn has_worked(&self) -> bool {
        self.counts.get("Ok").is_some_and(|ok| *ok >= self.ran.took.as_secs())
    }

    /// One of the things that were broken.
    pub fn first_violation(&self) -> String {
        let checked = self.checked.violations.first().map(ToString::to_string);
        let first = checked.or_else(|| self.ran.totals.violations.first().cloned());
        first.unwrap_or_else(|| match self.ran.unknown {
            0 => "next to no call was answered".into(),
            unknown => format!("of {unknown} calls nobody learns what became of them"),
        })
    }
}

/// Turns entries into facts.
struct Judge {
    checker: Checker,
    /// Calls by their names, so that each is counted once.
    calls: HashMap<u64, Class>,
    /// Tokens of effects, by the purpose and by the nonce of their calls.
    tokens: HashMap<u64, Vec<u64>>,
    /// Numbers for the times of asking.
    asked: u64,
    atomic: bool,
    counts: BTreeMap<&'static str, u64>,
    unknowns: BTreeMap<String, u64>,
}

impl Judge {
    fn new(checker: Checker, atomic: bool) -> Self {
        Judge {
            checker,
            calls: HashMap::new(),
            tokens: HashMap::new(),
            asked: 0,
            atomic,
            counts: BTreeMap::new(),
            unknowns: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str, more: u64) {
        *self.counts.entry(what).or_default() += more;
    }

    fn effect(&mut self, effect: Effect) -> Result<()> {
        let purpose = purpose(&effect.call)?;
        let nonce = nonce(&effect.nonce)?;
        self.tokens.entry(purpose).or_default().push(effect.token);
        self.count("effects", 1);
        let (replica, incarnation) = (0, 0);
        self.checker.take(effect.begun, Fact::Start { nonce, replica, incarnation });
        let purpose = Some(purpose);
        let fact = Fact::Effect { nonce, purpose, tally: None, body: effect.hash, replica, incarnation };
        self.checker.take(effect.begun, fact);
        Ok(())
    }

    /// The log of one life.
    fn client(&mut self, entries: Vec<Entry>) -> Result<()> {
        let mut asked: HashMap<u64, (u64, Start)> = HashMap::new();
        for entry in entries {
            match entry {
                Entry::Save(_) => {}
                Entry::Start(start) => {
                    let number = self.start(&start)?;
                    asked.insert(start.time, (number, start));
                }
                Entry::Told(told) => {
                    let (number, start) =
                        asked.remove(&told.time).ok_or("a call was told that was not made")?;
                    self.told(number, &start, told)?;
                }
            }
        }
        for (number, start) in asked.into_values() {
            self.count("never told", 1);
            self.left(number, &start);
        }
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<u64> {
        let purpose = purpose(&start.call)?;
        let class = class(&start.method);
        let key = start.key.as_deref().map(nonce).transpose()?;
        let deadline = start.deadline;
        self.calls.insert(purpose, class);
        self.count("asked", 1);
        self.asked += 2;
        let call = self.asked;
        let fact = Fact::Call { call, purpose, class, key, body: start.hash, tally: None, deadline };
        self.checker.take(start.at, fact);
        if let Some(body) = start.note {
            // The note's own call: made by the handler, and known to the client by its reply alone.
            let purpose = purpose | NOTE;
            self.calls.insert(purpose, Class::Once);
            let fact = Fact::Call {
                call: call + 1,
                purpose,
                class: Class::Once,
                key: None,
                body,
                tally: None,
                deadline,
            };
            self.checker.take(start.at, fact);
        }
        Ok(call)
    }

    /// The caller is dead, or has dropped the call.
    fn left(&mut self, call: u64, start: &Start) {
        self.checker.take(start.deadline, Fact::Left { call });
        if start.note.is_some() {
            self.checker.take(start.deadline, Fact::Left { call: call + 1 });
        }
    }

    fn told(&mut self, call: u64, start: &Start, told: Told) -> Result<()> {
        let Told { at, nonce: known, note, answer, .. } = told;
        let nonce = known.as_deref().map(nonce).transpose()?;
        let purpose = purpose(&start.call)?;
        if let Answer::Unknown(why) = &answer {
            *self.unknowns.entry(why.clone()).or_default() += 1;
            if why == DROPPED {
                self.count("dropped", 1);
                self.left(call, start);
                return Ok(());
            }
        }
        self.count(name(&answer), 1);
        if let Some(nonce) = nonce {
            self.replied(at, nonce, &answer);
        }
        let told = match &answer {
            Answer::Ok(token) => {
                self.agrees(at, call, purpose, class(&start.method), *token);
                selfsame_check::Told::Ok(*token)
            }
            Answer::Declined(token) => selfsame_check::Told::Declined(*token),
            Answer::Failed => selfsame_check::Told::Failed,
            Answer::Yes(_) => selfsame_check::Told::Yes,
            Answer::No(_) => selfsame_check::Told::No,
            Answer::Unknown(why) => {
                // An atomic store has no reason ever to record that nobody knows.
                let excused = !(self.atomic && why == "RecordedUnknown");
                selfsame_check::Told::Unknown { lasting: is_final(&answer) && excused }
            }
        };
        self.checker.take(at, Fact::Told { call, nonce, told });
        if start.note.is_some() {
            let call = call + 1;
            match (note, &answer) {
                (Some(token), _) => {
                    self.agrees(at, call, purpose | NOTE, Class::Once, token);
                    let told = selfsame_check::Told::Ok(token);
                    self.checker.take(at, Fact::Told { call, nonce: None, told });
                }
                (None, Answer::No(_) | Answer::Declined(_)) => {
                    let told = selfsame_check::Told::No;
                    self.checker.take(at, Fact::Told { call, nonce: None, told });
                }
                (None, _) => self.checker.take(at, Fact::Left { call }),
            }
        }
        Ok(())
    }

    /// What the client was told is what some server has said.
    fn replied(&mut self, at: Time, nonce: Nonce, answer: &Answer) {
        let replied = match answer {
            Answer::Ok(token) => Replied::Ok(*token),
            Answer::Declined(token) => Replied::Declined(*token),
            Answer::Failed => Replied::Failed(0),
            Answer::Unknown(why) if why == "RecordedUnknown" => Replied::RecordedUnknown,
            Answer::Unknown(why) if why == "Stale" => Replied::Stale,
            Answer::Unknown(why) if why == "SessionUnknown" => Replied::SessionUnknown,
            Answer::Unknown(why) if why == "Expired" => Replied::Expired,
            _ => return,
        };
        self.checker.take(at, Fact::Reply { nonce, attempt: 0, replica: 0, incarnation: 0, replied });
    }

    /// A reply has to be that of the effect which the log has. To the checker: as another attempt's reply under a nonce of its own.
    fn agrees(&mut self, at: Time, call: u64, purpose: u64, class: Class, token: u64) {
        let Some(tokens) = self.tokens.get(&purpose).filter(|_| class == Class::Once) else { return };
        let effect = if tokens.contains(&token) { token } else { tokens[0] };
        self.checker.take(
            at,
            Fact::Measure {
                what: format!("replies-of-call-{call}-that-no-effect-has"),
                value: u64::from(effect != token),
                at_most: 0,
            },
        );
    }

    /// What has a bound.
    fn measure(&mut self, ran: &Ran) {
        let resident = |role| ran.totals.resident.get(role).copied().unwrap_or_default();
        let client = |name| ran.totals.clients.get(name).copied().unwrap_or_default();
        let (calls, attempts) = (client("calls"), client("attempts"));
        self.count("attempts", attempts);
        self.count("client calls", calls);
        // What a channel may spend: a fifth of its calls, and ten a second; and on each new connection it sends again what is open.
        let channels = (CLIENTS * SERVERS) as u64;
        let allowance = calls / 5 + 10 * channels * ran.took.as_secs() + 16 * client("connections");
        let bounds = [
            ("bytes-of-a-server", resident("server"), SERVER_MEMORY),
            ("bytes-of-a-client", resident("client"), CLIENT_MEMORY),
            ("retries", attempts.saturating_sub(calls), allowance),
        ];
        for (what, value, at_most) in bounds {
            self.checker.take(ran.healed_at, Fact::Measure { what: what.into(), value, at_most });
        }
    }
}

/// Of the purpose of a note.
const NOTE: u64 = 1;

/// A number for a call's name, `c<place>.<life>.<number>` or that and `/note`.
fn purpose(call: &str) -> Result<u64> {
    let (base, note) = match call.strip_suffix("/note") {
        Some(base) => (base, NOTE),
        None => (call, 0),
    };
    let wrong = || format!("{call:?} is no call of this run");
    let numbers = base.strip_prefix('c').ok_or_else(wrong)?.split('.').map(str::parse::<u64>);
    match numbers.collect::<std::result::Result<Vec<_>, _>>().map_err(|_| wrong())?[..] {
        [place, life, number] => Ok(place << 56 | life << 32 | number << 1 | note),
        _ => Err(wrong().into()),
    }
}

/// A nonce as the library prints it, as the checker knows it. All clients of a run are one principal.
fn nonce(text: &str) -> Result<Nonce> {
    let wrong = || format!("{text:?} is no nonce");
    let hex = |word: &str| u128::from_str_radix(word, 16).map_err(|_| wrong());
    match text.split('-').collect::<Vec<_>>()[..] {
        ["s", registration, number] => Ok(Nonce::Sequenced {
            registration: hex(registration)?,
            number: number.parse().map_err(|_| wrong())?,
        }),
        ["k", key, _, _] => Ok(Nonce::Keyed { principal: 0, key: hex(key)? }),
        _ => Err(wrong().into()),
    }
}

fn class(method: &str) -> Class {
    match method {
        "assign" => Class::Idempotent,
        "look" => Class::ReadOnly,
        "shout" => Class::Never,
        _ => Class::Once,
    }
}

fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Ok(_) => "Ok",
        Answer::Declined(_) => "declined",
        Answer::Failed => "failed",
        Answer::Yes(_) => "Yes",
        Answer::No(_) => "No",
        Answer::Unknown(_) => "Unknown",
    }
}
