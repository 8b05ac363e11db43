//! Attacks by peers that speak selfsame's own protocol: stolen names, headers full of entries, headers that are none, hellos without end.
//!
//! A message's header has at most 256 KiB and 1,024 entries, and decoding costs some 2 MiB of memory for as long as it takes; a session that is never used costs 300 bytes.
//! Answers are bounded by what may be under way to one connection, 64 MiB: attackers that ask for more than they take get so much, each.

use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Entry};
use selfsame::protocol::{CallId, Key, Registration, WallTime};
use selfsame_chaos::Result;

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told};
use crate::peer::{Peer, encode, framed, header, hello, parameters};
use crate::wire::{Wire, message};

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!(
            "routing-id-theft",
            routing_id_theft,
            16,
            "many peers under the routing id of one that calls"
        ),
        attack!(
            "session-theft",
            session_theft,
            16,
            "registrations guessed and stolen, and their calls asked for from another connection"
        ),
        attack!("header-flood", header_flood, 320, "headers of as many entries as they may have"),
        attack!("undecodable", undecodable, 64, "headers and bodies that cannot be decoded"),
        attack!("hello-flood", hello_flood, 64, "hellos without end, on one connection and on many"),
        attack!("metadata", metadata, 64, "metadata at its limits and beyond"),
        attack!(
            "pointer-bomb",
            pointer_bomb,
            64,
            "small bodies whose pointers overlap: read once they are 64 MiB"
        ),
    ]
}

fn is_ours(entry: &Entry, number: u64) -> bool {
    matches!(entry, Entry::Reply(reply) if reply.id == CallId::Sequenced(number) && matches!(reply.answer, Answer::Ok(_)))
}

async fn routing_id_theft(field: &Field) -> Outcome {
    let named = async |name: &'static [u8]| {
        let mut wire = field.connect(Port::Server).await?;
        wire.shake(Port::Server.peer(), name).await?;
        Ok(wire) as Result<Wire<'static>>
    };
    // The gate numbers connections with 8 bytes: those are tried too.
    const NAME: &[u8] = b"the good one";
    const NUMBER: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
    let mut owner = Peer::greet(named(NAME).await?, None).await?;
    let mut thieves =
        try_join_all((0..field.scaled(40)).map(|at| named(if at % 2 == 0 { NAME } else { NUMBER }))).await?;
    let mut calls = 0;
    while calls < 100 || (field.goes_on() && calls < 10_000) {
        calls += 1;
        let call = owner.call(calls, parameters(100, 0));
        owner.say([Entry::Call(call)]).await?;
        if !is_ours(&owner.hear().await?, calls) {
            return Err("the owner of a routing id got something else than its reply".into());
        }
        if calls % 10 == 0 {
            let at = (calls / 10) as usize % thieves.len();
            thieves[at] = named(NAME).await?;
        }
    }
    for thief in &mut thieves {
        // What it hears first is the answer to its own PING: nothing else was sent to it.
        thief.say(&crate::wire::ping(b"mine")).await?;
        if thief.hear().await? != (crate::wire::COMMAND, b"\x04PONGmine".to_vec()) {
            return Err("a thief of a routing id was sent another's reply".into());
        }
    }
    Ok(Told::by("server.executed", calls))
}

async fn session_theft(field: &Field) -> Outcome {
    let mut owner = Peer::join(field).await?;
    let call = owner.call(1, parameters(100, 0));
    owner.say([Entry::Call(call.clone())]).await?;
    if !is_ours(&owner.hear().await?, 1) {
        return Err("the owner of a session got no reply".into());
    }
    let refusal = async |thief: &mut Peer, call| {
        thief.say([Entry::Call(call)]).await?;
        match thief.hear().await? {
            Entry::Reply(reply) => match reply.answer {
                Answer::Refused(refused) => Ok(refused.refusal),
                _ => Err("another's call was answered".into()),
            },
            other => Err(format!("no reply but {other:?}").into()) as Result<Refusal>,
        }
    };
    // Guessed: there is no such session, or it would be by chance in 2^128.
    let mut thief = Peer::join(field).await?;
    for guess in 1..100 {
        let guessed = selfsame::protocol::wire::Call {
            registration: Registration(owner.welcome.registration.0.wrapping_add(guess)),
            ..thief.call(1, parameters(100, 0))
        };
        if refusal(&mut thief, guessed).await? != Refusal::SessionUnknown {
            return Err("a guessed registration was taken for a session".into());
        }
    }
    // Stolen: whoever has it may resume the session, but its calls were made under another welcome, and are not his.
    let registration = owner.welcome.registration;
    let mut thief = Peer::greet(field.join(Port::Server).await?, Some(registration)).await?;
    let stolen = thief.call(1, parameters(100, 0));
    if refusal(&mut thief, stolen).await? != Refusal::SessionShared {
        return Err("a stolen session's call was not refused as shared".into());
    }
    let other_body = selfsame::protocol::wire::Call { body: parameters(200, 0), attempt: 2, ..call };
    if refusal(&mut thief, other_body).await? != Refusal::Mismatch {
        return Err("a stolen session's number was used for another call".into());
    }
    Ok(Told::by("server.refused", 101))
}

/// Before it comes again.
const REST: Duration = Duration::from_millis(250);

/// Says it again and again, reading what is answered, and comes again when it is cut off.
async fn floods(field: &Field, said: &[u8]) {
    while field.goes_on() {
        let Ok(mut wire) = field.join(Port::Server).await else { return };
        while field.goes_on() && wire.say_and_read(said).await {}
        field.meanwhile(tokio::time::sleep(REST)).await;
    }
}

async fn flood_by_many(field: &Field, said: &[u8]) {
    join_all((0..field.scaled(4)).map(|_| floods(field, said))).await;
}

async fn header_flood(field: &Field) -> Outcome {
    const CALL: u16 = 3;
    const ACK: u16 = 6;
    const PING: u16 = 7;
    let told = field.owes(Told::by("server.malformed", 1));
    // As many as a header may have; and acknowledgements, which are not answered, with a ping after them that is.
    let pings = message(&[header(PING, 1024)]);
    let calls = message(&[header(CALL, 1024)]);
    let acks = [message(&[header(ACK, 1024)]), message(&[header(PING, 1)])].concat();
    // One more.
    let too_many = message(&[header(PING, 1025)]);
    join_all([pings, calls, acks, too_many].iter().map(|said| floods(field, said))).await;
    Ok(told)
}

async fn undecodable(field: &Field) -> Outcome {
    let peer = Peer::join(field).await?;
    let garbage = Bytes::from_static(&[0xff; 1000]);
    let bad_body = encode((1..100).map(|number| Entry::Call(peer.call(number, garbage.slice(..64)))))?;
    let said = [
        message(&[&[0xff; 64]]),
        message(&[vec![0xff; 300 << 10]]),
        message(&[&[0u8; 8][..], &[1; 8]]),
        message(&vec![vec![0; 8]; 1025]),
        [message(&[b"x"]), message(&[b""])].concat(),
        bad_body,
    ];
    // How many more depends on how fast a busy machine reads them.
    let told = field.owes(Told::by("server.malformed", said.len() as u64));
    join_all(said.iter().map(|said| floods(field, said))).await;
    Ok(told)
}

async fn hello_flood(field: &Field) -> Outcome {
    let hellos = encode((0..250).map(|id| hello(id, None)))?;
    let resuming = encode((0..250).map(|id| hello(id, Some(Registration(u128::from(id) + 1)))))?;
    let told = field.owes(Told::by("server.sessions", 64));
    futures::join!(flood_by_many(field, &hellos), flood_by_many(field, &resuming));
    // Whoever else comes now is welcome all the same.
    let newcomer = async { Peer::greet(field.join_as_another(Port::Server).await?, None).await };
    newcomer.await.map_err(|error| format!("a newcomer: {error}"))?;
    Ok(told)
}

async fn metadata(field: &Field) -> Outcome {
    let mut peer = Peer::join(field).await?;
    let named = |count: usize, length: usize| -> Vec<(String, Bytes)> {
        (0..count).map(|at| (format!("name {at}"), Bytes::from(vec![7; length]))).collect()
    };
    let mut number = 0;
    let mut refused = 0;
    // Up to 64 names and 8 KiB are taken.
    for (metadata, taken) in
        [(named(64, 100), true), (named(1, 8000), true), (named(65, 1), false), (named(1, 9000), false)]
    {
        number += 1;
        let call = selfsame::protocol::wire::Call { metadata, ..peer.call(number, parameters(1, 0)) };
        let mut encoder = generous();
        encoder.push(Entry::Call(call)).map_err(|not_taken| not_taken.message)?;
        peer.wire.say(&message(&encoder.finish())).await?;
        let answered = is_ours(&peer.hear().await?, number);
        if answered != taken {
            return Err(format!("metadata number {number}: taken is {answered}, should be {taken}").into());
        }
        refused += u64::from(!taken);
    }
    let call = selfsame::protocol::wire::Call { metadata: named(60, 3000), ..peer.call(9, parameters(1, 0)) };
    let mut encoder = generous();
    encoder.push(Entry::Call(call)).map_err(|not_taken| not_taken.message)?;
    flood_by_many(field, &message(&encoder.finish())).await;
    Ok(Told::by("server.malformed", refused))
}

/// Encodes what the victim does not take.
fn generous() -> selfsame::protocol::wire::Encoder {
    use selfsame::protocol::wire::{Encoder, Limits};
    Encoder::new(Limits {
        header: 1 << 24,
        metadata_bytes: 1 << 24,
        metadata_count: 1 << 20,
        ..Limits::default()
    })
}

async fn pointer_bomb(field: &Field) -> Outcome {
    let bombs = async |keyed: bool| {
        let mut number = 0;
        while field.goes_on() {
            let mut peer = Peer::join(field).await?;
            while field.goes_on() {
                number += 1;
                let mut call = peer.call(number, bomb());
                if keyed {
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis()
                        as u64;
                    let key = u128::from(now) << 64 | u128::from(number);
                    call.id =
                        CallId::Keyed(Key { key, issued: WallTime(now), expiry: WallTime(now + 60_000) });
                }
                let hears = async {
                    peer.say([Entry::Call(call)]).await?;
                    peer.hear().await
                };
                if hears.await.is_err() {
                    break;
                }
            }
        }
        Ok(()) as Result<()>
    };
    let told = field.owes(Told::by("server.refused", 1));
    try_join_all([false, true, false, true].map(bombs)).await?;
    Ok(told)
}

/// A message of some KiB: a list of lists of pointers, each of which points to the next list as a whole.
fn bomb() -> Bytes {
    const WIDE: u32 = 180;
    const DEEP: u32 = 3;
    let list_pointer =
        |offset: u32, kind: u64, count: u32| 1 | u64::from(offset) << 2 | kind << 32 | u64::from(count) << 35;
    // The root is a struct of no data and two pointers, the second of which is the parameter `padding`: what it points to is a list all the same.
    let mut words: Vec<u64> = vec![2 << 48, 0];
    words.push(list_pointer(0, 6, WIDE));
    for level in 0..DEEP {
        for at in 0..WIDE {
            // From the word after this pointer to the first of the next level.
            let offset = WIDE - at - 1;
            words.push(if level + 1 < DEEP {
                list_pointer(offset, 6, WIDE)
            } else {
                list_pointer(offset, 2, 8)
            });
        }
    }
    words.push(0x0707_0707_0707_0707);
    framed(&words)
}
