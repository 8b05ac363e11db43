//! In front of a socket that binds: accepts strangers, shakes hands with them, and joins those that may stay to a ROUTER of the crate.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::branch::{Deputy, Handed};
use super::close::CloseReason;
use super::hub::Hub;
use super::inner::{ShakeError, shake};
use super::link::{Link, Links, Sums};
use super::places::{NoPlace, Place, Places};
use super::relay::{Joined, Relay};
use super::router::RouterOptions;
use super::stream::{Listener, Peer, PeerAddress, Stream, is_want};
use super::turns::{AT_ONCE, Turns};
use crate::protocol::ConnectionId;
use crate::protocol::zmtp::Handshake;

/// After accepting has failed, mostly for want of descriptors, it rests so long: the crate's own loop would spin.
const REST: Duration = Duration::from_millis(100);

/// While as many handshakes are under way as may be, one that has taken so long gives way. Honest ones take three round trips, and a client whose
/// handshake was cut dials again.
const DRAGS_ON: Duration = Duration::from_secs(1);

const TURNED_AWAY: &str = "a stranger was turned away";

/// What the gates of one bound socket have in common, whatever thread they are on.
#[derive(Clone)]
pub(crate) struct Common {
    places: Arc<Places>,
    sums: Sums,
}

impl Common {
    pub fn new(options: &RouterOptions) -> Common {
        Common {
            places: Places::new(options.connections_limit, options.address_limit),
            sums: Sums::new(options.unfinished_limit, options.all_outstanding_limit, options.buffers_limit),
        }
    }
}

/// Where a gate's strangers come from.
pub(crate) enum Door {
    /// It accepts them itself, and hands some of them on.
    Street(Listener, Vec<Deputy>),
    /// Another thread accepts them.
    Hall(mpsc::UnboundedReceiver<Handed>),
    Closed,
}

/// Hubs that are there at once. 8: some 40 MiB of what they keep, and a look at each for every message.
const HUBS: usize = 8;

/// See the module.
pub(crate) struct Gate {
    pub links: Rc<Links>,
    pub options: RouterOptions,
    /// The last one is given new connections, the others keep those that they have.
    hubs: RefCell<VecDeque<Rc<Hub>>>,
    /// Which of them is asked first the next time: or one that always has something would be the only one that is heard.
    next_hub: Cell<usize>,
    places: Arc<Places>,
    /// Handshakes under way.
    greeting: Cell<usize>,
    /// Tells those of them that drag on that there is no room for more.
    crowded: Notify,
    /// Tells that there is room again.
    greeted: Notify,
    /// For steps of handshakes.
    shaking: Turns,
    /// For joining a stranger to the crate's socket, from beginning to end, since that has work with it too.
    joining: Turns,
    /// Tells strangers in the middle of a handshake that the socket is being drained.
    draining: Notify,
}

impl Gate {
    pub async fn new(options: RouterOptions, common: Common) -> io::Result<Gate> {
        #[cfg(feature = "tls")]
        let encrypts = options.tls.is_some(); // a step with a signature takes ten times as long
        #[cfg(not(feature = "tls"))]
        let encrypts = false;
        Ok(Gate {
            links: Rc::new(Links::new(options.link_limits(), common.sums)),
            places: common.places,
            hubs: RefCell::new(VecDeque::from([Hub::open().await?])),
            next_hub: Cell::new(0),
            options,
            greeting: Cell::new(0),
            crowded: Notify::new(),
            greeted: Notify::new(),
            shaking: Turns::new(if encrypts { 1 } else { AT_ONCE }),
            joining: Turns::new(AT_ONCE),
            draining: Notify::new(),
        })
    }

    /// Renews the hub if it is time, and drops those whose last connection has gone.
    async fn tend(&self) {
        let due = self.hubs.borrow().back().is_some_and(|hub| hub.joined() >= self.options.renew_after);
        if due {
            match Hub::open().await {
                Ok(hub) => {
                    self.hubs.borrow_mut().push_back(hub);
                    self.links.count(|counters| counters.renewals += 1);
                    self.links.wake_owner(); // it polls the new one from now on
                }
                Err(error) => {
                    tracing::warn!(%error, "an inner socket could not be renewed; the old one goes on")
                }
            }
        }
        let current = self.hub();
        let is_current = |hub: &Rc<Hub>| current.as_ref().is_some_and(|current| Rc::ptr_eq(hub, current));
        // A connection has its hub too.
        self.hubs.borrow_mut().retain(|hub| is_current(hub) || Rc::strong_count(hub) > 1);
        // The last of many connections may stay for ever, and each hub that is kept for some costs what it keeps of the others.
        for old in self.hubs.borrow().iter().rev().skip(HUBS) {
            self.links.release(old);
        }
    }

    /// That for new connections. There is none while draining.
    fn hub(&self) -> Option<Rc<Hub>> {
        self.hubs.borrow().back().cloned()
    }

    /// The next message of any connection.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<(ConnectionId, Vec<Bytes>)> {
        let (hubs, first) = (self.hubs.borrow(), self.next_hub.get());
        for at in 0..hubs.len() {
            let at = (first + at) % hubs.len();
            if let Poll::Ready(message) = hubs[at].poll_receive(cx) {
                self.next_hub.set(at + 1);
                return Poll::Ready(message);
            }
        }
        Poll::Pending
    }

    /// Lets nobody in any more, and ends all connections when what was handed over is written.
    pub fn close(&self) {
        self.hubs.borrow_mut().drain(..).for_each(|hub| hub.close());
        self.draining.notify_waiters();
    }

    /// Lets strangers in until `stop` comes (or its sender goes), then waits for the last connection to end. Dropping the future drops them all.
    pub async fn serve(self: Rc<Self>, mut door: Door, mut stop: oneshot::Receiver<()>) {
        let mut connections = JoinSet::new();
        let mut resting = None;
        let mut tick = interval(self.links.tick_interval());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = self.accept(&mut door), if resting.is_none() => match accepted {
                    Ok(entering) => {
                        self.admit(entering, &door, &mut connections);
                        yield_now().await; // to those who are there already
                    }
                    Err(error) => {
                        self.links.count(|counters| counters.accept_errors += 1);
                        tracing::warn!(%error, "a connection could not be accepted");
                        resting = is_want(&error).then(|| Instant::now() + REST);
                    }
                },
                () = rest(resting), if resting.is_some() => resting = None,
                _ = tick.tick() => {
                    self.links.tick();
                    self.tend().await;
                }
                Some(_) = connections.join_next() => {} // each has told its end itself
                _ = &mut stop, if !matches!(door, Door::Closed) => door = Door::Closed,
            }
            if matches!(door, Door::Closed) && connections.is_empty() {
                return;
            }
        }
    }

    fn admit(self: &Rc<Self>, entering: Entering, door: &Door, connections: &mut JoinSet<()>) {
        let (stream, address, place, load) = match entering {
            Entering::Handed(Handed { stream, address, place, load }) => match stream.register() {
                Ok(stream) => (stream, address, place, Some(load)),
                Err(error) => return self.links.complain(TURNED_AWAY, &address, &error),
            },
            Entering::Accepted(stream, address) => {
                self.links.count(|counters| counters.accepted += 1);
                let Some(place) = self.place(address) else { return };
                let others = match door {
                    Door::Street(_, deputies) => deputies.as_slice(),
                    Door::Hall(_) | Door::Closed => &[],
                };
                match lightest(others, connections.len()) {
                    Some(other) => match stream.unregister() {
                        Ok(stream) => return other.hand_over(stream, address, place),
                        Err(error) => return self.links.complain(TURNED_AWAY, &address, &error),
                    },
                    None => (stream, address, place, None),
                }
            }
        };
        let (gate, greeting) = (self.clone(), Greeting::new(self.clone()));
        connections.spawn_local(async move {
            gate.connection(stream, address, greeting).await;
            drop((place, load));
        });
    }

    /// A place for a stranger, if there is one.
    fn place(&self, address: PeerAddress) -> Option<Place> {
        let taken = self.places.take(address);
        // Closed rather than left waiting: it learns at once that it should try elsewhere or later.
        taken
            .inspect_err(|why| {
                self.links.count(|counters| match why {
                    NoPlace::Full => counters.turned_away += 1,
                    NoPlace::Address => counters.turned_away_by_address += 1,
                });
                self.links.complain(TURNED_AWAY, &address, why);
            })
            .ok()
    }

    async fn connection(&self, stream: Stream, address: PeerAddress, greeting: Greeting) {
        // Boxed: what the handshakes take is given back when they are done, and the connection may stay for days.
        let greeted = Box::pin(self.shaking.each_step(self.greet(stream, address))).await;
        let Some((outer, peer, from_outer)) = greeted else { return };
        let joining = self.joining.take().await;
        drop(greeting);
        let Some(hub) = self.hub() else { return };
        let link = Rc::new(Link::new(Links::number(), peer, hub.clone(), &self.links.limits));
        let mut entry = Entry::insert(&self.links, link.clone());
        let (inner, from_inner) = match hub.join(link.id).await {
            Ok(joined) => joined,
            Err(error) => {
                self.links.count(|counters| counters.refused += 1);
                return self.links.complain(
                    "a stranger had to be turned away for want of an inner connection",
                    &address,
                    &error,
                );
            }
        };
        drop(hub);
        drop(joining);
        let joined = Joined { outer, from_outer, inner, from_inner };
        entry.reason = Relay::run(joined, self.links.clone(), link, self.options.bounds()).await;
    }

    /// Carries the handshakes through, unless the stranger fails, dawdles, or a drain begins. With the peer comes what was read beyond them.
    async fn greet(&self, stream: Stream, address: PeerAddress) -> Option<(Stream, Peer, Vec<u8>)> {
        self.hub()?; // if there is none, the drain began before this task did
        let greeting = async {
            stream.prepare()?;
            let (mut outer, name) = self.secure(stream).await?;
            let (socket, beyond) = shake(&mut outer, Handshake::new(self.options.shows, b"")).await?;
            Ok::<_, ShakeError>((outer, Peer { address, socket, name }, beyond))
        };
        let greeted = tokio::select! {
            greeted = timeout(self.options.handshake_timeout, greeting) => greeted,
            () = self.crowd_out() => {
                self.links.count(|counters| counters.handshakes_crowded_out += 1);
                self.links.complain(TURNED_AWAY, &address, &"its handshake dragged on while too many were under way");
                return None;
            }
            () = self.draining.notified() => return None,
        };
        match greeted {
            Ok(Ok(shaken)) => Some(shaken),
            Ok(Err(error)) => {
                self.links.count(|counters| {
                    counters.refused += 1;
                    counters.insecure += u64::from(error.is_tls());
                });
                self.links.complain(TURNED_AWAY, &address, &error);
                None
            }
            Err(_) => {
                self.links.count(|counters| counters.handshake_timeouts += 1);
                self.links.complain(TURNED_AWAY, &address, &"its handshake took too long");
                None
            }
        }
    }

    /// Returns when a handshake that began now has dragged on and there is no room for another.
    async fn crowd_out(&self) {
        sleep(DRAGS_ON).await;
        loop {
            let crowded = self.crowded.notified();
            if self.greeting.get() >= self.options.handshakes_limit {
                return;
            }
            crowded.await;
        }
    }

    /// The next stranger, when there is room for a handshake. Until then they wait with the system, or where they were handed over; both are bounded.
    async fn accept(&self, door: &mut Door) -> io::Result<Entering> {
        loop {
            let greeted = self.greeted.notified();
            if self.greeting.get() < self.options.handshakes_limit {
                return match door {
                    Door::Street(listener, _) => {
                        let (stream, address) = listener.accept().await?;
                        Ok(Entering::Accepted(stream, address))
                    }
                    Door::Hall(handed) => match handed.recv().await {
                        Some(handed) => Ok(Entering::Handed(handed)),
                        None => std::future::pending().await,
                    },
                    Door::Closed => std::future::pending().await,
                };
            }
            greeted.await;
        }
    }

    /// Encrypts, if that is wanted here; and the name that the stranger proved, if it had to.
    async fn secure(&self, stream: Stream) -> Result<(Stream, Option<Arc<str>>), ShakeError> {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = &self.options.tls {
            return Ok(acceptor.accept(stream).await?);
        }
        Ok((stream, None))
    }
}

/// A stranger at the door.
enum Entering {
    Accepted(Stream, PeerAddress),
    Handed(Handed),
}

/// Which thread is to have a new connection: the one with the fewest. `None`: this one, which has more to do than the others.
fn lightest(others: &[Deputy], ours: usize) -> Option<&Deputy> {
    others.iter().min_by_key(|other| other.connections()).filter(|other| other.connections() <= ours)
}

async fn rest(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until).await;
    }
}

/// One of [`RouterOptions::handshakes_limit`], given back whatever becomes of it.
struct Greeting(Rc<Gate>);

impl Greeting {
    fn new(gate: Rc<Gate>) -> Greeting {
        gate.greeting.set(gate.greeting.get() + 1);
        if gate.greeting.get() >= gate.options.handshakes_limit {
            gate.crowded.notify_waiters();
        }
        Greeting(gate)
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.0.greeting.set(self.0.greeting.get() - 1);
        self.0.greeted.notify_one();
    }
}

/// A connection's entry in the table, taken out whatever becomes of its task.
pub(crate) struct Entry<'a> {
    links: &'a Links,
    link: Rc<Link>,
    pub reason: CloseReason,
}

impl<'a> Entry<'a> {
    pub fn insert(links: &'a Links, link: Rc<Link>) -> Entry<'a> {
        links.insert(link.clone());
        Entry { links, link, reason: CloseReason::Released }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.links.remove(self.link.id, self.reason);
    }
}
