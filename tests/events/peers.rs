//! What the tests share: waiting with patience, a relay that stalls and cuts, and a SUB socket written by hand.

use std::future::Future;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use selfsame::{Event, EventError, Publisher, PublisherCounters, Subscription, Topic, TopicPublisher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::transport::{Line, Wire, in_front_of};

/// Longer than anything takes here; only a bug makes a test wait for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// The next thing that a subscription says, as a text.
pub async fn next<T>(subscription: &mut Subscription<T>) -> String
where
    T: for<'a> Topic<Reader<'a> = capnp::any_pointer::Reader<'a>>,
{
    let event = patiently("the next event", subscription.next()).await.expect("the stream goes on");
    describe(event)
}

pub fn describe<T>(event: Result<Event<T>, EventError>) -> String
where
    T: for<'a> Topic<Reader<'a> = capnp::any_pointer::Reader<'a>>,
{
    match event {
        Ok(Event::Message(message)) => {
            message.read(|text| Ok(text.get_as::<capnp::text::Reader<'_>>()?.to_string()?)).unwrap()
        }
        Ok(Event::Gap { key, missed }) => format!("missed {missed} of {}", key.as_deref().unwrap_or("-")),
        Ok(Event::Restarted { .. }) => "restarted".to_string(),
        Ok(Event::Disconnected { .. }) => "disconnected".to_string(),
        Ok(Event::Reconnected { .. }) => "reconnected".to_string(),
        Ok(other) => panic!("{other:?}"),
        Err(error) => format!("error: {error}"),
    }
}

pub async fn publish<T>(topic: &TopicPublisher<T>, text: &str)
where
    T: for<'a> Topic<Builder<'a> = capnp::any_pointer::Builder<'a>>,
{
    patiently("publishing", topic.publish(|mut event| event.set_as(text))).await.unwrap();
}

/// Asks until the counters satisfy `done`.
pub async fn until(publisher: &Publisher, done: impl Fn(&PublisherCounters) -> bool) -> PublisherCounters {
    let asking = async {
        loop {
            let counters = publisher.counters();
            if done(&counters) {
                return counters;
            }
            tokio::task::yield_now().await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE, asking).await;
    counted.unwrap_or_else(|_| panic!("never so: {:?}", publisher.counters()))
}

/// What a relay lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// From the publisher nothing is read.
    Stalled,
    /// Connections are cut, and new ones closed.
    Cut,
}

/// Between subscribers and a publisher.
pub struct Relay {
    pub endpoint: String,
    flow: watch::Sender<Flow>,
    _relaying: JoinSet<()>,
}

impl Relay {
    pub async fn to(publisher: &Publisher) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = in_front_of(publisher.endpoint(), listener.local_addr().unwrap());
        let target: Arc<str> = publisher.endpoint().into();
        let (flow, watching) = watch::channel(Flow::Open);
        let mut relaying = JoinSet::new();
        relaying.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (target, mut flow) = (target.clone(), watching.clone());
                connections.spawn(async move {
                    let Ok(mut far) = Wire::connect(&target).await else { return };
                    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
                    loop {
                        let now = *flow.borrow_and_update();
                        if now == Flow::Cut {
                            return;
                        }
                        tokio::select! {
                            _ = flow.changed() => {}
                            read = near.read(&mut up) => match read {
                                Ok(read @ 1..) => far.write_all(&up[..read]).await.unwrap_or_default(),
                                _ => return,
                            },
                            read = far.read(&mut down), if now == Flow::Open => match read {
                                Ok(read @ 1..) => near.write_all(&down[..read]).await.unwrap_or_default(),
                                _ => return,
                            },
                        }
                    }
                });
            }
        });
        Relay { endpoint, flow, _relaying: relaying }
    }

    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

/// A SUB socket of no library.
pub struct PlainSub(Line);

impl PlainSub {
    pub fn connect(publisher: &Publisher) -> PlainSub {
        let mut stream = Line::connect(publisher.endpoint()).unwrap();
        let mut greeting = [0; 64];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        let mut ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB".to_vec();
        ready[1] = (ready.len() - 2) as u8;
        stream.write_all(&ready).unwrap();
        let mut sub = PlainSub(stream);
        let (_, body) = sub.frame().unwrap();
        assert!(body.starts_with(b"\x05READY"));
        sub
    }

    /// Sends a frame as it is: 1 and a prefix subscribes.
    pub fn say(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let mut bytes = match u8::try_from(frame.len()) {
            Ok(length) => vec![0, length],
            Err(_) => [&[2_u8][..], &(frame.len() as u64).to_be_bytes()].concat(),
        };
        bytes.extend_from_slice(frame);
        self.0.write_all(&bytes)
    }

    pub fn subscribe(&mut self, prefix: &str) {
        self.say(&[b"\x01", prefix.as_bytes()].concat()).unwrap();
    }

    /// The next message; none at the end of the connection.
    pub fn message(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.frame().ok()?;
            frames.push(body);
            if flags & 1 == 0 {
                return Some(frames);
            }
        }
    }

    fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut flags = [0];
        self.0.read_exact(&mut flags)?;
        let length = if flags[0] & 2 == 0 {
            let mut length = [0];
            self.0.read_exact(&mut length)?;
            u64::from(length[0])
        } else {
            let mut length = [0; 8];
            self.0.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        };
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body)?;
        Ok((flags[0], body))
    }
}

/// Runs blocking code, with patience.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    patiently("blocking work", tokio::task::spawn_blocking(work)).await.unwrap()
}
