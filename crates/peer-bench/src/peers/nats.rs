//! NATS: a broker process beside the server, and async-nats at both ends. A call is a request to a subject and what its subscriber publishes in answer, so
//! it passes the broker twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client as Connection, ConnectOptions};
use bytes::Bytes;
use futures::StreamExt;
use tokio::process::Command;
use tokio::time::sleep;

use crate::Result;
use crate::events::{Tally, bursts};
use crate::load::{Load, Meter, calls};
use crate::peer::{Broadcast, Bursts, Client, Doing, Peer, Ready, number_of, numbered};

const SUBJECT: &str = "peer";

pub struct Nats;

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn about(&self) -> &'static str {
        "async-nats at both ends of a nats-server, which shares the server's core: request and reply"
    }

    fn missing(&self) -> Option<String> {
        broker()
            .is_none()
            .then(|| "there is no nats-server; crates/peer-bench/setup installs Debian's".into())
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let broker = Broker::start().await?;
            let connection = broker.connect().await?;
            let mut requests = connection.subscribe(SUBJECT).await?;
            // The broker has to know of it before anybody asks.
            connection.flush().await?;
            broker.is_ready(ready);
            while let Some(request) = requests.next().await {
                let reply = request.reply.ok_or("a request that wants no answer")?;
                connection.publish(reply, request.payload).await?;
            }
            Err("the broker has gone".into())
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move { Ok(Box::new(NatsClient(connect(&endpoint).await?)) as _) })
    }

    fn events(&self) -> Option<&dyn Broadcast> {
        Some(self)
    }
}

/// Where the broker's program is. Debian has it where not everybody looks.
fn broker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(std::iter::once("/usr/sbin".into()));
    folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file())
}

async fn connect(endpoint: &str) -> Result<Connection> {
    // Room for all events of a burst: by default a subscription drops what does not fit into 65,536 places.
    Ok(ConnectOptions::new().subscription_capacity(1 << 20).connect(endpoint).await?)
}

/// A broker of this process's own, ended with it.
struct Broker {
    endpoint: String,
    process: tokio::process::Child,
    _folder: tempfile::TempDir,
}

impl Broker {
    async fn start() -> Result<Broker> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config");
        // By default a payload of 1 MiB and its number are too large by eight bytes.
        std::fs::write(&config, "max_payload: 8388608\n")?;
        // setpriv: the kernel ends the broker if this process is killed.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(broker().ok_or("there is no nats-server")?)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--config"])
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(folder.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        loop {
            if let Some(endpoint) = endpoint_in(folder.path()) {
                return Ok(Broker { endpoint, process, _folder: folder });
            }
            if let Some(status) = process.try_wait()? {
                return Err(format!("nats-server ended: {status}").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connect(&self) -> Result<Connection> {
        connect(&self.endpoint).await
    }

    fn is_ready(&self, ready: Ready) {
        ready(self.endpoint.clone(), self.process.id().into_iter().collect());
    }
}

/// The endpoint that the broker has written into a file `nats-server_ID.ports`.
fn endpoint_in(folder: &Path) -> Option<String> {
    let mut entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let ports = entries.find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
    // A file that is only half written is none yet.
    let ports: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(ports).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}

struct NatsClient(Connection);

impl Client for NatsClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        let (connection, payload) = (self.0.clone(), load.payload.clone());
        let call = move |number| {
            let (connection, message) = (connection.clone(), numbered(number, &payload));
            async move {
                let length = message.len();
                let reply = connection.request(SUBJECT, message).await?.payload;
                super::check(number_of(&reply)? == number && reply.len() == length)
            }
        };
        Box::pin(async move { calls(&load, call).await })
    }
}

impl Broadcast for Nats {
    fn publish(&self, ready: Ready, orders: Bursts) -> Doing<'_, ()> {
        Box::pin(async {
            let broker = Broker::start().await?;
            let connection = broker.connect().await?;
            broker.is_ready(ready);
            let publish = async |number, payload: &Bytes| {
                Ok(connection.publish(SUBJECT, numbered(number, payload)).await?)
            };
            bursts(orders, publish).await
        })
    }

    fn subscribe(&self, endpoint: String, tally: Tally) -> Doing<'_, ()> {
        Box::pin(async move {
            let connection = connect(&endpoint).await?;
            let mut events = connection.subscribe(SUBJECT).await?;
            while let Some(event) = events.next().await {
                tally.heard(number_of(&event.payload)?);
            }
            Err("the broker has gone".into())
        })
    }
}
