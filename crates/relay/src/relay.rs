//! The relay itself: connections, and what becomes of the messages on them. Its endpoint stays while the server behind it dies and comes back elsewhere.
//!
//! What it holds back leaves on whichever connection is the newest by then, so that a copy can turn up on a connection that its sender made
//! long after sending it, at another life of the server. The seed decides what happens to the n-th message of each connection and direction.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::dice::Dice;
use crate::zmtp;

/// How bad it is: the percentage of messages that are dropped; all else is in proportion. At most 24, or nothing would pass unharmed.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Of all messages.
    pub percent: u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
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
/// Longer than a client waits before it tries again, several times over, and than a server takes to come back.
const LONG_HOLD: Duration = Duration::from_secs(3);

impl Faults {
    fn fate(self, dice: &mut Dice) -> Fate {
        let throw = dice.below(10_000);
        let longest = if dice.once_in(8) { LONG_HOLD } else { SHORT_HOLD };
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
        let (tenths, rest) = (percent / 10, percent % 10);
        let delayed = 2 * percent;
        write!(f, "{percent} % dropped, {percent} % doubled, {delayed} % delayed, {tenths}.{rest} % cut off")
    }
}

/// What a relay has done so far, in messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// All that came.
    pub messages: u64,
    /// Of them, those that were thrown away.
    pub dropped: u64,
    /// Those that were sent again later.
    pub doubled: u64,
    /// Those that were sent later.
    pub held: u64,
    /// Those at which the connection was cut.
    pub cut: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.messages += other.messages;
        self.dropped += other.dropped;
        self.doubled += other.doubled;
        self.held += other.held;
        self.cut += other.cut;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { messages, dropped, doubled, held, cut } = self;
        write!(
            f,
            "{messages} messages, of them {dropped} dropped, {doubled} doubled, {held} delayed, {cut} cut off"
        )
    }
}

#[derive(Debug, Default)]
struct Tally {
    messages: AtomicU64,
    dropped: AtomicU64,
    doubled: AtomicU64,
    held: AtomicU64,
    cut: AtomicU64,
    /// Messages that wait for their time.
    waiting: AtomicU64,
}

/// A relay at work, until it is dropped with its runtime.
#[derive(Clone, Debug)]
pub struct Relay {
    endpoint: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tally: Tally,
    /// [`Faults::percent`], which can be changed at work.
    percent: AtomicU64,
    server: Mutex<Option<SocketAddr>>,
    /// Changes when all connections are to be cut.
    cuts: watch::Sender<u64>,
}

impl Relay {
    /// Listens on a port that the system chooses. Who comes is turned away until [`point_at`](Relay::point_at) has named a server.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(seed: u64, faults: Faults) -> io::Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            tally: Tally::default(),
            percent: AtomicU64::new(faults.percent),
            server: Mutex::new(None),
            cuts: watch::Sender::new(0),
        });
        let lanes = [(); 2].map(|()| Arc::new(Lane { newest: Mutex::default(), shared: shared.clone() }));
        let accepting = shared.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let [up, down] = lanes.clone();
                let dice = [1, 2].map(|lane| Dice::new(seed, 2 * connection + lane));
                tokio::spawn(accepting.clone().connect(client, up, down, dice));
            }
        });
        Ok(Relay { endpoint, shared })
    }

    /// Where clients connect: `tcp://…`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on whoever comes is connected to this server, or turned away.
    pub fn point_at(&self, server: Option<SocketAddr>) {
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Cuts all connections that are open now.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Changes how bad it is.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.percent.store(faults.percent, Ordering::Relaxed);
    }

    /// Whether some messages still wait for their time.
    pub fn holds_messages(&self) -> bool {
        self.shared.tally.waiting.load(Ordering::Relaxed) > 0
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Tally { messages, dropped, doubled, held, cut, .. } = &self.shared.tally;
        Counts {
            messages: read(messages),
            dropped: read(dropped),
            doubled: read(doubled),
            held: read(held),
            cut: read(cut),
        }
    }
}

impl Shared {
    /// One connection, to its end.
    async fn connect(
        self: Arc<Self>,
        client: TcpStream,
        up: Arc<Lane>,
        down: Arc<Lane>,
        [up_dice, down_dice]: [Dice; 2],
    ) {
        let server = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cuts = self.cuts.subscribe();
        let Some(server) = server else { return };
        let Ok(server) = TcpStream::connect(server).await else { return };
        // A message is written as a whole, and the next may be long in coming.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // When one direction ends, both do.
        let _ = tokio::select! {
            end = up.carry(from_client, to_server, up_dice) => end,
            end = down.carry(from_server, to_client, down_dice) => end,
            _ = cuts.changed() => Ok(()),
        };
    }
}

/// One direction, over all connections.
#[derive(Debug)]
struct Lane {
    /// The way out on the newest connection.
    newest: Mutex<Option<mpsc::Sender<Out>>>,
    shared: Arc<Shared>,
}

/// Bytes on their way out.
#[derive(Debug)]
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
        let tally = &self.shared.tally;
        let fate = if zmtp::is_command(&bytes) {
            Fate::Pass
        } else {
            count(&tally.messages);
            Faults { percent: self.shared.percent.load(Ordering::Relaxed) }.fate(dice)
        };
        let mut cut = false;
        match fate {
            Fate::Pass => {}
            Fate::Drop => return count(&tally.dropped),
            Fate::Double(hold) => {
                count(&tally.doubled);
                self.release_later(bytes.clone(), hold);
            }
            Fate::Hold(hold) => {
                count(&tally.held);
                return self.release_later(bytes, hold);
            }
            Fate::Cut => {
                count(&tally.cut);
                bytes.truncate(dice.below(bytes.len() as u64) as usize);
                cut = true;
            }
        }
        // A connection that has just ended takes the message with it.
        let _ = out.send(Out { bytes, cut }).await;
    }

    /// A task a message: there are at most as many as are sent within the longest hold.
    fn release_later(self: &Arc<Self>, bytes: Vec<u8>, hold: Duration) {
        count(&self.shared.tally.waiting);
        let lane = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            let newest = lane.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(out) = newest {
                let _ = out.send(Out { bytes, cut: false }).await;
            }
            lane.shared.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(percent: u64) -> Vec<Fate> {
        let mut dice = Dice::new(1, 1);
        (0..20_000).map(|_| Faults { percent }.fate(&mut dice)).collect()
    }

    #[test]
    fn without_faults_every_message_passes() {
        assert!(fates(0).iter().all(|fate| *fate == Fate::Pass));
    }

    #[test]
    fn faults_come_in_proportion() {
        let fates = fates(10);
        let share = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count() * 1000 / fates.len();
        assert!((90..110).contains(&share(|fate| *fate == Fate::Drop)));
        assert!((90..110).contains(&share(|fate| matches!(fate, Fate::Double(_)))));
        assert!((180..220).contains(&share(|fate| matches!(fate, Fate::Hold(_)))));
        assert!((5..16).contains(&share(|fate| *fate == Fate::Cut)));
    }

    #[test]
    fn a_seed_decides_the_fates() {
        assert_eq!(fates(5), fates(5));
    }
}
