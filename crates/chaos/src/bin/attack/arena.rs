//! The run: victim and good client, in quiet and then under one attack after the other, and the judgement of each.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};

use selfsame_chaos::child::Arguments;
use selfsame_chaos::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::corpus::{self, Attack};
use crate::field::{Course, Field, Outcome, Told};
use crate::lap::Lap;
use crate::memory::Memory;
use crate::options::Options;
use crate::process::{Line, Process};
use crate::report::{self, Verdict};
use crate::secure::{Certificates, Who};

/// How long the good client is watched in quiet: some 400 calls, so the p99 is not that of a single one.
const QUIET: Duration = Duration::from_millis(1600);
/// How often an attack is tried that fails by nothing but latency.
const TRIES: u32 = 3;
/// How long counters may take to tell, and connections to go. The victim looks after both several times a second.
const SETTLING: Duration = Duration::from_secs(10);
/// How much longer than its time an attack may take, for those that end by a time-out of the victim's.
const OVERTIME: Duration = Duration::from_secs(90);
/// By how much more urgently the victim and its good client work than others on the machine.
const NICE: i32 = 10;

/// Runs all attacks that were asked for.
pub async fn run(options: &Options) -> Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let started = Instant::now();
    // Where it is allowed, what else runs on the machine counts for less.
    let _ = rustix::process::nice(-NICE);
    let certificates = options.secure.then(|| Certificates::make(folder.path())).transpose()?;
    let start = || Pair::start(folder.path(), certificates.clone());
    let mut pair = start().await?;
    let mut verdicts = Vec::new();
    for (number, attack) in corpus::all(options.secure).into_iter().enumerate() {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == attack.name) {
            continue;
        }
        let mut verdict = Verdict::default();
        for attempt in 1..=TRIES {
            let net = number as u8 * TRIES as u8 + attempt as u8;
            verdict = pair.judge(&attack, options, net).await;
            verdict.tries = attempt;
            if pair.is_gone() {
                pair = start().await?;
            }
            if verdict.through.is_some() || verdict.slow.is_none() {
                break;
            }
        }
        println!("{verdict}");
        verdicts.push(verdict);
    }
    println!("\n{}took {:.1?}", report::table(&verdicts), started.elapsed());
    if options.keep {
        println!("kept: {}", folder.keep().display());
    }
    // The last lines of a long log are those that are read.
    let through: Vec<_> = verdicts.iter().filter(|verdict| verdict.got_through()).collect();
    through.iter().for_each(|verdict| println!("{verdict}"));
    match through.len() {
        0 => println!("NOTHING GOT THROUGH"),
        count => println!("{count} GOT THROUGH"),
    }
    Ok(if through.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A victim and its good client.
struct Pair {
    certificates: Option<Certificates>,
    victim: Process,
    client: Process,
}

impl Pair {
    async fn start(folder: &Path, certificates: Option<Certificates>) -> Result<Pair> {
        let arguments = certificates.iter().fold(Arguments::default(), |arguments, certificates| {
            arguments.with("certificates", certificates.folder().display())
        });
        let victim = Process::start("victim", &arguments, &folder.join("victim.err")).await?;
        let arguments = ["server", "publisher"].into_iter().try_fold(arguments, |arguments, name| {
            Ok::<_, Error>(arguments.with(name, victim.ready.get::<String>(name)?))
        })?;
        let client = Process::start("client", &arguments, &folder.join("client.err")).await?;
        Ok(Pair { certificates, victim, client })
    }

    fn is_gone(&self) -> bool {
        self.victim.line().ended().is_some() || self.client.line().ended().is_some()
    }

    /// One quiet run and one under attack.
    async fn judge(&self, attack: &Attack, options: &Options, net: u8) -> Verdict {
        let mut verdict = Verdict { name: attack.name, cap: attack.memory, ..Verdict::default() };
        if let Err(error) = self.try_judge(attack, options, net, &mut verdict).await {
            let why = self.victim.line().ended().map(|ended| format!("the victim is dead: {ended}"));
            verdict.through.get_or_insert(why.unwrap_or_else(|| error.to_string()));
        }
        verdict
    }

    async fn try_judge(
        &self,
        attack: &Attack,
        options: &Options,
        net: u8,
        verdict: &mut Verdict,
    ) -> Result<()> {
        self.is_settled().await.map_err(|error| format!("before the attack: {error}"))?;
        self.lap().await?;
        sleep(QUIET.min(options.time)).await;
        verdict.quiet = self.lap().await?;
        if let Some(failure) = verdict.quiet.failure() {
            return Err(format!("in quiet: {failure}").into());
        }
        let before = counts(self.victim.line()).await?;
        let memory = Memory::watch(self.victim.pid());
        let told = fight(attack.run, self.field(options, net, before.clone())?, options).await;
        verdict.during = self.lap().await?;
        (verdict.peak, verdict.grown) = memory.end().await?;
        let told = told?;
        if let Some(failure) = verdict.during.failure() {
            return Err(failure.into());
        }
        if verdict.grown > attack.memory {
            return Err(format!("memory grew by {} MiB, of at most {}", verdict.grown, attack.memory).into());
        }
        verdict.told = self.tells(&before, told).await?;
        self.is_settled().await?;
        verdict.slow = verdict.during.slowness(&verdict.quiet, options.floor);
        Ok(())
    }

    fn field(&self, options: &Options, net: u8, before: BTreeMap<String, u64>) -> Result<Field> {
        let address = |name| {
            let endpoint: String = self.victim.ready.get(name)?;
            let address: SocketAddr = endpoint.rsplit('/').next().unwrap_or_default().parse()?;
            Ok::<_, Error>(address)
        };
        Ok(Field {
            server: address("server")?,
            publisher: address("publisher")?,
            mallory: self.certificates.as_ref().map(|all| all.connector(Who::Mallory)).transpose()?,
            certificates: self.certificates.clone(),
            victim: self.victim.line().clone(),
            course: Course::begin(before),
            scale: options.scale,
            net,
            next: Cell::new(1),
        })
    }

    async fn lap(&self) -> Result<Lap> {
        let said =
            self.client.line().ask("lap").await.map_err(|error| format!("the good client: {error}"))?;
        Lap::parse(&said)
    }

    /// Waits until the victim has told of all that it has to tell of.
    async fn tells(&self, before: &BTreeMap<String, u64>, told: Told) -> Result<String> {
        self.until(|now| told.rises(before, now)).await
    }

    /// Waits until no connection is there but the good client's.
    async fn is_settled(&self) -> Result<()> {
        self.until(|now| {
            let open = |name: &str| now.get(name).copied().unwrap_or_default();
            match (open("server.connections"), open("publisher.subscribers")) {
                (1, 1) => Ok(()),
                (server, publisher) => Err(format!(
                    "connections are left: {server} of the server's and {publisher} of the publisher's, of 1 each"
                )),
            }
        })
        .await
    }

    /// Asks for the counters until they are so.
    async fn until<T>(&self, so: impl Fn(&BTreeMap<String, u64>) -> Result<T, String>) -> Result<T> {
        let begun = Instant::now();
        loop {
            match so(&counts(self.victim.line()).await?) {
                Ok(done) => return Ok(done),
                Err(why) if begun.elapsed() > SETTLING => return Err(why.into()),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// The victim's counters.
pub async fn counts(victim: &Line) -> Result<BTreeMap<String, u64>> {
    let said = victim.ask("counts").await.map_err(|error| format!("the victim: {error}"))?;
    let pairs = said.split(' ').map(|pair| {
        let (name, count) = pair.split_once('=').ok_or("no counter")?;
        Ok((name.to_owned(), count.parse()?))
    });
    pairs.collect()
}

/// For attackers, and the crowds that they start: over a network they would have processors of their own, and never hold up the victim by using its. On a busy machine
/// they only work less urgently.
fn give_way(busy: bool) {
    let idle = || {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let chosen = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
        chosen.is_ok_and(|status| status.success())
    };
    if busy || !idle() {
        // If it may not even do this, it works as urgently as the others.
        let _ = rustix::process::nice(2 * NICE);
    }
}

/// Attacks from a thread of its own, again and again while there is time.
async fn fight(run: corpus::Run, field: Field, options: &Options) -> Outcome {
    let (done, fought) = oneshot::channel();
    let (time, busy) = (options.time, options.busy);
    std::thread::Builder::new().name("attacker".into()).spawn(move || {
        give_way(busy);
        let field = Rc::new(field);
        let attack = async {
            let mut all = Told::default();
            loop {
                all = [all, run(field.clone()).await?].into_iter().sum();
                if !field.goes_on() {
                    return Ok(all);
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fought = match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    fought = timeout(time + OVERTIME, attack) => fought,
                    never = field.keep(time) => match never {},
                }
            }),
            Err(error) => Ok(Err(error.into())),
        };
        let _ = done.send(fought.unwrap_or_else(|_| Err("the attack does not end".into())));
    })?;
    fought.await?
}
