//! tonic: gRPC over HTTP/2, with prost. The service is generated from a description in `build.rs`, as from a `.proto` file.

use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::load::{Load, Meter, calls};
use crate::peer::{Client, Doing, Peer, Ready};

#[allow(clippy::all, missing_docs)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/peer.Echo.rs"));
}

use generated::echo_client::EchoClient;
use generated::echo_server::{Echo, EchoServer};

/// A call and a reply.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Carried {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
}

struct Mirror;

#[tonic::async_trait]
impl Echo for Mirror {
    async fn carry(&self, request: Request<Carried>) -> Result<Response<Carried>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

pub struct Tonic;

impl Peer for Tonic {
    fn name(&self) -> &'static str {
        "tonic"
    }

    fn about(&self) -> &'static str {
        "tonic, a unary call, with the defaults (TCP_NODELAY is one)"
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(format!("http://{}", listener.local_addr()?), Vec::new());
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Ok(Server::builder().add_service(EchoServer::new(Mirror)).serve_with_incoming(incoming).await?)
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            Ok(Box::new(TonicClient(EchoClient::new(Endpoint::new(endpoint)?.connect().await?))) as _)
        })
    }
}

struct TonicClient(EchoClient<Channel>);

impl Client for TonicClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        let (client, payload) = (self.0.clone(), load.payload.clone());
        let call = move |number| {
            // A clone a call is how it is done: calls of one client exclude each other.
            let (mut client, payload) = (client.clone(), payload.clone());
            async move {
                let length = payload.len();
                let carried = client.carry(Carried { number, payload }).await?.into_inner();
                super::check(carried.number == number && carried.payload.len() == length)
            }
        };
        Box::pin(async move { calls(&load, call).await })
    }
}
