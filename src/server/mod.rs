//! The server's shell: a bound socket, the services behind it, and their handlers.
//!
//! Whether a call runs, joins, is replayed or refused is decided by the machine in `protocol::dedup`; the `engine` runs it on an IO thread.

mod alarm;
mod answer;
mod builder;
mod counters;
mod engine;
mod guard;
mod handlers;
mod intake;
mod newcomers;
mod outbox;
mod queue;
mod routes;
mod shares;
mod work;

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

pub use answer::{Incoming, Outgoing};
pub use builder::ServerBuilder;
pub use counters::ServerCounters;

use crate::codegen::Service;
use crate::error::{SetupError, SetupErrorKind};
use crate::io::{self, IoThread};
use crate::nonce;
use crate::principal::Principal;
use crate::protocol::dedup::Now;
use crate::protocol::replica::Replica;
use crate::protocol::store::Opened;
use crate::protocol::{Incarnation, Level, WallTime};
use crate::store::{Link, Opener};
use builder::Settings;
use engine::{Engine, Records};
use routes::Routes;

const STOPPED: &str = "the IO thread has stopped";

/// A bound socket with its services.
///
/// ```no_run
/// # async fn serve(vault: impl selfsame::Service) -> Result<(), selfsame::SetupError> {
/// use selfsame::Server;
/// Server::bind("tcp://127.0.0.1:7314").await?.service(vault).serve_until(tokio::signal::ctrl_c()).await
/// # }
/// ```
pub struct Server {
    endpoint: String,
    routes: Result<Routes, SetupError>,
    start: oneshot::Sender<Start>,
    ended: oneshot::Receiver<()>,
    counters: watch::Receiver<ServerCounters>,
    /// Joined when the server is dropped, after the engine on it has ended.
    thread: IoThread,
}

/// What the engine waits for between `bind` and `serve`.
struct Start {
    routes: Routes,
    /// The user's runtime: where handlers run.
    runtime: Handle,
    shutdown: oneshot::Receiver<()>,
    ended: oneshot::Sender<Result<(), String>>,
}

impl Server {
    /// Binds with the defaults of [`ServerBuilder`]: `tcp://host:port` (port 0 lets the system choose; see
    /// [`endpoint`](Server::endpoint)) or `ipc:///path`. For `tls://host:port` it takes certificates, which `ServerBuilder::tls` is given.
    ///
    /// # Errors
    /// If the endpoint is not one or cannot be bound.
    pub async fn bind(endpoint: impl AsRef<str>) -> Result<Server, SetupError> {
        Server::builder().bind(endpoint).await
    }

    /// A server with limits of your own.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    async fn open(settings: Settings, endpoint: &str) -> Result<Server, SetupError> {
        let settings = Settings { store: settings.store.anew(), ..settings };
        let what = format!("bind {endpoint}");
        let parsed: io::Endpoint = endpoint
            .parse()
            .map_err(|error: io::EndpointError| SetupError::of(SetupErrorKind::Endpoint, &what, error))?;
        let options = io::RouterOptions {
            #[cfg(feature = "tls")]
            tls: io::Acceptor::of(&parsed, settings.tls.clone(), "ServerBuilder::tls")
                .map_err(|error| SetupError::of(SetupErrorKind::Tls, &what, error))?,
            ..settings.gate.router(settings.wire.body)
        };
        let incarnation = Incarnation(crate::random::u64().max(1));
        let opener = Opener { incarnation, retention: settings.dedup.retention, spin: settings.spin };
        let store = settings.store.clone().open(opener).await?;
        let thread = IoThread::start("selfsame-server").map_err(|error| SetupError::io(&what, error))?;
        let (start, started) = oneshot::channel::<Start>();
        let (bound, is_bound) = oneshot::channel();
        let (publish, counters) = watch::channel(ServerCounters::default());
        let ended = thread.run(move || async move {
            let router = match io::Router::bind(&parsed, options).await {
                Ok(router) => router,
                Err(error) => return drop(bound.send(Err(error))),
            };
            // Whoever had this endpoint before has let go of it: no store of its can take in a call from here on.
            let born = nonce::wall_time(SystemTime::now());
            let _ = bound.send(Ok(router.endpoint().to_string()));
            // A server that is dropped without having served closes its socket here.
            let Ok(Start { routes, runtime, shutdown, ended }) = started.await else { return };
            let records = store.map_or_else(
                || in_memory(incarnation, &settings, born),
                |store| in_store(incarnation, &settings, store),
            );
            let engine = Engine::new(io::Port::Router(router), settings, routes, runtime, publish, records);
            let _ = ended.send(engine.run(shutdown).await);
        });
        let endpoint = match is_bound.await {
            Ok(bound) => bound.map_err(|error| SetupError::io(what, error))?,
            Err(_) => return Err(SetupError::new(SetupErrorKind::Other, what, STOPPED)),
        };
        Ok(Server { endpoint, routes: Ok(Routes::default()), start, ended, counters, thread })
    }

    /// Where clients can connect: the bound endpoint, with the port that the system chose.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds a service: a generated `…Server`. Several services share the socket. An interface has one service on a socket, so two that serve the same one, or
    /// extend the same one, are an error of `serve`: bind each on a `Server` of its own.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.routes = self.routes.and_then(|routes| routes.with(service));
        self
    }

    /// Adds a rule: a call is run only if this says that its principal may call the method, which is named as `Interface.method` in the
    /// contract's spelling; it does not see the call's metadata. A call that is not allowed is refused as [`Denied`](crate::Refusal::Denied) and has no effect. Of several rules all must
    /// agree; without one everything is allowed. The rule is asked for each attempt on the server's IO thread, so it must not block;
    /// a rule that panics has said no.
    ///
    /// ```no_run
    /// # async fn serve(vault: impl selfsame::Service) -> Result<(), selfsame::SetupError> {
    /// # use selfsame::Server;
    /// let server = Server::bind("tcp://127.0.0.1:7314").await?;
    /// server.allow(|principal, method| method == "Account.version" || principal.name() == Some("backoffice")).service(vault).serve().await
    /// # }
    /// ```
    #[must_use]
    pub fn allow(mut self, rule: impl Fn(&Principal, &str) -> bool + Send + Sync + 'static) -> Self {
        if let Ok(routes) = &mut self.routes {
            routes.rules.add(rule);
        }
        self
    }

    /// What can be asked of the server once [`serve`](Server::serve) has taken it.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.counters.clone())
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// As [`serve_until`](Server::serve_until).
    pub async fn serve(self) -> Result<(), SetupError> {
        self.serve_until(std::future::pending::<()>()).await
    }

    /// Serves until `signal` completes, then shuts down: says goodbye to every client, refuses new calls as not executed, lets running handlers
    /// finish within [`drain`](ServerBuilder::drain), sends their replies, and closes.
    ///
    /// Handlers run in the runtime that this is awaited in. If the future is dropped, the server closes without waiting for handlers.
    ///
    /// # Errors
    /// If two services serve, or extend, the same interface, the IO thread stopped, or the store did: a failed write or fsync of a file, or a database that has
    /// become another one. The process should end then and be started anew, as a new incarnation.
    pub async fn serve_until<F: Future>(self, signal: F) -> Result<(), SetupError> {
        let Server { endpoint, routes, start, ended: engine, thread, .. } = self;
        let stopped = || SetupError::new(SetupErrorKind::Other, format!("serve {endpoint}"), STOPPED);
        let (stop, shutdown) = oneshot::channel();
        let (ended, mut has_ended) = oneshot::channel();
        let start_engine = Start { routes: routes?, runtime: Handle::current(), shutdown, ended };
        start.send(start_engine).map_err(|_| stopped())?;
        let ended = tokio::select! {
            _ = signal => None,
            ended = &mut has_ended => Some(ended),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                let _ = stop.send(());
                has_ended.await
            }
        };
        let drained = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(store_stopped(&endpoint, &why)),
            Err(_) => Err(stopped()),
        };
        drop(engine);
        // Joining a thread blocks; the engine has ended, so this is short.
        let _ = tokio::task::spawn_blocking(move || drop(thread)).await;
        drained
    }
}

/// A replica whose records live in its own memory: the store begins with it.
fn in_memory(incarnation: Incarnation, settings: &Settings, born: WallTime) -> Records {
    let mut replica = Replica::new(incarnation, Level::Memory, settings.dedup.clone());
    let opened =
        Opened { store: crate::random::u128(), generation: incarnation.0, born, ..Opened::default() };
    replica.opened(opened, Now { moment: Duration::ZERO, wall: born });
    Records {
        incarnation,
        replica,
        store: None,
        #[cfg(feature = "postgres")]
        transactions: None,
    }
}

fn in_store(incarnation: Incarnation, settings: &Settings, store: Link) -> Records {
    let replica = Replica::new(incarnation, settings.store.level(), settings.dedup.clone());
    Records {
        incarnation,
        replica,
        store: Some(store),
        #[cfg(feature = "postgres")]
        transactions: settings.store.transactions(),
    }
}

fn store_stopped(endpoint: &str, why: &str) -> SetupError {
    let why = format!(
        "the store has stopped: {why}. Nothing that was told is lost, and what was not answered will be told when it is asked for \
         again; start the process anew, once the cause is gone"
    );
    SetupError::new(SetupErrorKind::Store, format!("serve {endpoint}"), why)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What is asked of a [`Server`] while it serves, and afterwards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerHandle(watch::Receiver<ServerCounters>);

impl ServerHandle {
    /// What happened so far, as of at most a tenth of a second ago.
    pub fn counters(&self) -> ServerCounters {
        self.0.borrow().clone()
    }
}

/// A server without a socket, for `Channel::local`: runs on the IO thread of the channel's driver, handlers in the current runtime.
pub(crate) fn local(service: impl Service) -> io::LocalLink {
    let runtime = Handle::current();
    let (port, dial) = io::local();
    let routes = Routes::default().with(service).expect("one service has no rival");
    let mut settings = Settings::default();
    settings.dedup.clock_error = Duration::ZERO; // both ends have the same clock
    let (publish, _) = watch::channel(ServerCounters::default());
    let born = nonce::wall_time(SystemTime::now());
    let records = in_memory(Incarnation(crate::random::u64().max(1)), &settings, born);
    let engine = move || async move {
        // Ends when the channel does: the port closes.
        let (_stop, shutdown) = oneshot::channel();
        let engine = Engine::new(io::Port::Local(port), settings, routes, runtime, publish, records);
        // Without a store nothing can stop it.
        let _ = engine.run(shutdown).await;
    };
    drop(IoThread::shared().expect("an IO thread can be started").run(engine));
    dial
}
