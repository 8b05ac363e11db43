//! Attacks on encryption and authentication, over TLS alone: wrong certificates or none, what is no TLS, another version of it, stolen sessions of another principal.
//!
//! A handshake costs some 50 KiB while it lasts, and a connection some 24; hundreds are a few MiB.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{join_all, try_join_all};
use selfsame::protocol::wire::{Answer, Call, Entry};
use selfsame::protocol::{CallId, Key, Refusal, WallTime};
use tokio::io::AsyncWriteExt;

use crate::corpus::{Attack, attack};
use crate::field::{Field, Outcome, Port, Told, few_at_once};
use crate::peer::{Peer, encode, parameters};
use crate::secure::Who;
use crate::wire::{Wire, greeting, ready};

pub fn attacks() -> Vec<Attack> {
    vec![
        attack!(
            "wrong-certificates",
            wrong_certificates,
            16,
            "clients without a certificate, with an expired one, with a foreign one"
        ),
        attack!("no-tls", no_tls, 16, "plain ZMTP, and garbage, where TLS is spoken"),
        attack!(
            "other-versions",
            other_versions,
            16,
            "TLS 1.2, and what asks for a renegotiation in TLS 1.3"
        ),
        attack!(
            "truncation",
            truncation,
            16,
            "connections that are cut in the middle of a message, without TLS's farewell"
        ),
        attack!("principal-theft", principal_theft, 16, "another principal's sessions and keyed calls"),
        attack!(
            "handshake-flood",
            handshake_flood,
            48,
            "TLS handshakes as fast as they go, and first halves of them"
        ),
    ]
}

async fn wrong_certificates(field: &Field) -> Outcome {
    let wrong = async |port: Port, who: Who| {
        // In TLS 1.3 a client learns only after its handshake that it is refused.
        if let Ok(mut wire) = field.connect_as(who, port).await {
            wire.say_in_vain(&greeting()).await;
            wire.say_in_vain(&ready(port.peer(), b"")).await;
            if wire.hear().await.is_ok() {
                return Err(format!("{who:?} was let in").into());
            }
        }
        Ok(Told::by(port.gate(&["insecure"]), 1)) as Outcome
    };
    let attackers = Port::BOTH
        .iter()
        .flat_map(|port| [Who::Nobody, Who::Expired, Who::Foreign].map(|who| wrong(*port, who)));
    Ok(few_at_once(attackers).await?.into_iter().sum())
}

async fn is_cut_off(field: &Field, port: Port, said: &[u8]) -> Outcome {
    let mut wire = Wire(Box::new(Wire::dial(field.new_host(), field.address(port)).await?));
    wire.say_in_vain(said).await;
    wire.hears_the_end().await?;
    Ok(Told::by(port.gate(&["insecure"]), 1))
}

async fn no_tls(field: &Field) -> Outcome {
    let said = [
        [&greeting()[..], &ready("DEALER", b"")].concat(),
        b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n".to_vec(),
        vec![0xff; 20_000],
        vec![0; 20_000],
        vec![0x16, 3, 1, 0xff, 0xff],       // a record longer than any
        vec![0x16, 3, 1, 0, 4, 9, 0, 0, 0], // no such handshake message
        vec![0x17, 3, 3, 0, 1, 0],          // data before a handshake
        vec![0x15, 3, 3, 0, 2, 2, 40],      // an alert
    ];
    let attackers = Port::BOTH.iter().flat_map(|port| said.iter().map(|said| is_cut_off(field, *port, said)));
    Ok(few_at_once(attackers).await?.into_iter().sum())
}

/// A ClientHello of TLS 1.2: no extension says that 1.3 is spoken.
fn hello_of_tls_12() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 4, 0xc0, 0x2f, 0xc0, 0x2b]); // ECDHE with AES-GCM
    hello.extend([1, 0]); // no compression
    hello.extend([0, 22]); // extensions: groups, signature algorithms
    hello.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    hello.extend([0, 13, 0, 10, 0, 8, 4, 3, 8, 4, 4, 1, 8, 7]);
    let handshake = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    [&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat()
}

async fn other_versions(field: &Field) -> Outcome {
    let mut told = Told::default();
    for port in Port::BOTH {
        told = [told, is_cut_off(field, port, &hello_of_tls_12()).await?].into_iter().sum();
        // TLS 1.3 knows no renegotiation: another hello on a connection that stands is an error, encrypted or not.
        let mut stream = field.secure_stream(Who::Mallory, port).await?;
        stream.get_mut().0.write_all(&hello_of_tls_12()).await?;
        Wire(Box::new(stream)).hears_the_end().await?;
        let mut peer = field.secure_stream(Who::Mallory, port).await?;
        let mut wire = Wire(Box::new(&mut peer));
        wire.shake(port.peer(), b"").await?;
        drop(wire);
        peer.get_mut().0.write_all(&hello_of_tls_12()).await?;
        Wire(Box::new(peer)).hears_the_end().await?;
        // During the handshake or after it, as it may reach the victim together with the end of that.
        told = told.and(port.gate(&["insecure", "broken"]), 2);
    }
    Ok(told)
}

async fn truncation(field: &Field) -> Outcome {
    let mut stream = field.secure_stream(Who::Mallory, Port::Server).await?;
    let mut peer = {
        let mut wire = Wire(Box::new(stream));
        wire.shake(Port::Server.peer(), b"").await?;
        Peer::greet(wire, None).await?
    };
    let call = encode([Entry::Call(peer.call(1, parameters(0, 5000)))])?;
    peer.wire.say(&call[..call.len() - 1]).await?;
    // No close_notify: the connection is reset.
    drop(peer);
    // And one whose TCP connection ends in order, but not its TLS.
    stream = field.secure_stream(Who::Mallory, Port::Server).await?;
    let mut wire = Wire(Box::new(&mut stream));
    wire.shake(Port::Server.peer(), b"").await?;
    wire.say(&call[..call.len() / 2]).await?;
    drop(wire);
    stream.get_mut().0.shutdown().await?;
    Wire(Box::new(stream)).hears_the_end().await?;
    Ok(Told::by(Port::Server.gate(&["broken"]), 2))
}

async fn principal_theft(field: &Field) -> Outcome {
    let join = async |who| {
        let mut wire = field.connect_as(who, Port::Server).await?;
        wire.shake(Port::Server.peer(), b"").await?;
        Peer::greet(wire, None).await
    };
    let mut ann = join(Who::Ann).await?;
    let mut mallory = join(Who::Mallory).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let key = Key {
        key: u128::from(now) << 64 | u128::from(std::process::id()),
        issued: WallTime(now),
        expiry: WallTime(now + 60_000),
    };
    let sequenced = ann.call(1, parameters(10, 0));
    let keyed = Call { id: CallId::Keyed(key), ..ann.call(1, parameters(10, 0)) };
    for call in [&sequenced, &keyed] {
        ann.say([Entry::Call(call.clone())]).await?;
        let Entry::Reply(reply) = ann.hear().await? else { return Err("Ann got no reply".into()) };
        if !matches!(reply.answer, Answer::Ok(_)) {
            return Err(format!("Ann's call: {:?}", reply.answer).into());
        }
    }
    // Stolen with everything there is to steal: registration, stamp, number, body.
    mallory.say([Entry::Call(Call { attempt: 2, ..sequenced })]).await?;
    match mallory.hear().await? {
        Entry::Reply(reply) => match reply.answer {
            Answer::Refused(refused) if refused.refusal == Refusal::SessionUnknown => {}
            answer => return Err(format!("Ann's session, asked for by another: {answer:?}").into()),
        },
        other => return Err(format!("no reply but {other:?}").into()),
    }
    // The same key is another call: it runs, and blocks or reads nothing of Ann's.
    let own = mallory.call(1, parameters(10, 0));
    mallory.say([Entry::Call(Call { id: CallId::Keyed(key), ..own })]).await?;
    match mallory.hear().await? {
        Entry::Reply(reply) if !reply.replayed && matches!(reply.answer, Answer::Ok(_)) => {}
        other => return Err(format!("Ann's key, used by another: {other:?}").into()),
    }
    Ok(Told::by("server.executed", 3).and("server.refused", 1))
}

async fn handshake_flood(field: &Field) -> Outcome {
    let whole = async |port: Port| {
        while field.goes_on() {
            // It goes as soon as it is encrypted.
            drop(field.connect(port).await);
        }
    };
    let half = async |port: Port| {
        let mut came = 0;
        while field.goes_on() {
            // What asks for a signature, and then is silent until the next connection stands.
            let Ok(stream) = Wire::dial(field.new_host(), field.address(port)).await else { continue };
            let mut wire = Wire(Box::new(stream));
            wire.say_in_vain(&hello_of_tls_12()).await;
            came += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Told::by(port.gate(&["insecure", "refused"]), came / 2)) as Outcome
    };
    let count = field.scaled(4);
    let all = |port: &Port| (0..count).map(|_| *port).collect::<Vec<_>>();
    let (_, halves) = futures::join!(
        join_all(Port::BOTH.iter().flat_map(all).map(whole)),
        try_join_all(Port::BOTH.iter().flat_map(all).map(half))
    );
    let told: Told = halves?.into_iter().sum();
    Ok(told)
}
