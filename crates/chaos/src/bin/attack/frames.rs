//! Attacks after the handshake, by frames and commands that no honest peer sends.
//!
//! A message is held until it is whole: at most 32 MiB by default, once in the socket crate and once on its way there. What is too long is never held.

use futures::future::{join_all, try_join_all};

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told, few_at_once};
use crate::wire::{COMMAND, LONG, MORE, frame, long_header, ping};

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!(
            "frame-lengths",
            frame_lengths,
            160,
            "each frame length near each limit, in the short and the long form"
        ),
        attack!(
            "endless-frames",
            endless_frames,
            160,
            "messages of frames without end: empty, small and large ones"
        ),
        attack!(
            "long-messages",
            long_messages,
            448,
            "many peers that send a message as long as may be, and then nothing"
        ),
        attack!("flags", flags, 8, "each of the 256 flags that a frame can have"),
        attack!("commands", commands, 8, "commands that nobody asked for, and PINGs that are none"),
        attack!("ping-flood", ping_flood, 16, "PINGs as fast as they go, their PONGs read"),
        attack!("ping-flood-unread", ping_flood_unread, 16, "PINGs as fast as they go, and not a PONG read"),
        attack!("small-messages", small_messages, 64, "empty messages as fast as they go"),
    ]
}

/// The longest frame that an endpoint takes by default.
fn frame_limit(port: Port) -> u64 {
    match port {
        Port::Server => 16 << 20,
        Port::Publisher => 4 << 10,
    }
}

/// A peer that says it is cut off.
async fn is_cut_off(field: &Field, port: Port, said: &[u8], counter: &str) -> Outcome {
    let mut wire = field.join(port).await?;
    wire.say_in_vain(said).await;
    wire.hears_the_end().await?;
    Ok(Told::by(port.gate(&[counter]), 1))
}

async fn frame_lengths(field: &Field) -> Outcome {
    let mut told = Told::default();
    for port in Port::BOTH {
        let limit = frame_limit(port);
        for length in [0, 1, 255, 256, limit - 1, limit] {
            // Whatever it means above the frames, the gate takes it. The publisher closes whoever sends something else than a subscription.
            let mut wire = field.join(port).await?;
            wire.say(&long_header(0, length)).await?;
            let mut body = vec![0xff; length as usize];
            body.first_mut().into_iter().for_each(|first| *first = 0);
            wire.say_in_vain(&body).await;
            match port {
                Port::Server => wire.is_heard().await?,
                Port::Publisher if (1..=limit).contains(&length) => wire.is_heard().await?,
                Port::Publisher => wire.hears_the_end().await?,
            }
        }
        let too_long = [limit + 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];
        let bodies = too_long.iter().flat_map(|length| [long_header(0, *length), long_header(MORE, *length)]);
        let bodies =
            bodies.map(|said| async move { is_cut_off(field, port, &said, "frames_too_long").await });
        told = few_at_once(bodies).await?.into_iter().chain([told]).sum();
        let commands = [0, 24, 255, 256].iter().chain(&too_long).map(|length| long_header(COMMAND, *length));
        let commands =
            commands.map(|said| async move { is_cut_off(field, port, &said, "bad_commands").await });
        told = few_at_once(commands).await?.into_iter().chain([told]).sum();
        // The longest PING, then one byte more.
        let mut wire = field.join(port).await?;
        wire.say(&ping(&[7; 16])).await?;
        wire.is_heard().await?;
        told = [told, is_cut_off(field, port, &ping(&[7; 17]), "bad_commands").await?].into_iter().sum();
    }
    Ok(told)
}

async fn endless_frames(field: &Field) -> Outcome {
    let endless = async |port: Port, length: usize, counter: &'static str| {
        let mut wire = field.join(port).await?;
        let frames = frame(MORE, &vec![0; length]).repeat((64 << 10) / (length + 9) + 1);
        // It is cut off long before 64 MiB, or 256,000 frames, were said.
        for _ in 0..1024 {
            if wire.say(&frames).await.is_err() {
                break;
            }
        }
        wire.hears_the_end().await?;
        Ok(Told::by(port.gate(&[counter]), 1)) as Outcome
    };
    let cases = [
        (Port::Server, 0, "too_many_frames"),
        (Port::Server, 1, "too_many_frames"),
        (Port::Server, 64 << 10, "messages_too_long"),
        (Port::Publisher, 0, "too_many_frames"),
        (Port::Publisher, 100, "messages_too_long"),
        (Port::Publisher, 4096, "messages_too_long"),
    ];
    let peers = cases.map(|(port, length, counter)| endless(port, length, counter));
    Ok(few_at_once(peers).await?.into_iter().sum())
}

/// What a message has stretched stays so; for all together 256 MiB may, and one is on its way.
async fn long_messages(field: &Field) -> Outcome {
    let length = frame_limit(Port::Server);
    let (peers, allowed) = (field.scaled(64).max(24), (256 << 20) / length);
    let told = field.owes(Told::by(Port::Server.gate(&["buffers"]), peers as u64 - allowed));
    let body = vec![0; length as usize];
    let mut wires = Vec::new();
    for _ in 0..peers {
        let mut wire = field.join(Port::Server).await?;
        wire.say(&long_header(0, length)).await?;
        wire.say(&body).await?;
        wire.is_heard().await?;
        wires.push(wire);
    }
    field.over().await;
    Ok(told)
}

async fn flags(field: &Field) -> Outcome {
    let unknown =
        |flags: u8| flags & !(MORE | LONG | COMMAND) != 0 || flags & (COMMAND | MORE) == COMMAND | MORE;
    let mut told = Told::default();
    for port in Port::BOTH {
        let peers = (0..=255).filter(|flags| unknown(*flags)).map(|flags| async move {
            is_cut_off(field, port, &[flags, 0, 0, 0, 0, 0, 0, 0, 0], "bad_flags").await
        });
        told = few_at_once(peers).await?.into_iter().chain([told]).sum();
    }
    Ok(told)
}

async fn commands(field: &Field) -> Outcome {
    let bodies: [&[u8]; 9] = [
        b"\x04PANG",
        b"\x04PING",
        b"\x04PING\x00",
        b"\x05READY",
        b"\x05ERROR\x00",
        b"\x09SUBSCRIBEtopic",
        b"\x06CANCELtopic",
        b"\x00",
        b"\xff",
    ];
    let peers = Port::BOTH.iter().flat_map(|port| {
        bodies.iter().map(move |body| async move {
            is_cut_off(field, *port, &frame(COMMAND, body), "bad_commands").await
        })
    });
    Ok(few_at_once(peers).await?.into_iter().sum())
}

/// Says the same until it is cut off, and comes again as long as the attack goes on. However busy the machine is, it is cut off once.
async fn floods(field: &Field, port: Port, said: &[u8], reads: bool) {
    loop {
        let Ok(mut wire) = field.join(port).await else { return };
        while match reads {
            true => wire.say_and_read(said).await,
            false => wire.say(said).await.is_ok(),
        } {}
        if !field.goes_on() {
            return;
        }
    }
}

async fn flood_all(field: &Field, said: &[u8], reads: bool, ports: &[Port]) {
    let count = field.scaled(4);
    join_all(ports.iter().flat_map(|port| (0..count).map(|_| floods(field, *port, said, reads)))).await;
}

async fn ping_flood(field: &Field) -> Outcome {
    flood_all(field, &ping(b"sixteen bytes of").repeat(1000), true, &Port::BOTH).await;
    Ok(Port::BOTH.iter().map(|port| Told::by(port.gate(&["too_many_commands"]), 1)).sum())
}

async fn ping_flood_unread(field: &Field) -> Outcome {
    flood_all(field, &ping(b"sixteen bytes of").repeat(1000), false, &Port::BOTH).await;
    Ok(Port::BOTH.iter().map(|port| Told::by(port.gate(&["too_many_commands"]), 1)).sum())
}

async fn small_messages(field: &Field) -> Outcome {
    // Each once: what has come of them before the connection is closed is to be gone through all the same.
    let said = frame(0, b"").repeat(1000);
    let floods = (0..4).map(|_| async {
        let mut wire = field.join(Port::Server).await?;
        while wire.say_and_read(&said).await {}
        wire.hears_the_end().await
    });
    try_join_all(floods).await?;
    field.over().await;
    Ok(Told::by("server.malformed", 4 * 16))
}
