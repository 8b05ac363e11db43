//! Attacks before the handshake is done, by peers that never become one.
//!
//! Until then the victim keeps at most 1 KiB of what a stranger said, and his task: some 10 KiB each, so a few hundred of them are some MiB.

use futures::future::{join_all, try_join_all};

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told, few_at_once};
use crate::wire::{COMMAND, Wire, greeting, long_header, ready};

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!(
            "the-73-bytes",
            the_73_bytes,
            8,
            "a greeting and a header of 2^40 bytes, which abort the socket crate"
        ),
        attack!("garbage", garbage, 8, "other protocols, versions, mechanisms and socket types"),
        attack!(
            "huge-ready",
            huge_ready,
            8,
            "a READY, and other commands in its place, of lengths around each limit"
        ),
        attack!(
            "slow-loris",
            slow_loris,
            24,
            "silence, a greeting, a READY and a frame a byte at a time, by hundreds"
        ),
        attack!(
            "half-open",
            half_open,
            16,
            "connections whose other half says nothing any more, or has said goodbye"
        ),
        attack!("reconnect-storm", reconnect_storm, 24, "connections that come and go as fast as they can"),
    ]
}

/// Says it, and sees the end.
async fn ends(field: &Field, port: Port, said: &[u8]) -> Outcome {
    let mut wire = field.connect(port).await?;
    wire.say_in_vain(said).await;
    wire.hears_the_end().await?;
    Ok(Told::by(port.gate(&["refused"]), 1))
}

async fn the_73_bytes(field: &Field) -> Outcome {
    let mut told = Told::default();
    for port in Port::BOTH {
        for flags in [0, COMMAND] {
            let said = [&greeting()[..], &long_header(flags, 1 << 40)].concat();
            told = [told, ends(field, port, &said).await?].into_iter().sum();
        }
        let mut wire = field.join(port).await?;
        wire.say_in_vain(&long_header(0, 1 << 40)).await;
        wire.hears_the_end().await?;
        told = told.and(port.gate(&["frames_too_long"]), 1);
    }
    Ok(told)
}

async fn garbage(field: &Field) -> Outcome {
    let changed = |at: usize, to: &[u8]| {
        let mut greeting = greeting().to_vec();
        greeting[at..at + to.len()].copy_from_slice(to);
        greeting
    };
    let shown = |kind: &str| [&greeting()[..], &ready(kind, b"")].concat();
    let said = [
        b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        vec![0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3], // a TLS ClientHello
        vec![0; 4096],
        vec![0xff; 4096],
        changed(10, &[2]),
        changed(10, &[0]),
        changed(12, b"CURVE"),
        changed(12, b"PLAIN"),
        changed(63, &[1]).into_iter().chain(ready("PUSH", b"")).collect(),
        shown("PUSH"),
        shown("PUB"),
        shown("ROUTER"),
        shown(""),
        shown(&"X".repeat(200)),
        [&greeting()[..], b"\x04\x05\x04PING"].concat(),
        [&greeting()[..], b"\x04\x00"].concat(),
        [&greeting()[..], b"\x04\x0a\x05READY\x05a\0\0\0"].concat(),
        [&greeting()[..], b"\x04\x0b\x05READY\x01a\xff\xff\xff\xff"].concat(),
        [&greeting()[..], b"\x04\x07\x05ERROR\x00"].concat(),
    ];
    let strangers = Port::BOTH.iter().flat_map(|port| said.iter().map(|said| ends(field, *port, said)));
    Ok(few_at_once(strangers).await?.into_iter().sum())
}

async fn huge_ready(field: &Field) -> Outcome {
    // The longest READY has 1,024 bytes.
    let too_long = [1025, 1 << 16, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];
    let too_long =
        too_long.map(|length| [&greeting()[..], &long_header(COMMAND, length), &[b'R'; 2000]].concat());
    let no_ready = [0, 1, 1023, 1024].map(|length| {
        [&greeting()[..], &long_header(COMMAND, length), &vec![b'R'; length as usize]].concat()
    });
    let said = [&too_long[..], &no_ready[..]].concat();
    let strangers = Port::BOTH.iter().flat_map(|port| said.iter().map(|said| ends(field, *port, said)));
    Ok(few_at_once(strangers).await?.into_iter().sum())
}

/// Says it a byte at a time until the victim has enough of it.
async fn drips(wire: &mut Wire<'_>, said: &[u8]) -> Outcome {
    // Longer than a handshake may take.
    let pause = std::time::Duration::from_secs(12) / said.len() as u32;
    for byte in said {
        if wire.say(&[*byte]).await.is_err() {
            return Ok(Told::default());
        }
        tokio::time::sleep(pause).await;
    }
    Err("the victim listened to the very end".into())
}

async fn slow_loris(field: &Field) -> Outcome {
    let each = field.scaled(60);
    let stranger = async |port: Port, number: usize| {
        let mut wire = field.connect(port).await?;
        match number % 3 {
            0 => wire.hears_the_end().await?,
            1 => drop(drips(&mut wire, &greeting()).await?),
            _ => {
                wire.greet().await?;
                drips(&mut wire, &ready(port.peer(), b"slow")).await?;
            }
        }
        Ok(Told::by(port.gate(&["handshake_timeouts", "handshakes_crowded_out"]), 1)) as Outcome
    };
    // Meanwhile frames that never end: of those that have shaken hands nothing is promised but that they harm nobody.
    let half_a_frame = async |port: Port| {
        let mut wire = field.join(port).await?;
        wire.say(&long_header(0, 4000)).await?;
        loop {
            wire.say(&[7]).await?;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let strangers = Port::BOTH.iter().flat_map(|port| (0..3 * each).map(|number| stranger(*port, number)));
    let frames = join_all(Port::BOTH.iter().flat_map(|port| (0..each).map(|_| half_a_frame(*port))));
    tokio::select! {
        told = try_join_all(strangers) => Ok(told?.into_iter().sum()),
        // Each goes on until it is cut off, which is as well.
        ended = frames => { let _: Vec<Outcome> = ended; Err("the frames ended before the time-outs".into()) }
    }
}

async fn half_open(field: &Field) -> Outcome {
    use tokio::io::AsyncWriteExt;
    let stranger = async |port: Port, number: usize| {
        let mut wire = field.connect(port).await?;
        match number % 4 {
            0 => {}
            1 => wire.say(&greeting()[..30]).await?,
            2 => wire.greet().await?,
            _ => wire.shake(port.peer(), b"").await?,
        }
        wire.0.shutdown().await?;
        wire.hears_the_end().await?;
        let told = match number % 4 {
            3 => Told::default(), // an orderly end
            _ => Told::by(port.gate(&["refused"]), 1),
        };
        Ok(told) as Outcome
    };
    let count = field.scaled(100);
    let strangers = Port::BOTH.iter().flat_map(|port| (0..count).map(|number| stranger(*port, number)));
    Ok(few_at_once(strangers).await?.into_iter().sum())
}

async fn reconnect_storm(field: &Field) -> Outcome {
    let stormer = async |port: Port, number: usize| {
        let mut came = 0;
        while field.goes_on() {
            let Ok(mut wire) = field.connect(port).await else { continue };
            came += 1;
            // It goes by a reset: before the greeting, or as soon as it is a peer. One that is turned away comes again all the same.
            if (came + number).is_multiple_of(2) {
                let _ = wire.shake(port.peer(), b"storm").await;
            }
        }
        Told::by(port.gate(&["accepted"]), came as u64 / 2)
    };
    let count = field.scaled(16);
    let stormers = Port::BOTH.iter().flat_map(|port| (0..count).map(|number| stormer(*port, number)));
    Ok(join_all(stormers).await.into_iter().sum())
}
