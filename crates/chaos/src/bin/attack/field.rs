//! What an attacker knows and has: where the victim is, addresses to come from, time, and what it is to bring about.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::iter::Sum;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use selfsame_chaos::Result;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::arena::counts;
use crate::process::Line;
use crate::secure::{Certificates, Who};
use crate::wire::{PATIENCE, Wire};

/// Between two looks at how far an attack is.
const LOOK: Duration = Duration::from_millis(10);

/// The victim's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Server,
    Publisher,
}

impl Port {
    pub const BOTH: [Port; 2] = [Port::Server, Port::Publisher];

    /// The socket type that an honest peer there shows.
    pub fn peer(self) -> &'static str {
        match self {
            Port::Server => "DEALER",
            Port::Publisher => "SUB",
        }
    }

    /// The names of counters of this endpoint's gate, as [`Told`] takes them.
    pub fn gate(self, counters: &[&str]) -> String {
        let of = match self {
            Port::Server => "server",
            Port::Publisher => "publisher",
        };
        counters.iter().map(|counter| format!("{of}.gate.{counter}")).collect::<Vec<_>>().join("|")
    }
}

/// Where an attack takes place.
pub struct Field {
    pub server: SocketAddr,
    pub publisher: SocketAddr,
    /// What attackers show, if the victim speaks TLS.
    pub certificates: Option<Certificates>,
    /// The line to the victim: attacks on a publisher need somebody who publishes.
    pub victim: Line,
    /// How they show it when it does not matter who they are.
    pub mallory: Option<TlsConnector>,
    /// The attack under way.
    pub course: Course,
    pub scale: f64,
    /// The number of this attack's net: each comes from other addresses than those before, and the good client.
    pub net: u8,
    /// The next host of the net.
    pub next: Cell<u16>,
}

impl Field {
    /// So many, or as many more or fewer as was asked for; but one at least.
    pub fn scaled(&self, count: usize) -> usize {
        ((count as f64 * self.scale) as usize).max(1)
    }

    /// Whether the attack is to go on.
    pub fn goes_on(&self) -> bool {
        self.course.goes_on.get()
    }

    /// Waits until the attack is over.
    pub async fn over(&self) {
        while self.goes_on() {
            sleep(LOOK).await;
        }
    }

    /// What it comes to, if that is before the attack is over.
    pub async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.over() => None,
        }
    }

    /// What has to be told of before the attack is over, besides its time. However fast a machine is, an attack by pressure is one.
    pub fn owes(&self, told: Told) -> Told {
        self.course.owed.replace(told.clone());
        told
    }

    /// Keeps the attack going for its time, and after that as long as it owes something; but not for ever. Never ends.
    pub async fn keep(&self, time: Duration) -> Infallible {
        sleep(time).await;
        let late = Instant::now() + PATIENCE;
        while Instant::now() < late && !self.owes_nothing().await {
            sleep(LOOK).await;
        }
        self.course.goes_on.set(false);
        pending().await
    }

    async fn owes_nothing(&self) -> bool {
        let owed = self.course.owed.borrow().clone();
        // Whether it is there to answer is judged afterwards.
        counts(&self.victim).await.is_ok_and(|now| owed.rises(&self.course.before, &now).is_ok())
    }

    pub fn address(&self, port: Port) -> SocketAddr {
        match port {
            Port::Server => self.server,
            Port::Publisher => self.publisher,
        }
    }

    /// The `host`-th of the attacker's addresses.
    pub fn host(&self, host: u16) -> Ipv4Addr {
        let [high, low] = host.to_be_bytes();
        Ipv4Addr::new(127, self.net, high, low)
    }

    /// An address that was not used yet.
    pub fn new_host(&self) -> Ipv4Addr {
        let host = self.next.get();
        self.next.set(host.wrapping_add(1).max(1));
        self.host(host)
    }

    /// A connection from an address, encrypted if the victim wants that.
    pub async fn connect_from(&self, from: Ipv4Addr, port: Port) -> io::Result<Wire<'static>> {
        Wire::connect(from, self.address(port), self.mallory.as_ref()).await
    }

    /// One of somebody.
    pub async fn connect_as(&self, who: Who, port: Port) -> Result<Wire<'static>> {
        Ok(Wire(Box::new(self.secure_stream(who, port).await?)))
    }

    /// The same, with the plain stream within reach.
    pub async fn secure_stream(&self, who: Who, port: Port) -> Result<TlsStream<TcpStream>> {
        let certificates = self.certificates.as_ref().ok_or("the victim does not speak TLS")?;
        let stream = Wire::dial(self.new_host(), self.address(port)).await?;
        Ok(Certificates::secure(&certificates.connector(who)?, stream).await?)
    }

    /// A connection from an address of its own.
    pub async fn connect(&self, port: Port) -> io::Result<Wire<'static>> {
        self.connect_from(self.new_host(), port).await
    }

    /// One of somebody whom nothing was done by yet, that has shaken hands.
    pub async fn join_as_another(&self, port: Port) -> Result<Wire<'static>> {
        let mut wire = match &self.certificates {
            Some(_) => self.connect_as(Who::Ann, port).await?,
            None => self.connect(port).await?,
        };
        wire.shake(port.peer(), b"").await?;
        Ok(wire)
    }

    /// A connection from an address of its own that has shaken hands.
    pub async fn join(&self, port: Port) -> io::Result<Wire<'static>> {
        let mut wire = self.connect(port).await?;
        wire.shake(port.peer(), b"").await?;
        Ok(wire)
    }
}

/// How far an attack is.
pub struct Course {
    goes_on: Cell<bool>,
    owed: RefCell<Told>,
    /// The victim's counters before it.
    before: BTreeMap<String, u64>,
}

impl Course {
    pub fn begin(before: BTreeMap<String, u64>) -> Course {
        Course { goes_on: Cell::new(true), owed: RefCell::default(), before }
    }
}

/// By how much counters of the victim's have to rise, at least. Several in one name, with `|` between them, count together.
#[derive(Clone, Debug, Default)]
pub struct Told(pub BTreeMap<String, u64>);

impl Told {
    pub fn by(counter: impl Into<String>, rise: u64) -> Told {
        Told::default().and(counter, rise)
    }

    #[must_use]
    pub fn and(mut self, counter: impl Into<String>, rise: u64) -> Told {
        *self.0.entry(counter.into()).or_default() += rise;
        self
    }

    /// By how much they rose.
    ///
    /// # Errors
    /// If that is not enough.
    pub fn rises(
        &self,
        before: &BTreeMap<String, u64>,
        now: &BTreeMap<String, u64>,
    ) -> Result<String, String> {
        let risen = |names: &str| {
            let rises = names.split('|').map(|name| {
                let rise =
                    now.get(name).zip(before.get(name)).map(|(now, before)| now.saturating_sub(*before));
                rise.ok_or_else(|| format!("there is no counter {name}"))
            });
            rises.sum::<Result<u64, String>>()
        };
        let rises = self.0.iter().map(|(name, &least)| match risen(name)? {
            rise if rise < least => Err(format!("{name} rose by {rise}, of at least {least}")),
            rise => Ok(format!("{name} +{rise}")),
        });
        Ok(rises.collect::<Result<Vec<_>, _>>()?.join(", "))
    }
}

impl Sum for Told {
    fn sum<I: Iterator<Item = Told>>(all: I) -> Told {
        all.flat_map(|told| told.0).fold(Told::default(), |all, (name, rise)| all.and(name, rise))
    }
}

/// What an attack comes to, if it did not get through.
pub type Outcome = Result<Told>;

/// Does it all, a few at a time: it is not by their number at one moment that these attack.
pub async fn few_at_once<T>(
    attacks: impl IntoIterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    stream::iter(attacks).buffer_unordered(8).try_collect().await
}
