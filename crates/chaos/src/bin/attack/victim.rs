//! The victim's process: an ordinary server and an ordinary publisher, with the defaults of the library.
//!
//! It answers `counts` with its counters, and `flood BYTES` when it has published so much.

use std::path::Path;
use std::time::Duration;

use selfsame::{Answer, GateCounters, Publisher, Request, Server, ServerHandle};
use selfsame_chaos::api::mark::mark::Post;
use selfsame_chaos::api::mark::{Beat, Flood, Mark, MarkServer};
use selfsame_chaos::child::{self, Arguments};
use selfsame_chaos::{Result, log};
use tokio::time::MissedTickBehavior;

use crate::secure::Certificates;

/// Between two events that the good client hears.
pub const BEAT: Duration = Duration::from_millis(10);
/// The size of an event of a flood.
const EVENT: usize = 16 * 1024;
/// Events of a flood in one go, of which there is one in a millisecond: 125 MiB a second. As fast as it can a program would hold up its own other events.
const BURST: usize = 8;

/// Serves until it is dismissed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let (mut server, mut publisher) = (Server::builder(), Publisher::builder());
    let mut endpoint = "tcp://127.0.0.1:0";
    if let Some(folder) = arguments.find("certificates") {
        let tls = Certificates::at(Path::new(folder)).of_victim();
        (server, publisher) = (server.tls(tls.clone()), publisher.tls(tls));
        endpoint = "tls://127.0.0.1:0";
    }
    let server = server.bind(endpoint).await?.service(MarkServer::new(Target));
    let publisher = publisher.bind(endpoint).await?;
    println!("ready server={} publisher={}", server.endpoint(), publisher.endpoint());
    let handle = server.handle();
    let mut orders = child::orders();
    let talking = async {
        while let Some(order) = orders.recv().await {
            let Some((number, order)) = order.split_once(' ') else { continue };
            match order.split_once(' ') {
                None if order == "counts" => println!("{number} {}", counts(&handle, &publisher)),
                Some(("flood", bytes)) => {
                    let (number, bytes) = (number.to_owned(), bytes.parse().unwrap_or(0));
                    tokio::spawn(flood(publisher.clone(), number, bytes));
                }
                _ => println!("{number} not understood"),
            }
        }
    };
    let beating = tokio::spawn(beat(publisher.clone()));
    server.serve_until(talking).await?;
    beating.abort();
    Ok(())
}

async fn beat(publisher: Publisher) -> Result<()> {
    let beats = publisher.topic::<Beat>();
    let mut often = tokio::time::interval(BEAT);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        often.tick().await;
        beats.publish(|mut event| event.set_sent(log::now())).await?;
    }
}

async fn flood(publisher: Publisher, number: String, bytes: usize) -> Result<()> {
    let flood = publisher.topic::<Flood>();
    let mut often = tokio::time::interval(Duration::from_millis(1));
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for event in 0..bytes.div_ceil(EVENT) {
        if event % BURST == 0 {
            often.tick().await;
        }
        flood.publish(|event| event.init_padding(EVENT as u32).fill(7)).await?;
    }
    println!("{number} published");
    Ok(())
}

fn counts(server: &ServerHandle, publisher: &Publisher) -> String {
    let (server, publisher) = (server.counters(), publisher.counters());
    [
        ("server.connections", server.connections as u64),
        ("server.executed", server.executed),
        ("server.replayed", server.replayed),
        ("server.refused", server.refused),
        ("server.shed", server.shed),
        ("server.malformed", server.malformed),
        ("server.unsent", server.unsent),
        ("server.sessions", server.sessions as u64),
        ("publisher.subscribers", publisher.subscribers),
        ("publisher.subscriptions", publisher.subscriptions),
        ("publisher.dropped_oldest", publisher.dropped_oldest),
        ("publisher.closed_subscriptions", publisher.closed_subscriptions),
        ("publisher.closed_garbage", publisher.closed_garbage),
        ("publisher.syncs", publisher.syncs),
        ("publisher.reserved", publisher.reserved),
    ]
    .into_iter()
    .map(|(name, count)| format!("{name}={count}"))
    .chain(gate("server", &server.gate))
    .chain(gate("publisher", &publisher.gate))
    .collect::<Vec<_>>()
    .join(" ")
}

fn gate(of: &str, gate: &GateCounters) -> impl Iterator<Item = String> {
    [
        ("accepted", gate.accepted),
        ("turned_away", gate.turned_away),
        ("turned_away_by_address", gate.turned_away_by_address),
        ("refused", gate.refused),
        ("insecure", gate.insecure),
        ("handshake_timeouts", gate.handshake_timeouts),
        ("handshakes_crowded_out", gate.handshakes_crowded_out),
        ("opened", gate.opened),
        ("broken", gate.broken),
        ("bad_flags", gate.bad_flags),
        ("frames_too_long", gate.frames_too_long),
        ("too_many_frames", gate.too_many_frames),
        ("messages_too_long", gate.messages_too_long),
        ("bad_commands", gate.bad_commands),
        ("too_many_commands", gate.too_many_commands),
        ("unfinished", gate.unfinished),
        ("buffers", gate.buffers),
        ("no_first_message", gate.no_first_message),
        ("idle", gate.idle),
        ("too_slow", gate.too_slow),
        ("accept_errors", gate.accept_errors),
    ]
    .map(|(name, count)| format!("{of}.gate.{name}={count}"))
    .into_iter()
}

/// The service.
struct Target;

impl Mark for Target {
    async fn post(&self, request: Request<Post>) -> Answer<Post> {
        let (number, size) = request.read(|p| Ok((p.get_number(), p.get_reply_size())))?;
        request.reply(|mut reply| {
            reply.set_number(number);
            reply.init_padding(size).fill(7);
        })
    }
}
