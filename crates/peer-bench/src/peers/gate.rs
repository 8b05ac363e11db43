//! selfsame's socket layer alone: the sockets of the `zeromq` crate behind a gate at one end or at both. One message a call, as the bare crate has it, so that
//! what a gate costs is seen by itself.

use bytes::Bytes;
use selfsame::io::{
    Acceptor, Connector, Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, Router, RouterEvent,
    RouterOptions, Spin, request_spin,
};
use tokio::sync::{mpsc, oneshot};

use super::zeromq;
use crate::Result;
use crate::certificates;
use crate::load::{Load, Meter, Pipe, windowed};
use crate::peer::{Client, Doing, Peer, Ready, number_of, numbered};
use crate::rounds::Cell;

/// All peers of this file.
pub fn all() -> Vec<Box<dyn Peer>> {
    let gate = |name, about| Gate { name, about, both: true, spin: Spin::Off, tls: false };
    let at_server = "selfsame's socket layer with its gate at the server, and the bare zeromq crate at the client: a message a call";
    let all = [
        Gate { both: false, ..gate("gate-server", at_server) },
        Gate {
            both: false,
            spin: Spin::Adaptive,
            ..gate("gate-server-spin", "the same with adaptive spin at the server")
        },
        gate("gate-both", "selfsame's socket layer with a gate at both ends: a message a call"),
        Gate { spin: Spin::Adaptive, ..gate("gate-both-spin", "a gate at both ends, and adaptive spin") },
        Gate { tls: true, ..gate("gate-both-tls", "a gate at both ends, over TLS") },
        Gate {
            spin: Spin::Adaptive,
            tls: true,
            ..gate("gate-both-tls-spin", "a gate at both ends, over TLS, and adaptive spin")
        },
    ];
    all.into_iter().map(|peer| Box::new(peer) as _).collect()
}

struct Gate {
    name: &'static str,
    about: &'static str,
    /// Whether the client has one too.
    both: bool,
    spin: Spin,
    tls: bool,
}

impl Peer for Gate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn has_own_connections(&self) -> bool {
        false // they are selfsame's
    }

    fn takes_part(&self, cell: &Cell) -> bool {
        // It has a thread of its own.
        cell.workers == 1 && cell.pace.is_none()
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let io = IoThread::start("bench-router")?;
            let (tell, bound) = oneshot::channel();
            let folder = tempfile::tempdir()?;
            let (spin, mut options) = (self.spin, RouterOptions::router());
            // Nothing above these sockets says hello, and a client is silent while others have their turns.
            options.idle_timeout = None;
            if self.tls {
                options.tls = Some(Acceptor::open(certificates::make(folder.path())?)?);
            }
            let scheme = if self.tls { "tls" } else { "tcp" };
            let served = io.run(move || echo(format!("{scheme}://127.0.0.1:0"), options, spin, tell));
            let endpoint = bound.await?;
            ready(if self.tls { certificates::tell(&endpoint, folder.path()) } else { endpoint }, Vec::new());
            served.await?
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            if !self.both {
                return Ok(Box::new(zeromq::Dealer::connect(&endpoint).await?) as _);
            }
            let (endpoint, tls) = certificates::told(&endpoint);
            let mut options = DealerOptions::dealer();
            options.tls = tls.map(Connector::open).transpose()?;
            let endpoint: Endpoint = endpoint.parse()?;
            let spin = self.spin;
            let (loads, orders) = mpsc::unbounded_channel();
            let (tell, dialled) = oneshot::channel();
            drop(IoThread::shared()?.run(move || client(endpoint, options, spin, tell, orders)));
            dialled.await??;
            Ok(Box::new(GateClient(loads)) as _)
        })
    }
}

async fn echo(
    endpoint: String,
    options: RouterOptions,
    spin: Spin,
    tell: oneshot::Sender<String>,
) -> Result<()> {
    let _spins = request_spin(spin);
    let mut router = Router::bind(&endpoint.parse()?, options).await?;
    let _ = tell.send(router.endpoint().to_string()); // who asked waits for it
    loop {
        if let RouterEvent::Message(from, frames) = router.next().await {
            router.send(from, frames)?;
        }
    }
}

/// What the thread of the library is asked to do, and where the answer goes.
type Asked = (Load, oneshot::Sender<Result<Meter>>);

struct GateClient(mpsc::UnboundedSender<Asked>);

impl Client for GateClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        Box::pin(async {
            let (tell, done) = oneshot::channel();
            self.0.send((load, tell)).map_err(|_| "the client has ended")?;
            done.await?
        })
    }
}

async fn client(
    endpoint: Endpoint,
    options: DealerOptions,
    spin: Spin,
    tell: oneshot::Sender<Result<()>>,
    mut orders: mpsc::UnboundedReceiver<Asked>,
) {
    let _spins = request_spin(spin);
    let dialled = Dealer::dial(&endpoint, options).await;
    let (dealer, told) = match dialled {
        Ok(dealer) => (Some(dealer), Ok(())),
        Err(error) => (None, Err(error.into())),
    };
    let _ = tell.send(told);
    let Some(dealer) = dealer else { return };
    let mut pipe = GatePipe(dealer);
    while let Some((load, answer)) = orders.recv().await {
        let _ = answer.send(windowed(&load, &mut pipe).await);
    }
}

struct GatePipe(Dealer);

impl GatePipe {
    fn take(event: DealerEvent, numbers: &mut Vec<u64>) -> Result<()> {
        match event {
            DealerEvent::Message(frames) => {
                numbers.push(number_of(frames.first().ok_or("a message without a frame")?)?);
                Ok(())
            }
            DealerEvent::Writable => Ok(()),
            DealerEvent::Closed(reason) => Err(format!("the connection was closed: {reason}").into()),
        }
    }
}

impl Pipe for GatePipe {
    fn submit(&mut self, number: u64, payload: &Bytes) -> Result<()> {
        Ok(self.0.send(vec![numbered(number, payload)])?)
    }

    async fn echoes(&mut self, numbers: &mut Vec<u64>) -> Result<()> {
        while numbers.is_empty() {
            Self::take(self.0.next().await, numbers)?;
        }
        while let Some(event) = self.0.try_next() {
            Self::take(event, numbers)?;
        }
        Ok(())
    }
}
