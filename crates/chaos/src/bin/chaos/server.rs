//! A server's process: one life of one of three places.
//!
//! It says `listening tcp://…` once it does, then its counters ten times a second. It ends well when it is dismissed, and with [`STOPPED`] when its store has stopped: its
//! supervisor starts the next life then.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use selfsame::{Answer, Channel, Context, Fault, Outcome, Request, ServerHandle, sabotage};
use selfsame_chaos::api::ledger::ledger::{Add, AddAndNote, Assign, Look, Shout};
use selfsame_chaos::api::ledger::notes::Note;
use selfsame_chaos::api::ledger::{
    Ledger, LedgerServer, Notes, NotesClient, NotesServer, Wish, declined, receipt,
};
use selfsame_chaos::child::{self, Arguments};
use selfsame_chaos::intention::Intention;
use selfsame_chaos::{Result, log};
use selfsame_relay::Dice;
use tokio::signal::unix::{SignalKind, signal};

use crate::asked::{answer, is_final};
use crate::effects::Effects;
use crate::places;
use crate::store::StoreChoice;

/// The exit code of a server that could not start: an error that it has said.
pub const NOT_STARTED: u8 = 3;
/// The exit code of a server whose store has stopped.
pub const STOPPED: u8 = 4;

/// One life.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    // A full disk is an error of a write; by default it would be a signal that kills.
    let _ignored = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    sabotage::plant(places::bug(arguments)?);
    if let Some((point, pass)) = arguments.find("kill").and_then(|kill| kill.split_once(':')) {
        sabotage::kill_at(point, pass.parse()?);
    }
    let place = Place::new(arguments).await?;
    let store = StoreChoice::from_arguments(arguments)?;
    let server = match places::bind(store.open()).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("server: not started: {error}");
            return Ok(ExitCode::from(NOT_STARTED));
        }
    };
    let place = std::sync::Arc::new(place);
    let server = server.service(LedgerServer::new(place.clone())).service(NotesServer::new(place));
    println!("listening {}", server.endpoint());
    let handle = server.handle();
    let mut orders = child::orders();
    let dismissed = async { while orders.recv().await.is_some() {} };
    let served = tokio::select! {
        served = server.serve_until(dismissed) => served,
        never = report(&handle) => never,
    };
    println!("{}", line(&handle));
    if let Err(error) = served {
        eprintln!("server: stopped: {error}");
        return Ok(ExitCode::from(STOPPED));
    }
    Ok(ExitCode::SUCCESS)
}

/// A process that wants the file of a server which serves from it: it has to be turned away.
pub async fn rival(arguments: &Arguments) -> Result<ExitCode> {
    let served = match places::bind(StoreChoice::from_arguments(arguments)?.open()).await {
        Ok(server) => server.serve_until(tokio::time::sleep(Duration::from_millis(200))).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(()) => println!("let in"),
        Err(error) => println!("refused {error}"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn report<T>(handle: &ServerHandle) -> T {
    let mut often = tokio::time::interval(Duration::from_millis(100));
    loop {
        often.tick().await;
        println!("{}", line(handle));
    }
}

fn line(handle: &ServerHandle) -> String {
    let counters = handle.counters();
    format!(
        "counts executed={} replays={} joins={} refused={} sessions={} records={}",
        counters.executed,
        counters.replayed,
        counters.joined,
        counters.refused,
        counters.sessions,
        counters.records
    )
}

/// Where the handlers work.
struct Place {
    effects: Effects,
    /// The notes of another server.
    notes: NotesClient,
    dice: Mutex<Dice>,
}

/// How a handler may end before its effect.
enum Halt {
    Declined(u64),
    Unavailable,
}

impl Place {
    async fn new(arguments: &Arguments) -> Result<Place> {
        let endpoints: Vec<&str> = arguments.find("notes").ok_or("notes=… is missing")?.split(',').collect();
        let channel = Channel::builder().attempt_timeout(places::ATTEMPT_TIMEOUT);
        let (first, others) = endpoints.split_first().ok_or("no endpoint")?;
        let channel = others.iter().fold(channel, |channel, other| channel.replica(*other));
        let seed: u64 = arguments.get("seed")?;
        Ok(Place {
            effects: Effects::open(arguments)?,
            notes: NotesClient::new(channel.connect(first).await?),
            // The process id: two lives of a place must not draw the same tokens.
            dice: Mutex::new(Dice::new(seed, log::now())),
        })
    }

    fn draw(&self) -> (u64, bool) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        (dice.bits(), dice.once_in(2))
    }

    /// The first half of the work.
    async fn begin(&self, what: &Intention) -> std::result::Result<(), Halt> {
        let (token, heads) = self.draw();
        match what.wish {
            Wish::Decline => return Err(Halt::Declined(token)),
            Wish::Unavailable if heads => return Err(Halt::Unavailable),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(u64::from(what.pause) / 2)).await;
        Ok(())
    }

    /// The effect, and the second half of the work.
    async fn act(
        &self,
        call: &Context,
        what: &Intention,
        begun: u64,
    ) -> std::result::Result<u64, Fault<declined::Owned>> {
        let (token, _) = self.draw();
        let effect = log::Effect {
            call: what.call.clone(),
            nonce: call.nonce().to_string(),
            hash: what.hash(),
            begun,
            token,
        };
        self.effects.happen(call, effect).await.map_err(Fault::failed)?;
        sabotage::pass("effect-done");
        tokio::time::sleep(Duration::from_millis(u64::from(what.pause) / 2)).await;
        if what.wish == Wish::Fail {
            return Err(Fault::failed("as wished"));
        }
        Ok(token)
    }

    /// Leaves a note with another server, and may then stop half-way.
    async fn leave_note(
        &self,
        call: &Context,
        what: &Intention,
    ) -> std::result::Result<u64, Fault<declined::Owned>> {
        let note = self.notes.note(|p| what.note().write(p.init_what())).within(call).await;
        let note = note.map_err(|error| match (error.outcome(), answer(&error)) {
            (Outcome::No, _) => Fault::unavailable(error),
            // Asking again would tell no more.
            (_, answer) if is_final(&answer) => Fault::failed(error),
            _ => Fault::interrupted(error),
        })?;
        if what.wish == Wish::Interrupt && self.draw().1 {
            return Err(Fault::interrupted("as wished"));
        }
        Ok(note.get()?.get_receipt()?.get_token())
    }
}

impl Ledger for Place {
    async fn add(&self, request: Request<Add>) -> Answer<Add> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        if let Err(halt) = self.begin(&what).await {
            return Err(fault(halt, |token| request.decline(|mut no| no.set_token(token))));
        }
        let token = self.act(&request, &what, begun).await?;
        request.reply(|reply| fill(reply.init_receipt(), token, &what))
    }

    async fn add_and_note(&self, request: Request<AddAndNote>) -> Answer<AddAndNote> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        if let Err(halt) = self.begin(&what).await {
            return Err(fault(halt, |token| request.decline(|mut no| no.set_token(token))));
        }
        let note = self.leave_note(&request, &what).await?;
        let token = self.act(&request, &what, begun).await?;
        request.reply(|mut reply| {
            fill(reply.reborrow().init_receipt(), token, &what);
            fill(reply.init_note(), note, &what.note());
        })
    }

    async fn assign(&self, request: Request<Assign>) -> Answer<Assign> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        if let Err(halt) = self.begin(&what).await {
            return Err(fault(halt, |token| request.decline(|mut no| no.set_token(token))));
        }
        let token = self.act(&request, &what, begun).await?;
        request.reply(|reply| fill(reply.init_receipt(), token, &what))
    }

    async fn look(&self, request: Request<Look>) -> Answer<Look> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        if let Err(halt) = self.begin(&what).await {
            return Err(fault(halt, |token| request.decline(|mut no| no.set_token(token))));
        }
        let token = self.act(&request, &what, begun).await?;
        request.reply(|reply| fill(reply.init_receipt(), token, &what))
    }

    async fn shout(&self, request: Request<Shout>) -> Answer<Shout> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        if let Err(halt) = self.begin(&what).await {
            return Err(fault(halt, |token| request.decline(|mut no| no.set_token(token))));
        }
        let token = self.act(&request, &what, begun).await?;
        request.reply(|reply| fill(reply.init_receipt(), token, &what))
    }
}

impl Notes for Place {
    async fn note(&self, request: Request<Note>) -> Answer<Note> {
        let begun = log::now();
        let what = request.read(|p| Intention::read(p.get_what()?))?;
        let token = self.act(&request, &what, begun).await.map_err(Fault::failed)?;
        request.reply(|reply| fill(reply.init_receipt(), token, &what))
    }
}

fn fault(halt: Halt, decline: impl FnOnce(u64) -> Fault<declined::Owned>) -> Fault<declined::Owned> {
    match halt {
        Halt::Declined(token) => decline(token),
        Halt::Unavailable => Fault::unavailable("as wished"),
    }
}

fn fill(mut receipt: receipt::Builder<'_>, token: u64, what: &Intention) {
    receipt.set_token(token);
    let padding = receipt.init_padding(what.reply_size);
    padding.fill(token as u8);
}
