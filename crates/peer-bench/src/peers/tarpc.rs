//! tarpc over TCP, with bincode.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tarpc::serde_transport::tcp;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};

use crate::load::{Load, Meter, calls};
use crate::peer::{Client, Doing, Peer, Ready};

#[tarpc::service]
trait Echo {
    async fn carry(number: u64, payload: Bytes) -> (u64, Bytes);
}

#[derive(Clone)]
struct Mirror;

impl Echo for Mirror {
    async fn carry(self, _: context::Context, number: u64, payload: Bytes) -> (u64, Bytes) {
        (number, payload)
    }
}

pub struct Tarpc;

impl Peer for Tarpc {
    fn name(&self) -> &'static str {
        "tarpc"
    }

    fn about(&self) -> &'static str {
        "tarpc over TCP with bincode, with the defaults and TCP_NODELAY"
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let mut listener = tcp::listen("127.0.0.1:0", Bincode::default).await?;
            ready(listener.local_addr().to_string(), Vec::new());
            while let Some(transport) = listener.next().await {
                let transport = transport?;
                transport.get_ref().set_nodelay(true)?;
                let requests = BaseChannel::with_defaults(transport).execute(Mirror.serve());
                tokio::spawn(requests.for_each(|answering| async {
                    tokio::spawn(answering);
                }));
            }
            Ok(())
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            let transport = tcp::connect(endpoint, Bincode::default).await?;
            transport.get_ref().set_nodelay(true)?;
            let client = EchoClient::new(client::Config::default(), transport).spawn();
            Ok(Box::new(TarpcClient(Arc::new(client))) as _)
        })
    }
}

struct TarpcClient(Arc<EchoClient>);

impl Client for TarpcClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        let (client, payload) = (self.0.clone(), load.payload.clone());
        let call = move |number| {
            let (client, payload) = (client.clone(), payload.clone());
            async move {
                let length = payload.len();
                let (echoed, payload) = client.carry(context::current(), number, payload).await?;
                super::check(echoed == number && payload.len() == length)
            }
        };
        Box::pin(async move { calls(&load, call).await })
    }
}
