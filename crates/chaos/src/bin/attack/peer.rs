//! A client of selfsame's own protocol in an attacker's hands: it says hello and sends whatever it is told to.

use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::wire::{self, Call, Encoder, Entry, Hello, Limits, Welcome};
use selfsame::protocol::{CallId, Registration, RetryClass, Session, WallTime};
use selfsame::{Method, capnp};
use selfsame_chaos::Result;
use selfsame_chaos::api::mark::mark::{Post, post_params};

use crate::field::{Field, Port};
use crate::wire::{self as zmtp, Wire};

/// One that was welcomed.
pub struct Peer {
    pub wire: Wire<'static>,
    pub welcome: Welcome,
    /// Entries that came in a message with others.
    heard: Vec<Entry>,
}

/// A hello.
pub fn hello(id: u64, resume: Option<Registration>) -> Entry {
    Entry::Hello(Hello {
        id,
        version: wire::VERSION,
        session: Session(u128::from(id) + 1),
        resume,
        acked_below: 0,
        contracts: vec![],
    })
}

/// Entries as they travel, in as few messages as they fit.
pub fn encode(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<u8>> {
    let (mut encoder, mut messages) = (Encoder::new(Limits::default()), Vec::new());
    for entry in entries {
        if encoder.is_full() {
            messages.extend(zmtp::message(&encoder.finish()));
        }
        encoder.push(entry).map_err(|not_taken| not_taken.message)?;
    }
    messages.extend(zmtp::message(&encoder.finish()));
    Ok(messages)
}

/// A header of so many entries of a kind that has no content but a number, as no encoder of ours makes it. Their numbers are in `schemas/wire.capnp`.
pub fn header(kind: u16, entries: u32) -> Bytes {
    // A struct of one pointer; to a list of structs, each of three words and a pointer.
    let mut words: Vec<u64> = vec![1 << 48, 1 | 7 << 32 | u64::from(4 * entries) << 35];
    words.push(u64::from(entries) << 2 | 3 << 32 | 1 << 48);
    for number in 0..u64::from(entries) {
        words.extend([u64::from(kind) << 16, 0, number, 0]);
    }
    framed(&words)
}

/// A Cap'n Proto message of one segment.
pub fn framed(words: &[u64]) -> Bytes {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    Bytes::from(bytes)
}

/// Parameters of a `post`.
pub fn parameters(reply_size: u32, padding: u32) -> Bytes {
    let mut message = capnp::message::Builder::new_default();
    let mut params = message.init_root::<post_params::Builder<'_>>();
    params.set_reply_size(reply_size);
    params.init_padding(padding).fill(7);
    Bytes::from(capnp::serialize::write_message_to_words(&message))
}

impl Peer {
    /// From an address of its own.
    pub async fn join(field: &Field) -> Result<Peer> {
        Peer::greet(field.join(Port::Server).await?, None).await
    }

    /// On a connection that has shaken hands.
    pub async fn greet(wire: Wire<'static>, resume: Option<Registration>) -> Result<Peer> {
        let mut peer = Peer { wire, welcome: Welcome::default(), heard: Vec::new() };
        peer.say([hello(1, resume)]).await?;
        match peer.hear().await? {
            Entry::Welcome(welcome) => peer.welcome = welcome,
            other => return Err(format!("no welcome but {other:?}").into()),
        }
        Ok(peer)
    }

    /// A call, not sent yet.
    pub fn call(&self, number: u64, body: Bytes) -> Call {
        Call {
            registration: self.welcome.registration,
            incarnation: self.welcome.incarnation,
            first_stamp: self.welcome.stamp,
            id: CallId::Sequenced(number),
            interface: Post::INFO.interface,
            method: Post::INFO.ordinal,
            retry: RetryClass::Once,
            attempt: 1,
            time_left: Duration::from_secs(20),
            // All before it have been answered, or nobody waits for them.
            acked_below: number,
            trace: None,
            issued: WallTime(0),
            metadata: vec![],
            body,
        }
    }

    pub async fn say(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        self.wire.say(&encode(entries)?).await?;
        Ok(())
    }

    /// The next entry but a ping.
    pub async fn hear(&mut self) -> Result<Entry> {
        loop {
            while let Some(entry) = self.heard.pop() {
                if !matches!(entry, Entry::Ping(_)) {
                    return Ok(entry);
                }
            }
            let frames: Vec<Bytes> = self.wire.hear_message().await?.into_iter().map(Bytes::from).collect();
            for entry in wire::decode(&frames, &Limits::default()).map_err(|error| error.to_string())?.entries
            {
                self.heard.push(entry.map_err(|bad| bad.to_string())?);
            }
            self.heard.reverse();
        }
    }
}
