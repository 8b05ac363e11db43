//! selfsame itself: typed calls with all that belongs to them, in its variants; and its events.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use selfsame::{Answer, Channel, Event, Nonce, Policy, Publisher, Request, Server, Spin, Store, Subscriber};

use crate::Result;
use crate::api::echo::echo::{Carry, CarryAgain, Look};
use crate::api::echo::{Echo, EchoClient, EchoServer, Tick};
use crate::certificates;
use crate::events::{Tally, bursts};
use crate::load::{Load, Meter, calls};
use crate::peer::{Broadcast, Bursts, Client, Doing, Peer, Ready};
use crate::rounds::Cell;

/// All peers of this file.
pub fn all() -> Vec<Box<dyn Peer>> {
    let variant = |name, about| Selfsame { name, about, ..PLAIN };
    let all = [
        PLAIN,
        Selfsame { spin: Spin::Off, ..variant(SLEEPS, "the same without spin") },
        Selfsame { tls: true, ..variant("selfsame-tls", "over TLS 1.3, the client without a certificate") },
        Selfsame {
            class: Class::Idempotent,
            ..variant("selfsame-idempotent", "of class idempotent: without a record")
        },
        Selfsame {
            class: Class::ReadOnly,
            ..variant("selfsame-readOnly", "of class readOnly: without a record")
        },
        Selfsame {
            durable: true,
            ..variant("selfsame-durable", "with a durable store in a temporary folder")
        },
        Selfsame {
            kept: Kept::Sessions,
            ..variant("selfsame-sessions", "while the server keeps 10,000 other sessions")
        },
        Selfsame {
            kept: Kept::Keyed,
            ..variant("selfsame-keyed", "while the server keeps a million keyed records")
        },
    ];
    all.into_iter().map(|peer| Box::new(peer) as _).collect()
}

#[derive(Clone, Copy)]
enum Class {
    Once,
    Idempotent,
    ReadOnly,
}

/// What the server keeps before anything is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    Sessions,
    Keyed,
}

struct Selfsame {
    name: &'static str,
    about: &'static str,
    class: Class,
    spin: Spin,
    durable: bool,
    tls: bool,
    kept: Kept,
}

const SLEEPS: &str = "selfsame-spinOff";

const PLAIN: Selfsame = Selfsame {
    name: "selfsame",
    about: "a typed call of class once, everything as it is by default: gates at both ends, deduplication, adaptive spin",
    class: Class::Once,
    spin: Spin::Adaptive,
    durable: false,
    tls: false,
    kept: Kept::Nothing,
};

impl Selfsame {
    async fn server(&self, folder: &Path) -> Result<Server> {
        let mut builder = Server::builder().spin(self.spin);
        if self.kept == Kept::Sessions {
            // One address opens sessions at a rate that follows from their bound: 54 a second by default, and 500 at most.
            builder = builder.sessions(1 << 20);
        }
        if self.durable {
            builder = builder.store(Store::durable(folder.join("records.redb")));
        }
        if self.tls {
            return Ok(builder.tls(certificates::make(folder)?).bind("tls://127.0.0.1:0").await?);
        }
        Ok(builder.bind("tcp://127.0.0.1:0").await?)
    }

    async fn channel(&self, told: &str) -> Result<EchoClient> {
        let (endpoint, tls) = certificates::told(told);
        let builder = Channel::builder().spin(self.spin);
        let builder = if let Some(tls) = tls { builder.tls(tls) } else { builder };
        Ok(EchoClient::new(builder.connect(endpoint).await?))
    }

    /// Has the server keep what it is to keep.
    async fn prepare(&self, endpoint: &str) -> Result<()> {
        match self.kept {
            Kept::Nothing => Ok(()),
            Kept::Sessions => {
                let come_and_go = |_| async move {
                    // The session outlives its connection, as its client might come back.
                    let patience = Duration::from_secs(60); // beyond 8,000 hellos at once 500 a second are heard
                    self.channel(endpoint).await?.carry(|_| ()).deadline(patience).await?;
                    Ok(())
                };
                stream::iter(0..10_000).map(Ok).try_for_each_concurrent(32, come_and_go).await
            }
            Kept::Keyed => {
                let client = &self.channel(endpoint).await?;
                // A key is refused that was made so soon after the server's store began that clocks might disagree about which was first.
                tokio::time::sleep(Duration::from_millis(1100)).await;
                let issued = SystemTime::now();
                let call = |number: u32| async move {
                    client.carry(|_| ()).nonce(Nonce::keyed(number.to_le_bytes(), issued)).await?;
                    Ok(())
                };
                stream::iter(0..1_000_000).map(Ok).try_for_each_concurrent(256, call).await
            }
        }
    }
}

impl Peer for Selfsame {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn takes_part(&self, cell: &Cell) -> bool {
        match (self.kept, cell.pace) {
            // Whether it spins is what an idle moment makes a difference to.
            (Kept::Nothing, Some(_)) => [PLAIN.name, SLEEPS].contains(&self.name),
            (Kept::Nothing, None) => true,
            _ => *cell == Cell::new(64, 64),
        }
    }

    fn has_own_connections(&self) -> bool {
        self.name == PLAIN.name || self.tls
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let folder = tempfile::tempdir()?;
            let server = self.server(folder.path()).await?;
            let endpoint = server.endpoint();
            let told =
                if self.tls { certificates::tell(endpoint, folder.path()) } else { endpoint.to_owned() };
            ready(told, Vec::new());
            Ok(server.service(EchoServer::new(Mirror)).serve().await?)
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            self.prepare(&endpoint).await?;
            let echo = self.channel(&endpoint).await?;
            // The first call waits for the connection.
            echo.look(|_| ()).await?;
            Ok(Box::new(SelfsameClient { echo, class: self.class }) as _)
        })
    }

    fn events(&self) -> Option<&dyn Broadcast> {
        // Its variants differ in calls alone.
        (self.name == PLAIN.name).then_some(self)
    }
}

struct Mirror;

/// The same handler three times, for methods are types.
macro_rules! mirror {
    ($($name:ident: $method:ty),*) => {$(
        async fn $name(&self, request: Request<$method>) -> Answer<$method> {
            let params = request.get()?;
            let payload = params.get_payload()?;
            request.reply(|mut reply| {
                reply.set_sequence(params.get_sequence());
                reply.set_payload(payload);
            })
        }
    )*};
}

impl Echo for Mirror {
    mirror!(carry: Carry, carry_again: CarryAgain, look: Look);
}

struct SelfsameClient {
    echo: EchoClient,
    class: Class,
}

/// Calls one method, and checks each echo.
macro_rules! drive {
    ($echo:expr, $method:ident, $load:ident) => {{
        let (echo, payload) = ($echo.clone(), $load.payload.clone());
        let call = move |number| {
            let length = payload.len();
            let call = echo.$method(|mut params| {
                params.set_sequence(number);
                params.set_payload(&payload);
            });
            async move {
                let reply = call.await?;
                let reply = reply.get()?;
                super::check(reply.get_sequence() == number && reply.get_payload()?.len() == length)
            }
        };
        Box::pin(async move { calls(&$load, call).await })
    }};
}

impl Client for SelfsameClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        match self.class {
            Class::Once => drive!(self.echo, carry, load),
            Class::Idempotent => drive!(self.echo, carry_again, load),
            Class::ReadOnly => drive!(self.echo, look, load),
        }
    }
}

/// For a whole burst of events, as others have it: the thread that reads them and the one that hears them share a core here, and what does not fit is
/// dropped.
const ROOM: usize = 256 << 20;

impl Broadcast for Selfsame {
    fn publish(&self, ready: Ready, orders: Bursts) -> Doing<'_, ()> {
        Box::pin(async {
            let publisher = Publisher::builder().policy(Policy::Block).bind("tcp://127.0.0.1:0").await?;
            ready(publisher.endpoint().to_owned(), Vec::new());
            let ticks = publisher.topic::<Tick>();
            let publish = async |number, payload: &Bytes| {
                let event = ticks.publish(|mut event| {
                    event.set_sequence(number);
                    event.set_payload(payload);
                });
                Ok(event.await?)
            };
            bursts(orders, publish).await
        })
    }

    fn subscribe(&self, endpoint: String, tally: Tally) -> Doing<'_, ()> {
        Box::pin(async move {
            let subscriber = Subscriber::connect(&endpoint).await?;
            let mut ticks = subscriber.subscribe::<Tick>().queue(ROOM).await?;
            while let Some(event) = ticks.next().await {
                match event? {
                    Event::Message(tick) => tally.heard(tick.get()?.get_sequence()),
                    Event::Gap { missed, .. } => eprintln!("selfsame: {missed} events were lost"),
                    Event::Disconnected { .. } => {
                        eprintln!("selfsame: the connection to the publisher was lost")
                    }
                    _ => {}
                }
            }
            Ok(())
        })
    }
}
