//! Attacks by clients that do not read what they asked for.
//!
//! To one connection 64 MiB may be under way and to all together 512, and of replies 16 MiB are kept for a session and 256 for all; the rest of a cap is for copies on
//! their way.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use selfsame::protocol::wire::{Call, Entry};
use selfsame_chaos::Result;

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told};
use crate::peer::{Peer, header, parameters};
use crate::wire::message;

/// Between two calls of all clients together.
const PACE: Duration = Duration::from_millis(2);
/// Calls in one message.
const BATCH: u64 = 64;

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!("unread-replies", unread_replies, 200, "a client that asks for large replies and reads none"),
        attack!(
            "many-unread-replies",
            many_unread_replies,
            832,
            "many clients that ask for large replies and read none"
        ),
        attack!("unread-pongs", unread_pongs, 120, "a client that pings as selfsame does, and reads no pong"),
        attack!("many-unread-pongs", many_unread_pongs, 576, "many such clients"),
        attack!("call-flood", call_flood, 64, "clients that call as fast as they can"),
    ]
}

/// Asks for so many replies of a size, and reads none, until it is cut off or the time is over.
async fn asks_in_vain(field: &Field, calls: u64, pace: Duration) -> Result<()> {
    let mut peer = Peer::join(field).await?;
    let body: Bytes = parameters(1 << 20, 0);
    for number in 1..=calls {
        let call = peer.call(number, body.clone());
        let Some(Ok(())) = field.meanwhile(peer.say([Entry::Call(call)])).await else { break };
        // It is the replies that are to hurt, not how fast they are made.
        tokio::time::sleep(pace).await;
    }
    field.over().await;
    Ok(())
}

async fn unread_replies(field: &Field) -> Outcome {
    let told = field.owes(Told::by("server.shed|server.unsent|server.gate.too_slow", 1));
    asks_in_vain(field, 200, PACE).await?;
    Ok(told)
}

async fn many_unread_replies(field: &Field) -> Outcome {
    let count = field.scaled(16);
    let told = field.owes(Told::by("server.shed|server.unsent|server.gate.too_slow", 1));
    let askers = (0..count).map(|_| asks_in_vain(field, 100, count as u32 * PACE));
    try_join_all(askers).await?;
    Ok(told)
}

/// Says what is answered, and reads no answer.
async fn pings_in_vain(field: &Field) -> Result<()> {
    let pings = message(&[header(7, 256)]);
    let mut wire = field.join(Port::Server).await?;
    while let Some(Ok(())) = field.meanwhile(wire.say(&pings)).await {}
    field.over().await;
    Ok(())
}

async fn unread_pongs(field: &Field) -> Outcome {
    let told = field.owes(Told::by("server.unsent|server.gate.too_slow", 1));
    pings_in_vain(field).await?;
    Ok(told)
}

async fn many_unread_pongs(field: &Field) -> Outcome {
    let told = field.owes(Told::by("server.unsent|server.gate.too_slow", 1));
    try_join_all((0..field.scaled(4)).map(|_| pings_in_vain(field))).await?;
    Ok(told)
}

async fn call_flood(field: &Field) -> Outcome {
    let calls = async || {
        let mut peer = Peer::join(field).await?;
        let mut number = 1;
        while field.goes_on() {
            let calls: Vec<_> =
                (number..number + BATCH).map(|number| peer.call(number, parameters(0, 0))).collect();
            peer.say(calls.into_iter().map(|call| Entry::Call(Call { acked_below: number, ..call }))).await?;
            for _ in 0..BATCH {
                peer.hear().await?;
            }
            number += BATCH;
        }
        Ok(number - 1) as Result<u64>
    };
    let made = try_join_all((0..field.scaled(4)).map(|_| calls())).await?;
    Ok(Told::by("server.executed", made.iter().sum()))
}
