//! The storm itself: a relay that drops, doubles, delays and reorders whole messages in both directions, and cuts connections.
//!
//! What it holds back leaves on whichever connection is the newest by then, so that a copy can turn up on a connection that its sender made
//! long after sending it. The seed decides what happens to the n-th message of each connection and direction.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::dice::Dice;
use crate::report::thousands;
use crate::{Result, zmtp};

/// How bad it is: the percentage of messages that are dropped; all else is in proportion.
#[derive(Clone, Copy)]
pub struct Faults {
    pub percent: u64,
}

/// What becomes of a message.
enum Fate {
    Pass,
    Drop,
    /// It passes, and a copy of it later.
    Double(Duration),
    Hold(Duration),
    /// It never arrives, or half of it, and the connection is gone.
    Cut,
}

/// Long enough to be overtaken by what comes after it.
const SHORT_HOLD: Duration = Duration::from_millis(200);
/// Longer than a client waits before it tries again, several times over.
const LONG_HOLD: Duration = Duration::from_secs(3);

impl Faults {
    fn fate(self, dice: &mut Dice) -> Fate {
        let throw = dice.below(10_000);
        let longest = if dice.below(8) == 0 { LONG_HOLD } else { SHORT_HOLD };
        let hold = Duration::from_millis(dice.below(longest.as_millis() as u64));
        // In ten-thousandths of all messages, for each percent.
        match throw.checked_div(self.percent) {
            Some(0..100) => Fate::Drop,
            Some(100..200) => Fate::Double(hold),
            Some(200..400) => Fate::Hold(hold),
            Some(400..410) => Fate::Cut,
            _ => Fate::Pass,
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { percent } = self;
        write!(
            f,
            "{percent} % dropped, {percent} % doubled, {} % delayed, {}.{} % cut off",
            2 * percent,
            percent / 10,
            percent % 10
        )
    }
}

/// What the relay has done so far, in messages.
#[derive(Clone, Copy)]
pub struct Counts {
    pub messages: u64,
    pub dropped: u64,
    pub doubled: u64,
    pub held: u64,
    pub cut: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [messages, dropped, doubled, held, cut] =
            [self.messages, self.dropped, self.doubled, self.held, self.cut].map(thousands);
        write!(
            f,
            "{messages} messages, of them {dropped} dropped, {doubled} doubled, {held} delayed, {cut} cut off"
        )
    }
}

#[derive(Default)]
struct Tally {
    messages: AtomicU64,
    dropped: AtomicU64,
    doubled: AtomicU64,
    held: AtomicU64,
    cut: AtomicU64,
    /// Messages that wait for their time.
    waiting: AtomicU64,
}

pub struct Relay {
    endpoint: String,
    tally: Arc<Tally>,
}

impl Relay {
    /// Listens on a port of its own, and connects whoever comes to `server`.
    pub async fn start(server: &str, seed: u64, faults: Faults) -> Result<Relay> {
        let server: SocketAddr = server.trim_start_matches("tcp://").parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let tally = Arc::<Tally>::default();
        let lanes = [1, 2]
            .map(|number| Arc::new(Lane { number, newest: Mutex::default(), faults, tally: tally.clone() }));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let [up, down] = lanes.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let dice = |lane: &Lane| Dice::new(seed, 2 * connection + lane.number);
                    // When one direction ends, both do.
                    let _ = tokio::select! {
                        end = up.clone().carry(from_client, to_server, dice(&up)) => end,
                        end = down.clone().carry(from_server, to_client, dice(&down)) => end,
                    };
                });
            }
        });
        Ok(Relay { endpoint, tally })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether some messages still wait for their time.
    pub fn holds_messages(&self) -> bool {
        self.tally.waiting.load(Ordering::Relaxed) > 0
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Tally { messages, dropped, doubled, held, cut, .. } = &*self.tally;
        Counts {
            messages: read(messages),
            dropped: read(dropped),
            doubled: read(doubled),
            held: read(held),
            cut: read(cut),
        }
    }
}

/// One direction, over all connections.
struct Lane {
    number: u64,
    /// The way out on the newest connection.
    newest: Mutex<Option<mpsc::Sender<Out>>>,
    faults: Faults,
    tally: Arc<Tally>,
}

/// Bytes on their way out.
struct Out {
    bytes: Vec<u8>,
    /// These are the last on this connection.
    cut: bool,
}

impl Lane {
    /// Carries the messages of one connection until it ends.
    async fn carry(
        self: Arc<Self>,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut dice: Dice,
    ) -> io::Result<()> {
        let mut from = BufReader::new(from);
        zmtp::handshake(&mut from, &mut to).await?;
        let (out, mut queue) = mpsc::channel(1024);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(out.clone());
        let write = async {
            while let Some(Out { bytes, cut }) = queue.recv().await {
                to.write_all(&bytes).await?;
                if cut {
                    break;
                }
            }
            Ok(())
        };
        let read = async {
            loop {
                let message = zmtp::message(&mut from).await?;
                self.pass(message, &out, &mut dice).await;
            }
        };
        tokio::select! { end = write => end, end = read => end }
    }

    async fn pass(self: &Arc<Self>, mut bytes: Vec<u8>, out: &mpsc::Sender<Out>, dice: &mut Dice) {
        let fate = if zmtp::is_command(&bytes) {
            Fate::Pass
        } else {
            count(&self.tally.messages);
            self.faults.fate(dice)
        };
        let mut cut = false;
        match fate {
            Fate::Pass => {}
            Fate::Drop => return count(&self.tally.dropped),
            Fate::Double(hold) => {
                count(&self.tally.doubled);
                self.release_later(bytes.clone(), hold);
            }
            Fate::Hold(hold) => {
                count(&self.tally.held);
                return self.release_later(bytes, hold);
            }
            Fate::Cut => {
                count(&self.tally.cut);
                bytes.truncate(dice.below(bytes.len() as u64) as usize);
                cut = true;
            }
        }
        // A connection that has just ended takes the message with it.
        let _ = out.send(Out { bytes, cut }).await;
    }

    /// A task a message: there are at most as many as are sent within the longest hold.
    fn release_later(self: &Arc<Self>, bytes: Vec<u8>, hold: Duration) {
        count(&self.tally.waiting);
        let lane = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            let newest = lane.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(out) = newest {
                let _ = out.send(Out { bytes, cut: false }).await;
            }
            lane.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
