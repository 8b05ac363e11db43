//! What the child processes do: serve, call, publish, subscribe.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::load::Load;
use crate::peer::{Client, Peer, Ready};
use crate::process::{self, Order, Said};

/// What one round of one peer came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Calls made and answered.
    pub calls: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// Percentiles of a call's time, in microseconds.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// CPU time of a call, in microseconds, in the client's process and in those of the server.
    pub client_cpu: f64,
    pub server_cpu: f64,
    /// The most memory that they occupied meanwhile, in KiB.
    pub client_peak: u64,
    pub server_peak: u64,
}

impl Sample {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

/// What a child is started with: a peer, the workers of its runtime (1: a current-thread one), the core, and for those who connect, where to.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub peer: String,
    pub workers: usize,
    pub core: usize,
    pub endpoint: String,
}

impl Arguments {
    /// As they come from the parent.
    pub fn parse(words: &[String]) -> Result<Arguments> {
        let [peer, workers, core, endpoint] = words else {
            return Err("a child is started with peer, workers, core and endpoint".into());
        };
        let (workers, core) = (workers.parse()?, core.parse()?);
        Ok(Arguments { peer: peer.clone(), workers, core, endpoint: endpoint.clone() })
    }

    /// As they go to the child.
    pub fn words(&self) -> Vec<String> {
        vec![self.peer.clone(), self.workers.to_string(), self.core.to_string(), self.endpoint.clone()]
    }
}

/// Plays a role to its end.
pub fn play(role: &str, arguments: &Arguments, peer: &dyn Peer) -> Result<()> {
    process::pin(arguments.core)?;
    let runtime = runtime(arguments.workers)?;
    let played = runtime.block_on(async {
        match role {
            "serve" => serve(peer).await,
            "drive" => drive(peer, &arguments.endpoint).await,
            "publish" => crate::events::publish(peer).await,
            "subscribe" => crate::events::subscribe(peer, &arguments.endpoint).await,
            other => Err(format!("{other:?} is no role").into()),
        }
    });
    if let Err(error) = played {
        process::say(&Said::Failed(format!("{role}: {error}")))?;
    }
    // A task that hangs does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(())
}

fn runtime(workers: usize) -> Result<Runtime> {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    Ok(builder.enable_all().build()?)
}

/// Tells the parent once the peer says so.
pub fn ready() -> Ready {
    Box::new(|endpoint, helpers| {
        if process::say(&Said::Ready { endpoint, helpers }).is_err() {
            std::process::exit(1); // nobody listens
        }
    })
}

async fn serve(peer: &dyn Peer) -> Result<()> {
    let mut orders = process::orders();
    tokio::select! {
        served = peer.serve(ready()) => served?,
        _ = orders.recv() => {}
    }
    Ok(())
}

async fn drive(peer: &dyn Peer, endpoint: &str) -> Result<()> {
    let mut orders = process::orders();
    let mut client = peer.connect(endpoint.to_owned()).await?;
    ready()(String::new(), Vec::new());
    let mut held = Vec::new();
    while let Some(order) = orders.recv().await {
        let said = match order {
            Order::Drive { in_flight, size, millis, pace, lanes, server } => {
                let payload = Bytes::from(vec![7; size]);
                let length = Duration::from_millis(millis);
                let load = Load { in_flight, payload, length, pace, lanes };
                Said::Drove(sample(client.as_mut(), load, &server).await?)
            }
            Order::Hold { connections, burst, server } => {
                let at = crate::memory::Sides { client: std::process::id(), server };
                Said::Holds(crate::memory::hold(peer, endpoint, &mut held, connections, burst, &at).await?)
            }
            _ => return Err("that is no order for a client".into()),
        };
        process::say(&said)?;
    }
    Ok(())
}

async fn sample(client: &mut dyn Client, load: Load, server: &[u32]) -> Result<Sample> {
    // A tenth more to warm up; what is paced has no need of it.
    if load.pace.is_none() {
        client.drive(Load { length: load.length / 10, ..load.clone() }).await?;
    }
    let own = [std::process::id()];
    process::forget_peak(&own);
    process::forget_peak(server);
    let before = (process::cpu_time(&own), process::cpu_time(server));
    let meter = client.drive(load).await?;
    let after = (process::cpu_time(&own), process::cpu_time(server));
    let calls = meter.times.len();
    if calls == 0 {
        return Err("no call was answered in this time".into());
    }
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let each = |nanos: u64| micros(nanos) / calls as f64;
    let quantile = |of: f64| micros(meter.times.value_at_quantile(of));
    Ok(Sample {
        calls,
        seconds: meter.elapsed().as_secs_f64(),
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        client_cpu: each(after.0 - before.0),
        server_cpu: each(after.1 - before.1),
        client_peak: process::memory(&own, "VmHWM"),
        server_peak: process::memory(server, "VmHWM"),
    })
}
