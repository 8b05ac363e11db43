//! A way through the world, told so that a person can follow it, and played again.

use selfsame::protocol::store::Op;

use crate::client::{self, Told};
use crate::explore::Space;
use crate::message::{Message, Way, answer, name};
use crate::server::{self, Phase, Taken};
use crate::world::{Event, State, World};

/// Plays events from the start.
///
/// # Errors
/// The number of the event that was not possible, from 1.
pub fn play(world: &mut World, events: &[Event]) -> Result<Option<&'static str>, usize> {
    let mut state = world.start();
    for (event, number) in events.iter().zip(1_usize..) {
        state = next(world, &state, *event).ok_or(number)?;
        if let Some(promise) = world.broken(&state) {
            return Ok(Some(promise));
        }
    }
    Ok(None)
}

/// The state after an event, if it may happen: its message is on its way, its run is there.
fn next(world: &mut World, state: &State, event: Event) -> Option<State> {
    let mut possible = Vec::new();
    world.events(state, &mut possible);
    if possible.contains(&event) { world.after(state, event) } else { None }
}

/// A line for each event, as far as they are possible.
pub fn told(world: &mut World, events: &[Event]) -> Vec<String> {
    let mut state = world.start();
    let mut lines = Vec::new();
    for event in events {
        let Some(after) = next(world, &state, *event) else {
            lines.push(format!("not possible: {event:?}"));
            break;
        };
        lines.push(line(world, &state, &after, *event));
        state = after;
    }
    lines
}

fn line(world: &World, before: &State, after: &State, event: Event) -> String {
    let mut line = what(world, before, event);
    for client in 0..2 {
        for (call, told) in conclusions(world, before, after, client) {
            line += &format!("; the caller of call {} is told {told:?}", call + 1);
        }
    }
    let news: Vec<_> = world.sent(before, after).into_iter().map(ToString::to_string).collect();
    if !news.is_empty() {
        line += &format!(" -> {}", news.join("; "));
    }
    line
}

fn conclusions(world: &World, before: &State, after: &State, client: u8) -> Vec<(usize, Told)> {
    let (before, after) = (world.client(before, client).told, world.client(after, client).told);
    (0..2)
        .filter(|&call| before[call] != after[call] && !matches!(after[call], Told::Nothing | Told::Waits))
        .map(|call| (call, after[call]))
        .collect()
}

/// A server process by its letter.
pub fn letter(server: u8) -> char {
    char::from(b'A' + server)
}

fn what(world: &World, state: &State, event: Event) -> String {
    match event {
        Event::Client(client, input) => {
            let who = format!("client {}", client + 1);
            match input {
                client::Input::Start(call) => format!("{who}: call {} is made", call + 1),
                client::Input::Dial(server) => format!("{who}: a new connection to {}", letter(server)),
                client::Input::Timer => format!("{who}: the time of an attempt is up"),
                client::Input::Deadline(call) => format!("{who}: the deadline of call {} passes", call + 1),
                client::Input::Drop(call) => format!("{who}: call {} is dropped", call + 1),
                client::Input::Take(message) => format!("{who} gets {}", world.message(message)),
            }
        }
        Event::Server(server, input) => {
            let who = letter(server);
            let node = world.server(state, server);
            match input {
                server::Input::Take(message, taken, _) => {
                    let from = match world.message(message) {
                        Message { way: Way::Up { client, .. }, .. } => client + 1,
                        Message { way: Way::Down { .. }, .. } => 0,
                    };
                    let how = match taken {
                        Taken::Free => "",
                        Taken::Queued => ", no handler is free",
                        Taken::Shed => ", there is no room",
                    };
                    format!("{who} gets from client {from} {}{how}", world.message(message))
                }
                server::Input::Tell(at) => {
                    format!("{who} hears from the store: {:?}", node.done[at as usize].1)
                }
                server::Input::Tick => format!("{who}: it is time to ask the store again"),
                server::Input::Clock(to) => format!("{who}: the wall clock steps to {}", server::wall(to).0),
                server::Input::Evict(at) => {
                    format!("{who}: the session R{} was idle for too long", node.sessions[at as usize].0)
                }
                server::Input::Begin(at) => format!("{who}: a handler is free for {}", run(node, at)),
                server::Input::Late(at) => {
                    format!("{who}: no handler was free in time for {}", run(node, at))
                }
                server::Input::Work(at, effect) => format!("{who}: effect {effect} of {}", run(node, at)),
                server::Input::Answer(at) => format!("{who}: the handler answers {}", run(node, at)),
                server::Input::Decline(at) => {
                    format!("{who}: the handler does nothing for {}", run(node, at))
                }
            }
        }
        Event::Crash(server, done) => {
            format!("{} crashes after {done} operations of its store, and starts again", letter(server))
        }
        Event::Store(server, at, luck) => {
            let (_, op) = &world.server(state, server).asked[at as usize];
            format!("the store does for {}: {} ({luck:?})", letter(server), operation(op))
        }
        Event::Lands(true) => "the commit in doubt lands".into(),
        Event::Lands(false) => "the commit in doubt was rolled back".into(),
        Event::Idle(at) => format!("the store ends its session number {}: it was idle", at + 1),
        Event::Copy => "client 1 is copied: client 2".into(),
        Event::Resume => "client 1 dies; client 2 resumes its call by its key".into(),
    }
}

fn run(node: &server::Node, at: u8) -> String {
    let run = &node.runs[at as usize];
    let phase = match run.phase {
        Phase::Queued => "in the queue",
        Phase::Waits => "that waits for the store",
        Phase::Runs => "that runs",
        Phase::Worked(_) => "that has worked",
    };
    format!("intention {} {phase}", run.purpose + 1)
}

fn operation(op: &Op) -> String {
    match op {
        Op::Register { registration, .. } => format!("register {}", name(*registration)),
        Op::Resume { registration, .. } => format!("resume {}", name(*registration)),
        Op::Claim(intent) => format!("claim {:?} of intention {}", intent.id, intent.imprint.digest + 1),
        Op::Settle(intent) => format!("settle {:?}", intent.id),
        Op::Finish { intent, keep, .. } => match keep {
            Some(keep) => format!("finish {:?} with {}", intent.id, answer(keep)),
            None => format!("remove {:?}", intent.id),
        },
        Op::Close { registration, below, ranges } => {
            format!("close {} below {below} and {ranges:?}", name(*registration))
        }
        other => format!("{other:?}"),
    }
}
