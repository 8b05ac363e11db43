//! Attacks by subscribers: those that do not read, and those that subscribe without end.
//!
//! For one subscriber 1 MiB of events waits, and 256 KiB are handed to its socket; a subscription costs at most some 700 bytes, and one connection has at most 1,024.

use futures::future::{join_all, try_join_all};
use selfsame_chaos::Result;

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told};
use crate::wire::{MORE, Wire, frame};

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!("never-reads", never_reads, 32, "subscribers that never read while 1 GB is published"),
        attack!("subscriptions", subscriptions, 32, "100,000 subscriptions of a connection, and of many"),
        attack!(
            "no-subscriptions",
            no_subscriptions,
            16,
            "messages to a publisher that are no subscriptions"
        ),
        attack!("sync-flood", sync_flood, 32, "requests for the last numbers, as fast as they go"),
    ]
}

fn subscription(prefix: &[u8]) -> Vec<u8> {
    frame(0, &[b"\x01", prefix].concat())
}

async fn never_reads(field: &Field) -> Outcome {
    let deaf = async || {
        let mut wire = field.join(Port::Publisher).await?;
        wire.say(&subscription(b"mark.flood/")).await?;
        wire.is_heard().await?;
        Ok(wire) as Result<Wire<'static>>
    };
    let _deaf = try_join_all((0..field.scaled(20)).map(|_| deaf())).await?;
    // In pieces: the line to the victim is not patient.
    for _ in 0..10 {
        field.victim.ask(&format!("flood {}", field.scaled(100_000_000))).await?;
    }
    Ok(Told::by("publisher.dropped_oldest", 1000))
}

async fn subscriptions(field: &Field) -> Outcome {
    let many = async |prefix: &'static str| {
        let mut wire = field.join(Port::Publisher).await?;
        let said: Vec<u8> =
            (0..100_000).flat_map(|at| subscription(format!("{prefix}{at}").as_bytes())).collect();
        wire.say_in_vain(&said).await;
        wire.hears_the_end().await
    };
    let same = async || {
        let mut wire = field.join(Port::Publisher).await?;
        wire.say(&subscription(b"mark.beat/").repeat(10_000)).await?;
        Ok(()) as Result<()>
    };
    try_join_all((0..4).map(|_| same())).await?;
    let count = field.scaled(8);
    try_join_all((0..count).map(|_| many("mark."))).await?;
    let mut long = field.join(Port::Publisher).await?;
    long.say(&subscription(&[b'm'; 513])).await?;
    long.hears_the_end().await?;
    Ok(Told::by("publisher.closed_subscriptions", count as u64 + 1))
}

async fn no_subscriptions(field: &Field) -> Outcome {
    let said = [
        frame(0, b""),
        frame(0, b"\x02"),
        frame(0, &[7; 4000]),
        [frame(MORE, b"\x01a"), frame(0, b"b")].concat(),
    ];
    let peers = said.iter().map(|said| async move {
        let mut wire = field.join(Port::Publisher).await?;
        wire.say(said).await?;
        wire.hears_the_end().await
    });
    try_join_all(peers).await?;
    Ok(Told::by("publisher.closed_garbage", said.len() as u64))
}

async fn sync_flood(field: &Field) -> Outcome {
    let syncs: Vec<u8> =
        (0..1000_u64).flat_map(|at| subscription(format!("selfsame/sync/{at:016x}").as_bytes())).collect();
    let asks = async || {
        while field.goes_on() {
            let Ok(mut wire) = field.join(Port::Publisher).await else { return };
            wire.say_in_vain(&subscription(b"")).await;
            while let Some(Ok(())) = field.meanwhile(wire.say(&syncs)).await {}
        }
    };
    let told = field.owes(Told::by("publisher.syncs", 1));
    join_all((0..field.scaled(4)).map(|_| asks())).await;
    Ok(told)
}
