//! capnp-rpc: Cap'n Proto's own RPC over TCP. It stays on one thread, whatever the runtime has.

use std::rc::Rc;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use futures::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::Result;
use crate::load::{Load, Meter, lane};
use crate::peer::{Client, Doing, Peer, Ready};
use crate::plain_capnp::plain;
use crate::rounds::Cell;

struct Mirror;

impl plain::Server for Mirror {
    async fn carry(
        self: Rc<Self>,
        params: plain::CarryParams,
        mut results: plain::CarryResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let mut results = results.get();
        results.set_sequence(params.get_sequence());
        results.set_payload(params.get_payload()?);
        Ok(())
    }
}

pub struct CapnpRpc;

impl Peer for CapnpRpc {
    fn name(&self) -> &'static str {
        "capnp-rpc"
    }

    fn about(&self) -> &'static str {
        "capnp-rpc over TCP, with the defaults and TCP_NODELAY"
    }

    fn takes_part(&self, cell: &Cell) -> bool {
        // It stays on one thread.
        cell.workers == 1 && cell.pace.is_none()
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let serving = async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                ready(listener.local_addr()?.to_string(), Vec::new());
                loop {
                    let (stream, _) = listener.accept().await?;
                    let mirror: plain::Client = new_client(Mirror);
                    let system =
                        RpcSystem::new(Box::new(network(stream, Side::Server)?), Some(mirror.client));
                    tokio::task::spawn_local(system);
                }
            };
            LocalSet::new().run_until(serving).await
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            let tasks = LocalSet::new();
            let connected = tasks.run_until(async {
                let network = network(TcpStream::connect(endpoint).await?, Side::Client)?;
                let mut system = RpcSystem::new(Box::new(network), None);
                let client: plain::Client = system.bootstrap(Side::Server);
                tokio::task::spawn_local(system);
                Result::Ok(client)
            });
            let client = connected.await?;
            Ok(Box::new(CapnpClient { tasks, client }) as _)
        })
    }
}

type Reader = BufReader<tokio_util::compat::Compat<tokio::net::tcp::OwnedReadHalf>>;

fn network(stream: TcpStream, side: Side) -> Result<VatNetwork<Reader>> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(VatNetwork::new(BufReader::new(reader.compat()), writer.compat_write(), side, Default::default()))
}

struct CapnpClient {
    tasks: LocalSet,
    client: plain::Client,
}

impl Client for CapnpClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        let CapnpClient { tasks, client } = self;
        let payload = load.payload.clone();
        let call = move |number| {
            let mut request = client.carry_request();
            request.get().set_sequence(number);
            request.get().set_payload(&payload);
            let length = payload.len();
            async move {
                let reply = request.send().promise.await?;
                let reply = reply.get()?;
                super::check(reply.get_sequence() == number && reply.get_payload()?.len() == length)
            }
        };
        Box::pin(tasks.run_until(async move { lane(&load, load.in_flight, call).await }))
    }
}
