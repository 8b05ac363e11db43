//! A network between a replica and PostgreSQL: it takes its time, or keeps something back that arrives when its sender is long gone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selfsame_test_postgres::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

/// Lives as long as the runtime of its test.
pub struct Relay {
    address: SocketAddr,
    trap: Arc<Mutex<Option<Trap>>>,
}

/// Waits for bytes. The connection that sends them is cut off from there on.
struct Trap {
    needle: Vec<u8>,
    caught: oneshot::Sender<Caught>,
}

/// What was sent over a connection and has not arrived yet.
pub struct Caught {
    bytes: Vec<u8>,
    to: OwnedWriteHalf,
    answered: Arc<Notify>,
}

impl Relay {
    /// In front of a server. What it answers takes `delay`.
    pub async fn start(server: &Server, delay: Duration) -> Relay {
        let to = server.tcp_url().replace("postgresql://postgres@", "").replace("/postgres", "");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Arc::<Mutex<Option<Trap>>>::default();
        let traps = trap.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&to).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let answered = Arc::new(Notify::new());
                tokio::spawn(back(from_server, to_client, delay, answered.clone()));
                tokio::spawn(forth(from_client, to_server, traps.clone(), answered));
            }
        });
        Relay { address, trap }
    }

    /// Of the server behind it.
    pub fn url(&self) -> String {
        format!("postgresql://postgres@{}/postgres", self.address)
    }

    /// Catches the next thing that is sent with these bytes in it.
    pub fn catch(&self, needle: Vec<u8>) -> oneshot::Receiver<Caught> {
        let (caught, receiver) = oneshot::channel();
        *self.trap.lock().unwrap() = Some(Trap { needle, caught });
        receiver
    }
}

impl Caught {
    /// Lets it arrive, until the server has answered; and then closes the connection.
    pub async fn arrive(mut self) {
        self.to.write_all(&self.bytes).await.unwrap();
        self.answered.notified().await;
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, answered: Arc<Notify>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(delay).await;
        answered.notify_one();
        // The client may be gone.
        to.write_all(&buffer[..read]).await.ok();
    }
}

async fn forth(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    traps: Arc<Mutex<Option<Trap>>>,
    answered: Arc<Notify>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        let trap = {
            let mut traps = traps.lock().unwrap_or_else(PoisonError::into_inner);
            traps.take_if(|trap| bytes.windows(trap.needle.len()).any(|part| part == trap.needle))
        };
        if let Some(Trap { caught, .. }) = trap {
            // Forget the answers to what came before.
            let answered_before = tokio::time::timeout(Duration::ZERO, answered.notified());
            answered_before.await.ok();
            caught.send(Caught { bytes: bytes.to_vec(), to, answered }).ok();
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
