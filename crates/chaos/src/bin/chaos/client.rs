//! A client's process: one life of one of six places.
//!
//! It says `answered` at its first reply, writes down each call before it sends it and what it was told, saves keyed calls, and resumes those that earlier lives of its place have left. When it hears `heal` it
//! starts no more calls, asks again for all that is unknown, and says `healed`; it ends when it is dismissed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt, TryStreamExt};
use selfsame::{Call, Channel, Nonce};
use selfsame_chaos::Result;
use selfsame_chaos::api::ledger::LedgerClient;
use selfsame_chaos::api::ledger::ledger::{Add, AddAndNote, Assign, Look, Shout};
use selfsame_chaos::child::{self, Arguments};
use selfsame_chaos::intention::Intention;
use selfsame_chaos::log::{self, Answer, Entry, Log, Saved, Start, Told};
use selfsame_relay::Dice;

use crate::asked::{Asked, Outcomes, ask, is_final};
use crate::{places, store};

/// Calls that a client has under way at once.
const WORKERS: usize = 6;
/// Calls of earlier lives that it asks for at once.
const RESUMERS: usize = 4;
/// How long keyed calls are valid: beyond the end of any run.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
/// And the few that are to expire while they are asked for.
const SHORT_VALIDITY: Duration = Duration::from_secs(2);
/// How long it asks again after healing; the verdict counts what is unknown then.
const HEALING: Duration = Duration::from_secs(30);

/// Calls that have an answer for good, and may be asked for again.
const REMEMBERED: usize = 64;

/// Why a call is unknown whose caller has dropped it.
pub const DROPPED: &str = "Dropped";

/// One life.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(arguments).await?;
    let everything = async {
        let workers = futures::future::try_join_all((0..WORKERS as u64).map(|worker| client.work(worker)));
        // What earlier lives have left is looked up before the workers leave more.
        futures::try_join!(client.resume(4 * RESUMERS), workers)?;
        // Only healing ends the work.
        let until = Instant::now() + HEALING;
        while Instant::now() < until && !client.unknown.borrow().is_empty() {
            client.resume(usize::MAX).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mut dice = Dice::new(client.seed, u64::MAX);
        let answered = client.answered_calls.borrow().len() as u64;
        for number in 0..answered {
            client.doubt(number, &mut dice).await?;
        }
        println!("{}", client.counts());
        println!("healed {}", client.unknown.borrow().len());
        std::future::pending::<Result<ExitCode>>().await
    };
    let mut orders = child::orders();
    let dismissed = async {
        while let Some(order) = orders.recv().await {
            if order == "heal" && !client.healing.replace(true) {
                println!("heals");
            }
        }
    };
    let report = async {
        let mut often = tokio::time::interval(Duration::from_millis(100));
        loop {
            often.tick().await;
            println!("{}", client.counts());
        }
    };
    tokio::select! {
        failed = everything => failed,
        () = dismissed => Ok(ExitCode::SUCCESS),
        () = report => Ok(ExitCode::SUCCESS),
    }
}

struct Client {
    /// Names its calls.
    life: String,
    log: Log,
    /// One for each server; in a run with a common store each fails over to the others.
    ledgers: Vec<LedgerClient>,
    /// The same once more, for calls that are asked for twice at once, since a channel does not take a key that it has open. They try but once.
    twins: Vec<LedgerClient>,
    seed: u64,
    common: bool,
    /// Keyed calls whose outcome is not known yet.
    unknown: RefCell<BTreeMap<String, Rc<Saved>>>,
    /// The latest keyed calls that have an answer for good: who asks again has to get the same.
    answered_calls: RefCell<VecDeque<Rc<Saved>>>,
    next: Cell<u64>,
    /// How often it has asked.
    times: Cell<u64>,
    /// Those of them that are asked for now.
    doubted: RefCell<BTreeSet<String>>,
    healing: Cell<bool>,
    /// A call was.
    answered: Cell<bool>,
}

impl Client {
    async fn new(arguments: &Arguments) -> Result<Client> {
        let folder: PathBuf = arguments.get("folder")?;
        let (place, life): (usize, u64) = (arguments.get("place")?, arguments.get("life")?);
        let common = arguments.get::<store::Level>("store")?.is_common();
        let relays: Vec<&str> = arguments.find("relays").ok_or("relays=… is missing")?.split(',').collect();
        let (unknown, answered_calls) = left_by_earlier_lives(&folder, place)?;
        Ok(Client {
            life: format!("c{place}.{life}"),
            unknown: RefCell::new(unknown),
            answered_calls: RefCell::new(answered_calls),
            doubted: RefCell::default(),
            log: Log::open(&folder.join(format!("told-{place}.{life}.log")))?,
            ledgers: connect(&relays, common, 5).await?,
            twins: connect(&relays, common, 1).await?,
            seed: arguments.get("seed")?,
            common,
            next: Cell::new(0),
            times: Cell::new(0),
            healing: Cell::new(false),
            answered: Cell::new(false),
        })
    }

    async fn work(&self, worker: u64) -> Result<()> {
        let mut dice = Dice::new(self.seed, worker);
        while !self.healing.get() {
            self.next.set(self.next.get() + 1);
            let what = Intention::draw(format!("{}.{}", self.life, self.next.get()), &mut dice);
            let server = dice.below(self.ledgers.len() as u64) as usize;
            let done = match dice.below(20) {
                0..6 => self.sequenced::<Add>("add", what, server, &mut dice).await,
                6..9 => self.sequenced::<AddAndNote>("addAndNote", what, server, &mut dice).await,
                9 => self.sequenced::<Assign>("assign", what, server, &mut dice).await,
                10 => self.sequenced::<Look>("look", what, server, &mut dice).await,
                11 => self.sequenced::<Shout>("shout", what, server, &mut dice).await,
                12 => self.doubt(dice.below(REMEMBERED as u64), &mut dice).await,
                13..17 => self.keyed::<Add>("add", what, server, &mut dice).await,
                _ => self.keyed::<AddAndNote>("addAndNote", what, server, &mut dice).await,
            };
            done?;
            tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
        }
        Ok(())
    }

    /// A call that lives and dies with this process.
    async fn sequenced<M: Asked>(
        &self,
        method: &str,
        what: Intention,
        server: usize,
        dice: &mut Dice,
    ) -> Result<()> {
        let patience = patience(dice);
        // Who does not try again is told at once what became of its attempt: then a No has to be true.
        let ledger = if dice.once_in(3) { &self.twins[server] } else { &self.ledgers[server] };
        let call = M::make(ledger, &what).deadline(patience);
        let asked = self.start(&to_save(&what, method, server, Vec::new()), None, patience);
        // Some callers lose their patience without saying so in advance.
        if dice.once_in(40) {
            let impatient = Duration::from_millis(dice.below(300));
            let dropped = Outcomes { nonce: None, call: Answer::Unknown(DROPPED.into()), note: None };
            self.told(asked, tokio::time::timeout(impatient, ask(call)).await.unwrap_or(dropped));
            return Ok(());
        }
        self.told(asked, ask(call).await);
        Ok(())
    }

    /// A call that is saved before it is sent, and may be asked for twice at once.
    async fn keyed<M: Asked>(
        &self,
        method: &str,
        what: Intention,
        server: usize,
        dice: &mut Dice,
    ) -> Result<()> {
        let validity = if dice.once_in(40) { SHORT_VALIDITY } else { VALIDITY };
        let nonce = Nonce::keyed_for(&what.call, SystemTime::now(), validity);
        let mut call = M::make(&self.ledgers[server], &what).nonce(nonce);
        let bytes = call.to_bytes()?;
        let saved = Rc::new(to_save(&what, method, server, bytes));
        self.write(Entry::Save((*saved).clone()));
        self.unknown.borrow_mut().insert(what.call.clone(), saved.clone());
        let patience = [patience(dice), patience(dice)];
        if dice.once_in(4) {
            let other = if self.common { (server + 1) % self.ledgers.len() } else { server };
            let one = self.again(&saved, &self.ledgers[server], patience[0]);
            let two = self.again(&saved, &self.twins[other], patience[1]);
            return futures::try_join!(one, two).map(|_| ());
        }
        let asked = self.start(&saved, Some(nonce.to_string()), patience[0]);
        self.told(asked, ask(call.deadline(patience[0])).await);
        Ok(())
    }

    /// Asks for calls of this or earlier lives of which it is not known what became of them.
    async fn resume(&self, most: usize) -> Result<()> {
        let unknown: Vec<Rc<Saved>> = self.unknown.borrow().values().take(most).cloned().collect();
        let ask = |saved: Rc<Saved>| async move {
            let ledger = &self.ledgers[saved.server % self.ledgers.len()];
            self.again(&saved, ledger, Duration::from_secs(5)).await
        };
        futures::stream::iter(unknown).map(ask).buffer_unordered(RESUMERS).try_collect().await
    }

    async fn again(&self, saved: &Saved, ledger: &LedgerClient, patience: Duration) -> Result<()> {
        match saved.method.as_str() {
            "add" => self.again_as::<Add>(saved, ledger, patience).await,
            _ => self.again_as::<AddAndNote>(saved, ledger, patience).await,
        }
    }

    async fn again_as<M: Asked>(
        &self,
        saved: &Saved,
        ledger: &LedgerClient,
        patience: Duration,
    ) -> Result<()> {
        let call = Call::<M>::from_bytes(ledger.channel(), &saved.bytes)?.deadline(patience);
        let key = call.known_nonce().map(|nonce| nonce.to_string());
        let asked = self.start(saved, key, patience);
        self.told(asked, ask(call).await);
        Ok(())
    }

    /// Writes down that a call is asked for.
    fn start(&self, what: &Saved, key: Option<String>, patience: Duration) -> Start {
        self.times.set(self.times.get() + 1);
        let at = log::now();
        let start = Start {
            call: what.call.clone(),
            time: self.times.get(),
            method: what.method.clone(),
            hash: what.hash,
            note: what.note,
            key,
            at,
            deadline: at + patience.as_micros() as u64,
        };
        self.write(Entry::Start(start.clone()));
        start
    }

    /// Writes down what came of it.
    fn told(&self, asked: Start, outcomes: Outcomes) {
        let Outcomes { nonce, call: answer, note } = outcomes;
        if matches!(answer, Answer::Ok(_)) && !self.answered.replace(true) {
            println!("answered");
        }
        if is_final(&answer) {
            let saved = self.unknown.borrow_mut().remove(&asked.call);
            self.remember(saved.filter(|_| is_kept(&answer)));
        }
        let at = log::now();
        self.write(Entry::Told(Told { call: asked.call, time: asked.time, at, nonce, note, answer }));
    }

    fn remember(&self, saved: Option<Rc<Saved>>) {
        let mut calls = self.answered_calls.borrow_mut();
        calls.extend(saved);
        if calls.len() > REMEMBERED {
            calls.pop_front();
        }
    }

    /// Asks once more for a call that has its answer, wherever it may be asked for.
    async fn doubt(&self, number: u64, dice: &mut Dice) -> Result<()> {
        let saved = self.answered_calls.borrow().iter().cycle().nth(number as usize).cloned();
        let Some(saved) = saved else { return Ok(()) };
        let server = if self.common { dice.below(self.twins.len() as u64) as usize } else { saved.server };
        // After the faults whoever tries again is answered; before, one try shows more.
        let ledgers = if self.healing.get() { &self.ledgers } else { &self.twins };
        // Not while the same is under way on that channel.
        if self.doubted.borrow_mut().insert(saved.call.clone()) {
            let asked = self.again(&saved, &ledgers[server], Duration::from_secs(5)).await;
            self.doubted.borrow_mut().remove(&saved.call);
            return asked;
        }
        Ok(())
    }

    fn write(&self, entry: Entry) {
        if let Err(error) = self.log.add(entry) {
            // Without its log the run proves nothing.
            eprintln!("client: cannot write its log: {error}");
            std::process::exit(1);
        }
    }

    fn counts(&self) -> String {
        let counters = self.ledgers.iter().chain(&self.twins).map(|ledger| ledger.channel().counters());
        let sums = counters.fold([0; 4], |sum, counters| {
            let these = [counters.calls, counters.attempts, counters.replayed, counters.connections];
            std::array::from_fn(|at| sum[at] + these[at])
        });
        let [calls, attempts, replayed, connections] = sums;
        format!("counts calls={calls} attempts={attempts} replayed={replayed} connections={connections}")
    }
}

/// A channel for each server; in a run with a common store it fails over to the others.
async fn connect(relays: &[&str], common: bool, attempts: u32) -> Result<Vec<LedgerClient>> {
    let mut ledgers = Vec::new();
    for first in 0..relays.len() {
        let mut channel = Channel::builder().attempts(attempts).attempt_timeout(places::ATTEMPT_TIMEOUT);
        if common {
            let others = (1..relays.len()).map(|step| relays[(first + step) % relays.len()]);
            channel = others.fold(channel, |channel, other| channel.replica(other));
        }
        ledgers.push(LedgerClient::new(channel.connect(relays[first]).await?));
    }
    Ok(ledgers)
}

fn to_save(what: &Intention, method: &str, server: usize, bytes: Vec<u8>) -> Saved {
    let note = (method == "addAndNote").then(|| what.note().hash());
    Saved { call: what.call.clone(), method: method.to_owned(), hash: what.hash(), note, server, bytes }
}

/// A deadline. Mostly long enough for a server to come back.
fn patience(dice: &mut Dice) -> Duration {
    Duration::from_millis(if dice.once_in(10) { dice.within(50..500) } else { dice.within(2_000..6_000) })
}

/// Whether an answer is in a record: then whoever asks again gets it.
fn is_kept(answer: &Answer) -> bool {
    match answer {
        Answer::Ok(_) | Answer::Declined(_) | Answer::Failed => true,
        Answer::Unknown(why) => why == "RecordedUnknown",
        Answer::No(_) | Answer::Yes(_) => false,
    }
}

/// Calls by their names.
type Calls = BTreeMap<String, Rc<Saved>>;

/// What earlier lives have saved: the calls that they were not told the end of, and the latest of those that have an answer for good.
fn left_by_earlier_lives(folder: &Path, place: usize) -> Result<(Calls, VecDeque<Rc<Saved>>)> {
    let (mut unknown, mut known) = (Calls::new(), Vec::new());
    for path in places::files(folder, &format!("told-{place}."))? {
        for entry in log::read::<Entry>(&path)? {
            match entry {
                Entry::Save(saved) => drop(unknown.insert(saved.call.clone(), Rc::new(saved))),
                Entry::Told(told) if is_final(&told.answer) => known.push(told),
                Entry::Told(_) | Entry::Start(_) => {}
            }
        }
    }
    let mut answered = VecDeque::new();
    for told in known {
        let saved = unknown.remove(&told.call);
        answered.extend(saved.filter(|_| is_kept(&told.answer)));
    }
    answered.drain(..answered.len().saturating_sub(REMEMBERED));
    Ok((unknown, answered))
}
