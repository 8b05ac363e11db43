//! What the tests share: an echoing router on a thread of its own, and a ZMTP peer written by hand, which can misbehave.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use selfsame::GateCounters;
use selfsame::io::{CloseReason, Endpoint, IoThread, Router, RouterEvent, RouterOptions};
use tokio::sync::{mpsc, oneshot};

pub use selfsame_relay::honest::{frame, greeting, ready};

use super::transport::{Line, Over, anywhere};

/// Longer than anything takes here; only a bug makes a test wait for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A router that sends every message back to where it came from.
pub struct Echo {
    _io: IoThread,
    /// The endpoint.
    pub address: &'static str,
    pub closed: mpsc::UnboundedReceiver<CloseReason>,
    ask: mpsc::UnboundedSender<Ask>,
}

enum Ask {
    Counters(oneshot::Sender<(GateCounters, usize)>),
    Drain(Duration, oneshot::Sender<()>),
}

impl Echo {
    pub async fn start(options: RouterOptions) -> Echo {
        Echo::start_at(anywhere().parse().unwrap(), options.over()).await
    }

    /// At this endpoint, with options that go with it.
    pub async fn start_at(endpoint: Endpoint, options: RouterOptions) -> Echo {
        let io = IoThread::start("test-router").unwrap();
        let (tell, bound) = oneshot::channel();
        let (tell_closed, closed) = mpsc::unbounded_channel();
        let (ask, mut asked) = mpsc::unbounded_channel();
        drop(io.run(move || async move {
            let mut router = Router::bind(&endpoint, options).await.unwrap();
            tell.send(router.endpoint().to_string()).unwrap();
            loop {
                tokio::select! {
                    event = router.next() => match event {
                        RouterEvent::Message(from, frames) => drop(router.send(from, frames)),
                        RouterEvent::Closed(_, reason) => drop(tell_closed.send(reason)),
                        _ => {}
                    },
                    Some(ask) = asked.recv() => match ask {
                        Ask::Counters(answer) => answer.send((router.counters(), router.connections())).unwrap(),
                        Ask::Drain(cap, answer) => {
                            router.drain(cap).await;
                            return answer.send(()).unwrap();
                        }
                    },
                    else => return,
                }
            }
        }));
        // Strangers on other threads have it too, for as long as they like.
        let address = bound.await.unwrap().leak();
        Echo { _io: io, address, closed, ask }
    }

    pub async fn counters(&self) -> GateCounters {
        self.look().await.0
    }

    /// Counters, and open connections.
    pub async fn look(&self) -> (GateCounters, usize) {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Ask::Counters(answer)).ok().unwrap();
        answered.await.unwrap()
    }

    pub async fn drain(&self, cap: Duration) {
        let (answer, answered) = oneshot::channel();
        self.ask.send(Ask::Drain(cap, answer)).ok().unwrap();
        answered.await.unwrap();
    }

    /// Waits for the next connection to end.
    pub async fn next_closed(&mut self) -> CloseReason {
        tokio::time::timeout(PATIENCE, self.closed.recv()).await.expect("no connection ended").unwrap()
    }

    /// Asks until the counters satisfy `done`.
    pub async fn until(&self, done: impl Fn(&GateCounters) -> bool) -> GateCounters {
        let asking = async {
            loop {
                let counters = self.counters().await;
                if done(&counters) {
                    return counters;
                }
                tokio::task::yield_now().await;
            }
        };
        let counted = tokio::time::timeout(PATIENCE, asking).await;
        match counted {
            Ok(counters) => counters,
            Err(_) => panic!("never so: {:?}", self.counters().await),
        }
    }
}

/// Runs blocking code, with patience.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(PATIENCE * 2, tokio::task::spawn_blocking(work)).await.expect("it hangs").unwrap()
}

/// A ZMTP peer.
pub struct Stranger<S = Line>(pub S);

impl Stranger<Line> {
    pub fn connect(address: &str) -> Stranger {
        Stranger(Line::connect(address).unwrap())
    }

    /// A DEALER that has shaken hands.
    pub fn dealer(address: &str, identity: &[u8]) -> Stranger {
        let mut stranger = Stranger::connect(address);
        stranger.shake("DEALER", identity);
        stranger
    }
}

impl<S: Read + Write> Stranger<S> {
    pub fn shake(&mut self, kind: &str, identity: &[u8]) {
        self.say(&greeting());
        let mut theirs = [0; 64];
        self.0.read_exact(&mut theirs).unwrap();
        self.say(&ready(kind, identity));
        assert_eq!(self.hear().unwrap().0, 4, "no READY");
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// One frame: its flags without the one for long frames, and its body.
    pub fn hear(&mut self) -> io::Result<(u8, Bytes)> {
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
        Ok((flags[0] & !2, body.into()))
    }

    /// Says a message of one frame and hears it back.
    pub fn echoes(&mut self, body: &[u8]) {
        self.say(&frame(0, body));
        assert_eq!(self.hear().unwrap(), (0, Bytes::copy_from_slice(body)));
    }

    /// Reads until the other side ends the connection.
    pub fn hears_the_end(&mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.0.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_end(&error) => return,
                Err(error) => panic!("not ended: {error}"),
            }
        }
    }
}

/// Over TLS an end is an error, unless it was said.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}
