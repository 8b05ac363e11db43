//! A wire that can be cut: hands bytes on between a client and a server, until it is told not to.

use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::transport::{Wire, in_front_of};

pub struct Relay {
    endpoint: String,
    at_work: JoinHandle<()>,
}

impl Relay {
    pub async fn to(endpoint: &str) -> Relay {
        let server = endpoint.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = in_front_of(endpoint, listener.local_addr().unwrap());
        let at_work = tokio::spawn(async move {
            let mut wires = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                wires.spawn(async move {
                    let Ok(mut server) = Wire::connect(&server).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut server).await; // whoever closes ends it
                });
            }
        });
        Relay { endpoint, at_work }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Closes all connections, and takes no more.
    pub fn cut(self) {
        self.at_work.abort();
    }
}
