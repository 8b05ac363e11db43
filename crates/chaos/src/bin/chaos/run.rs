//! One run: everybody is started, the weather rages for its time, all is healed, and the verdict is given.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use selfsame_chaos::Result;
use selfsame_chaos::child::{Arguments, Child, Happened};
use selfsame_relay::Dice;
use selfsame_relay::{Counts, Faults, Relay};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::error::Elapsed;

use crate::database::Database;
use crate::effects;
use crate::keeper::{Doing, Keeper, Order, Role};
use crate::options::Options;
use crate::places::{CLIENTS, SERVERS};
use crate::store::Level;
use crate::tally::Tally;
use crate::verdict::{Ran, Report};
use crate::weather::{Fault, Weather};

/// How long everybody has, after the faults, to become well: servers to start, and clients to learn what became of each call.
const HEALING: Duration = Duration::from_secs(60);

/// A run, its report, and the exit code. A run that fails keeps its folder.
pub async fn to_the_end(options: &Options) -> Result<ExitCode> {
    println!(
        "chaos: store {}, {} s, seed {}; the relays: {}",
        options.level,
        options.time.as_secs(),
        options.seed,
        options.faults
    );
    let folder = tempfile::Builder::new().prefix("selfsame-chaos-").tempdir()?;
    // Whichever way this ends, the children end with it: they are killed when their handles are dropped.
    let report = tokio::select! {
        report = run(options, folder.path()) => report,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    };
    let passed = match report {
        Ok(report) => {
            print!("{report}");
            report.passed()
        }
        Err(error) => {
            eprintln!("chaos: {error}");
            false
        }
    };
    if passed && options.keep {
        println!("the logs are kept in {}", folder.keep().display());
        return Ok(ExitCode::SUCCESS);
    } else if passed {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED; the logs are kept in {}; again: --seed {}", folder.keep().display(), options.seed);
    Ok(ExitCode::FAILURE)
}

/// One run, and what came of it.
pub async fn run(options: &Options, folder: &Path) -> Result<Report> {
    let started = Instant::now();
    let tally = Tally::default();
    let mut cast = Cast::start(options, folder, &tally).await?;
    // What does not work in fair weather proves nothing in foul.
    all(&cast.clients, |doing| doing.answered)
        .await
        .map_err(|_| "some client gets no reply, before any fault")?;
    cast.rage(options).await?;
    let healed = Instant::now();
    // What went wrong until then is worth reading all the same.
    if let Err(error) = cast.calm().await {
        tally.violation(error.to_string());
    }
    let healed_at = selfsame_chaos::log::now();
    if let Err(error) = cast.settle().await {
        tally.violation(error.to_string());
    }
    let unknown = cast.clients.iter().map(|place| place.doing.borrow().unknown).sum();
    let healing = healed.elapsed();
    let (relays, database) = cast.dismiss().await?;
    let (took, totals) = (started.elapsed(), tally.lock().clone());
    let url = database.as_ref().map(Database::url);
    let ran = Ran { took, healing, healed_at, unknown, relays, totals, database: url };
    Report::of(options, folder, ran).await
}

/// One place, as the run sees it.
struct Place {
    orders: mpsc::UnboundedSender<Order>,
    doing: watch::Receiver<Doing>,
    keeper: JoinHandle<Result<()>>,
    arguments: Arguments,
}

impl Place {
    fn order(&self, order: Order) {
        // A keeper that is gone has ended with an error, which whoever waits for it gets.
        let _ = self.orders.send(order);
    }
}

/// Waits until all these places are as wished.
async fn all(places: &[Place], wished: impl Fn(&Doing) -> bool) -> std::result::Result<(), Elapsed> {
    let each = async {
        for place in places {
            // A keeper that has ended is found when it is waited for.
            let _ = place.doing.clone().wait_for(&wished).await;
        }
    };
    tokio::time::timeout(HEALING, each).await
}

/// Everybody.
struct Cast {
    relays: Vec<Relay>,
    servers: Vec<Place>,
    clients: Vec<Place>,
    tally: Tally,
    rivals: JoinSet<Result<()>>,
    /// Shared with whoever stops it and starts it again.
    database: Option<Arc<Mutex<Database>>>,
    blows: JoinSet<Result<()>>,
}

impl Cast {
    async fn start(options: &Options, folder: &Path, tally: &Tally) -> Result<Cast> {
        let mut relays = Vec::new();
        for number in 0..SERVERS as u64 {
            relays.push(Relay::start(options.seed ^ number << 32, options.faults).await?);
        }
        let database = match options.level.is_common() {
            true => Some(Database::start(folder).await?),
            false => None,
        };
        let url = database.as_ref().map(Database::url);
        if let Some(url) = &url {
            effects::prepare(url).await?;
        }
        let endpoints: Vec<&str> = relays.iter().map(Relay::endpoint).collect();
        let mut common = Arguments::default()
            .with("folder", folder.display())
            .with("store", options.level)
            .with("relays", endpoints.join(","));
        if options.trace {
            common = common.with("trace", "yes");
        }
        if let Some(bug) = &options.bug {
            common = common.with("bug", bug);
        }
        let keep = |role: Role, place: usize, arguments: Arguments| {
            let (orders, receiver) = mpsc::unbounded_channel();
            let (doing, watcher) = watch::channel(Doing::default());
            let stream = 1000 * u64::from(matches!(role, Role::Client)) + place as u64;
            let keeper = Keeper {
                role,
                place,
                arguments: arguments.clone(),
                folder: folder.to_owned(),
                dice: Dice::new(options.seed, stream),
                tally: tally.clone(),
                doing,
                healing: false,
            };
            Place { orders, doing: watcher, keeper: tokio::spawn(keeper.keep(receiver)), arguments }
        };
        let mut servers = Vec::new();
        for (place, relay) in relays.iter().enumerate() {
            let mut others: Vec<&str> = endpoints.clone();
            others.rotate_left(place + 1);
            let notes = if options.level.is_common() { others.join(",") } else { others[0].to_owned() };
            let file = folder.join(format!("store-{place}.redb"));
            let at = url.clone().unwrap_or_else(|| file.display().to_string());
            let arguments = common.clone().with("notes", notes).with("at", at);
            let file = (options.level == Level::Durable).then_some(file);
            let role = Role::Server { relay: relay.clone(), file };
            servers.push(keep(role, place, arguments));
        }
        let clients = (0..CLIENTS).map(|place| keep(Role::Client, place, common.clone())).collect();
        let database = database.map(|database| Arc::new(Mutex::new(database)));
        Ok(Cast {
            relays,
            servers,
            clients,
            tally: tally.clone(),
            rivals: JoinSet::new(),
            database,
            blows: JoinSet::new(),
        })
    }

    /// The faults, for their time.
    async fn rage(&mut self, options: &Options) -> Result<()> {
        let mut weather = Weather::new(options.seed, options.level);
        let until = Instant::now() + options.time;
        while Instant::now() < until {
            let (pause, fault) = weather.next();
            tokio::time::sleep(pause).await;
            self.strike(fault).await?;
        }
        Ok(())
    }

    async fn strike(&mut self, fault: Fault) -> Result<()> {
        while let Some(ended) = self.blows.try_join_next() {
            ended??;
        }
        match fault {
            Fault::KillServer(place) => self.servers[place].order(Order::Kill),
            Fault::KillClient(place) => self.clients[place].order(Order::Kill),
            Fault::StopServer(place, duration) => self.servers[place].order(Order::Stop(duration)),
            Fault::StopClient(place, duration) => self.clients[place].order(Order::Stop(duration)),
            Fault::Cut(place) => {
                self.tally.lock().cuts += 1;
                self.relays[place].cut_all();
            }
            Fault::FullDisk(place) => self.servers[place].order(Order::FullDisk),
            Fault::Rival(place) => {
                let arguments = self.servers[place].arguments.clone();
                let watched = self.servers[place].doing.clone();
                self.rivals.spawn(rival(arguments, watched, self.tally.clone()));
            }
            // One at a time; the next has to wait for its turn.
            Fault::Database(blow) => {
                if let (Some(database), true) = (self.database.clone(), self.blows.is_empty()) {
                    *self.tally.lock().database.entry(format!("{blow:?}")).or_default() += 1;
                    self.blows.spawn(async move { database.lock().await.strike(blow).await });
                }
            }
        }
        Ok(())
    }

    /// No more faults: everybody has a whole life, and knows. What is asked from then on has to be answered.
    async fn calm(&mut self) -> Result<()> {
        for relay in &self.relays {
            relay.set_faults(Faults { percent: 0 });
        }
        while let Some(ended) = self.rivals.join_next().await {
            ended??;
        }
        while let Some(ended) = self.blows.join_next().await {
            ended??;
        }
        self.servers.iter().for_each(|place| place.order(Order::Heal));
        all(&self.servers, |doing| doing.heals)
            .await
            .map_err(|_| "some server does not start after the faults")?;
        self.clients.iter().for_each(|place| place.order(Order::Heal));
        all(&self.clients, |doing| doing.heals)
            .await
            .map_err(|_| "some client does not hear that all is healed")?;
        Ok(())
    }

    /// All calls end.
    async fn settle(&mut self) -> Result<()> {
        let unfinished = "some client has calls that do not end, long after the faults";
        all(&self.clients, |doing| doing.ready).await.map_err(|_| unfinished)?;
        // What the relays still hold arrives when its calls are long done; it must have no effect either.
        while self.relays.iter().any(Relay::holds_messages) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Everybody ends, the clients first.
    async fn dismiss(self) -> Result<(Counts, Option<Database>)> {
        for places in [self.clients, self.servers] {
            places.iter().for_each(|place| place.order(Order::Dismiss));
            let keepers: FuturesUnordered<_> = places.into_iter().map(|place| place.keeper).collect();
            let ended = keepers.map(|kept| kept?).try_collect::<()>();
            tokio::time::timeout(HEALING, ended).await.map_err(|_| "not everybody ended in time")??;
        }
        let mut counts = Counts::default();
        self.relays.iter().for_each(|relay| counts += relay.counts());
        let database = self.database.map(|database| Arc::into_inner(database).expect("no blow is under way"));
        Ok((counts, database.map(Mutex::into_inner)))
    }
}

/// Another process tries to open the file of a server that serves. It proves something only if that server has lived all the while.
async fn rival(arguments: Arguments, watched: watch::Receiver<Doing>, tally: Tally) -> Result<()> {
    let before = *watched.borrow();
    if !before.ready {
        return Ok(());
    }
    let folder: PathBuf = arguments.get("folder")?;
    let mut child = Child::start("rival", &arguments, &folder.join("rivals.err"))?;
    let mut said = String::new();
    while let Happened::Said(line) = child.happened().await? {
        said = line;
    }
    if *watched.borrow() != before {
        return Ok(());
    }
    match said.split_once(' ') {
        Some(("refused", why)) if why.contains(arguments.find("at").unwrap_or_default()) => {
            tally.lock().rivals_refused += 1;
        }
        _ => tally.violation(format!("a rival of a server for its file was not refused, but {said:?}")),
    }
    Ok(())
}
