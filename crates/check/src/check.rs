//! Gathers facts, then judges.

use std::collections::{BTreeSet, HashMap};

use crate::fact::{Class, Fact, Nonce, Replied, Time, Told};
use crate::report::Report;
use crate::rule::Rule;

/// What kind of run it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Effects and records commit together, so every Unknown can be resolved.
    pub atomic: bool,
    /// All servers have one clock, which never steps: so what has expired stays so.
    pub one_clock: bool,
    /// How much later than its deadline a caller may be told: what the run's own clocks and queues add. Microseconds.
    pub slack: Time,
    /// How long after healing calls may still end badly, because of what was under way. Microseconds; none: they may at any time.
    pub grace: Option<Time>,
}

#[derive(Debug)]
struct Call {
    purpose: u64,
    key: Option<Nonce>,
    at: Time,
    deadline: Time,
    nonce: Option<Nonce>,
    ended: Option<Time>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Purpose {
    class: Class,
    body: u64,
    tally: Option<u64>,
    effects: u32,
    other_body: bool,
    ok: bool,
    maybe: bool,
    /// When it was last asked for under its key, and what came of that.
    last: Option<(Time, Told)>,
    left_unknown: bool,
}

#[derive(Debug, Default)]
struct OfNonce {
    /// Of its calls: two clients that share a session may use it for calls of two classes.
    classes: Vec<Class>,
    /// Those that its effects name.
    purposes: Vec<u64>,
    kept: bool,
    effects: u32,
    starts: u32,
    last_start: Option<Time>,
    refused: Option<(Time, Replied)>,
    answer: Option<Replied>,
    another: Option<String>,
}

impl OfNonce {
    fn is_of(&mut self, class: Class) {
        if !self.classes.contains(&class) {
            self.classes.push(class);
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    effects: u64,
    ok: u64,
    maybe: u64,
    calls: u64,
}

/// Takes facts, and in the end says which promises were broken.
#[derive(Debug, Default)]
pub struct Checker {
    expect: Expect,
    calls: HashMap<u64, Call>,
    purposes: HashMap<u64, Purpose>,
    nonces: HashMap<Nonce, OfNonce>,
    tallies: HashMap<u64, Tally>,
    /// Effects by the purpose that they name, until the purpose is known: logs come in any order.
    effects: Vec<(u64, u64)>,
    told: Vec<(Time, u64, Option<Nonce>, Told)>,
    left: Vec<(Time, u64)>,
    healed: Option<Time>,
    report: Report,
}

impl Checker {
    /// Nothing has happened yet.
    pub fn new(expect: Expect) -> Self {
        Checker { expect, ..Checker::default() }
    }

    /// Takes one fact.
    pub fn take(&mut self, at: Time, fact: Fact) {
        match fact {
            Fact::Call { call, purpose, class, key, body, tally, deadline } => {
                let known = Purpose {
                    class,
                    body,
                    tally,
                    effects: 0,
                    other_body: false,
                    ok: false,
                    maybe: false,
                    last: None,
                    left_unknown: false,
                };
                self.purposes.entry(purpose).or_insert(known);
                if let Some(key) = key {
                    self.nonce(key).is_of(class);
                }
                let made = Call { purpose, key, at, deadline, nonce: key, ended: None, told: None };
                self.calls.insert(call, made);
            }
            Fact::Told { call, nonce, told } => self.told.push((at, call, nonce, told)),
            Fact::Left { call } => self.left.push((at, call)),
            Fact::Start { nonce, .. } => {
                let of = self.nonce(nonce);
                of.starts += 1;
                of.last_start = of.last_start.max(Some(at));
            }
            Fact::Effect { nonce, purpose, tally, body, .. } => {
                let of = self.nonce(nonce);
                of.effects += 1;
                if let Some(purpose) = purpose {
                    of.purposes.push(purpose);
                    self.effects.push((purpose, body));
                }
                if let Some(tally) = tally {
                    self.tallies.entry(tally).or_default().effects += 1;
                }
            }
            Fact::Reply { nonce, attempt, replica, incarnation, replied } => {
                let bars = match nonce {
                    Nonce::Sequenced { .. } => replied.is_final_refusal(),
                    // Another session may ask under the same key.
                    Nonce::Keyed { .. } => replied == Replied::Expired && self.expect.one_clock,
                };
                let of = self.nonce(nonce);
                if bars && of.refused.is_none_or(|(before, _)| at < before) {
                    of.refused = Some((at, replied));
                }
                if replied.is_terminal() {
                    let first = *of.answer.get_or_insert(replied);
                    if first != replied && of.another.is_none() {
                        of.another = Some(format!(
                            "{first:?}, and {replied:?} to attempt {attempt} by {replica}/{incarnation} at {at}"
                        ));
                    }
                }
            }
            Fact::Healed => self.healed = self.healed.max(Some(at)),
            Fact::Measure { what, value, at_most } => {
                self.report
                    .check(Rule::Bounds, value <= at_most, || format!("{value} {what}, at most {at_most}"));
            }
        }
    }

    fn nonce(&mut self, nonce: Nonce) -> &mut OfNonce {
        self.nonces.entry(nonce).or_default()
    }

    /// Judges.
    pub fn finish(mut self) -> Report {
        self.join();
        self.judge_nonces();
        self.judge_shared_nonces();
        self.judge_calls();
        self.judge_purposes();
        self.judge_tallies();
        self.report.violations.sort();
        self.report
    }

    /// Brings together what came in any order.
    fn join(&mut self) {
        for (purpose, body) in std::mem::take(&mut self.effects) {
            let known = self.purposes.get_mut(&purpose);
            self.report.check(Rule::SameBody, known.as_ref().is_some_and(|known| known.body == body), || {
                format!("an effect of purpose {purpose} has other parameters, or nobody called for it")
            });
            if let Some(known) = known {
                known.effects += 1;
                known.other_body |= known.body != body;
            }
        }
        for (at, call, nonce, told) in std::mem::take(&mut self.told) {
            let made = self.calls.get_mut(&call);
            let once = made.as_ref().is_some_and(|made| made.told.is_none());
            self.report.check(Rule::ToldOnce, once, || {
                format!("call {call} was told {told:?} again, or never made")
            });
            let Some(made) = made else { continue };
            made.ended.get_or_insert(at);
            made.told.get_or_insert(told);
            made.nonce = made.nonce.or(nonce);
        }
        for (at, call) in std::mem::take(&mut self.left) {
            if let Some(made) = self.calls.get_mut(&call) {
                made.ended.get_or_insert(at);
            }
        }
        for (id, call) in &self.calls {
            let Some(purpose) = self.purposes.get_mut(&call.purpose) else { continue };
            if let Some(nonce) = call.nonce {
                self.nonces.entry(nonce).or_default().is_of(purpose.class);
            }
            match call.told {
                Some(Told::Ok(_)) => purpose.ok = true,
                Some(Told::No | Told::Declined(_)) => {}
                Some(Told::Failed | Told::Yes | Told::Unknown { .. }) | None => purpose.maybe = true,
            }
            purpose.left_unknown |= matches!(call.told, Some(Told::Unknown { lasting: false }));
            if let (Some(told), Some(_)) = (call.told, call.key)
                && purpose.last.is_none_or(|(at, _)| (at, *id) < (call.at, *id))
            {
                purpose.last = Some((call.at, told));
            }
        }
    }

    /// The class of all calls under a nonce. None: it has been used for calls of two, by two copies of a client, and says nothing of either.
    fn class_of(&self, of: &OfNonce) -> Option<Class> {
        let named = of.purposes.iter().filter_map(|purpose| Some(self.purposes.get(purpose)?.class));
        let mut classes = of.classes.iter().copied().chain(named);
        let first = classes.next()?;
        classes.all(|class| class == first).then_some(first)
    }

    fn judge_nonces(&mut self) {
        let classes: HashMap<_, _> =
            self.nonces.iter().map(|(nonce, of)| (*nonce, self.class_of(of))).collect();
        for (nonce, of) in &mut self.nonces {
            let class = classes.get(nonce).copied().flatten();
            let kept = class == Some(Class::Once);
            of.kept = kept;
            if kept && of.effects > 0 {
                self.report.check(Rule::OncePerNonce, of.effects == 1, || {
                    format!("{} effects of {nonce}", of.effects)
                });
            }
            if kept && of.answer.is_some() {
                let another = of.another.as_deref();
                self.report.check(Rule::SameReply, another.is_none(), || {
                    format!("{nonce} was answered {}", another.unwrap_or_default())
                });
            }
            if let (Some((at, replied)), true) = (of.refused, class.is_some() || of.classes.is_empty()) {
                self.report.check(
                    Rule::NothingAfterRefusal,
                    of.last_start.is_none_or(|start| start <= at),
                    || {
                        format!(
                            "{nonce} began at {} after {replied:?} was told at {at}",
                            of.last_start.unwrap_or_default()
                        )
                    },
                );
            }
        }
    }

    /// Of the calls under one nonce that were told Ok, each has had its effect: two copies of a client are not both told of one.
    fn judge_shared_nonces(&mut self) {
        let mut told: HashMap<Nonce, BTreeSet<u64>> = HashMap::new();
        for call in self.calls.values() {
            if let (Some(nonce @ Nonce::Sequenced { .. }), Some(Told::Ok(_))) = (call.nonce, call.told) {
                told.entry(nonce).or_default().insert(call.purpose);
            }
        }
        for (nonce, purposes) in told {
            let effects = self.nonces.get(&nonce).map_or(0, |of| of.effects) as usize;
            self.report.check(Rule::OkRan, purposes.len() <= effects, || {
                format!("{nonce} has {effects} effects, and was told Ok to purposes {purposes:?}")
            });
        }
    }

    fn judge_calls(&mut self) {
        let Expect { slack, grace, .. } = self.expect;
        for (id, call) in &self.calls {
            let due = call.deadline.max(self.healed.unwrap_or_default()).saturating_add(slack);
            self.report.check(Rule::Ends, call.ended.is_some_and(|ended| ended <= due), || {
                format!("call {id} was to end by {due}, and ended {:?}", call.ended)
            });
            let Some(told) = call.told else { continue };
            let (Some(purpose), of) =
                (self.purposes.get(&call.purpose), call.nonce.and_then(|nonce| self.nonces.get(&nonce)))
            else {
                continue;
            };
            let (effects, named) = (purpose.effects, purpose.tally.is_none());
            let say =
                |what: &str| format!("call {id} of purpose {} ({:?}): {what}", call.purpose, call.nonce);
            match told {
                Told::Ok(hash) => {
                    if named {
                        let ran = effects >= 1;
                        self.report.check(Rule::OkRan, ran, || say("was told Ok, and nothing happened"));
                    }
                    if let Some(answer) = of.filter(|of| of.kept).and_then(|of| of.answer) {
                        self.report.check(Rule::SameReply, answer == Replied::Ok(hash), || {
                            say(&format!("was told another reply than {answer:?}"))
                        });
                    }
                }
                Told::No if named => {
                    self.report.check(Rule::NoIsNo, effects == 0, || say("was told No, and it happened"));
                }
                Told::Declined(_) if named && purpose.class.is_strict() => {
                    self.report.check(Rule::NoIsNo, effects == 0, || say("was declined, and it happened"));
                }
                Told::Yes => {
                    let began = of.is_some_and(|of| of.starts > 0);
                    self.report.check(Rule::YesRan, began, || say("was told Yes, and no handler began"));
                }
                Told::No | Told::Declined(_) | Told::Failed | Told::Unknown { .. } => {}
            }
            // What is never sent again may be lost with its connection.
            if let (Some(healed), Some(grace), true) = (self.healed, grace, purpose.class != Class::Never)
                && call.at >= healed.saturating_add(grace)
            {
                let well = !matches!(told, Told::No | Told::Unknown { lasting: false });
                self.report
                    .check(Rule::WellAfterHealing, well, || say(&format!("made after healing: {told:?}")));
            }
        }
    }

    fn judge_purposes(&mut self) {
        for (id, purpose) in &self.purposes {
            if purpose.class.is_strict() && purpose.tally.is_none() {
                self.report.check(Rule::OncePerPurpose, purpose.effects <= 1, || {
                    format!("{} effects of purpose {id}", purpose.effects)
                });
            }
            if let (true, true, Some((at, told)), Some(healed)) =
                (self.expect.atomic, purpose.left_unknown, purpose.last, self.healed)
                && at >= healed.saturating_add(self.expect.grace.unwrap_or_default())
            {
                let resolved = !matches!(told, Told::Unknown { lasting: false });
                self.report.check(Rule::UnknownResolved, resolved, || {
                    format!("purpose {id}, asked again at {at}: {told:?}")
                });
            }
            if let Some(tally) = purpose.tally.filter(|_| purpose.class.is_strict()) {
                let tally = self.tallies.entry(tally).or_default();
                tally.calls += 1;
                tally.ok += u64::from(purpose.ok);
                tally.maybe += u64::from(purpose.maybe && !purpose.ok);
            }
        }
    }

    fn judge_tallies(&mut self) {
        for (id, Tally { effects, ok, maybe, calls }) in &self.tallies {
            let within = (*ok..=ok + maybe).contains(effects);
            self.report.check(Rule::CounterWithin, within, || {
                format!("counter {id} is {effects}; of {calls} calls {ok} were told Ok and {maybe} Unknown")
            });
        }
    }
}
