//! A pipe to a database: bytes pass both ways between a TCP port that the system chooses and a Unix socket, until all connections are cut. Not a relay: it does not know where a
//! message ends, and harms none.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// A pipe, which works until it is dropped with its runtime.
#[derive(Debug)]
pub struct Pipe {
    address: SocketAddr,
    /// Changes when all connections are to be cut.
    cuts: watch::Sender<u64>,
}

impl Pipe {
    /// Listens, and connects whoever comes to the socket at `path`, if somebody listens there by then.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(path: PathBuf) -> io::Result<Pipe> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cuts = watch::Sender::new(0);
        let begin = cuts.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (path, mut cuts) = (path.clone(), begin.subscribe());
                tokio::spawn(async move {
                    let Ok(mut server) = UnixStream::connect(path).await else { return };
                    let _ = client.set_nodelay(true);
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Ok(Pipe { address, cuts })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections that are open now.
    pub fn cut_all(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixListener};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_until_the_connections_are_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let pipe = Pipe::start(path).await.expect("started");
        let mut client = TcpStream::connect(pipe.address()).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("came through");
        client.write_all(b"ask").await.expect("written");
        let mut bytes = [0; 3];
        server.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"ask");
        pipe.cut_all();
        assert_eq!(client.read(&mut bytes).await.unwrap_or(0), 0);
        assert_eq!(server.read(&mut bytes).await.unwrap_or(0), 0);
    }
}
