//! A pipe to PostgreSQL: bytes pass both ways between a TCP port that the system chooses and a Unix socket, until all connections are cut; and it can part a COMMIT from
//! whoever has asked for it. Not a relay: it looks for nothing else in the bytes, and loses none.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// A pipe, which works until it is dropped with its runtime.
#[derive(Debug)]
pub struct Pipe {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Changes when all connections are to be cut.
    cuts: watch::Sender<u64>,
    /// COMMITs that are still to be parted from their askers.
    orphans: AtomicU64,
}

/// How a simple query of COMMIT ends.
const COMMIT: &[u8] = b"COMMIT\0";
/// How long after its asker has lost the connection a COMMIT arrives. Longer than it takes to connect anew and look.
const LATE: Duration = Duration::from_millis(700);

impl Pipe {
    /// Listens, and connects whoever comes to the socket at `path`, if somebody listens there by then.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(path: PathBuf) -> io::Result<Pipe> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { path, cuts: watch::Sender::new(0), orphans: AtomicU64::new(0) });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().connect(client));
            }
        });
        Ok(Pipe { address, shared })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections that are open now.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next so many COMMITs arrive late, when the connection over which they came is long gone.
    pub fn orphan_commits(&self, commits: u64) {
        self.shared.orphans.store(commits, Ordering::Relaxed);
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let Ok(server) = UnixStream::connect(&self.path).await else { return };
        let _ = client.set_nodelay(true);
        let (mut asked, mut answers) = client.into_split();
        let (mut answered, mut asks) = server.into_split();
        let orphan = tokio::select! {
            orphan = self.pass_asks(&mut asked, &mut asks) => orphan.ok().flatten(),
            _ = tokio::io::copy(&mut answered, &mut answers) => None,
            _ = cuts.changed() => None,
        };
        if let Some(orphan) = orphan {
            drop((asked, answers));
            tokio::time::sleep(LATE).await;
            if asks.write_all(&orphan).await.is_ok() {
                // Its session goes when it has answered.
                let _ = answered.read(&mut [0; 64]).await;
            }
        }
    }

    /// Passes on what the client asks, until it ends or a COMMIT is to be parted from it: that is returned.
    async fn pass_asks(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                return Ok(None);
            }
            let less = |left: u64| left.checked_sub(1);
            if bytes[..count].ends_with(COMMIT)
                && self.orphans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
            {
                return Ok(Some(bytes[..count].to_vec()));
            }
            to.write_all(&bytes[..count]).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    struct Ends {
        _folder: tempfile::TempDir,
        pipe: Pipe,
        client: TcpStream,
        server: UnixStream,
    }

    async fn ends() -> Ends {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let pipe = Pipe::start(path).await.expect("started");
        let client = TcpStream::connect(pipe.address()).await.expect("connected");
        let (server, _) = listener.accept().await.expect("came through");
        Ends { _folder: folder, pipe, client, server }
    }

    #[tokio::test]
    async fn bytes_pass_until_the_connections_are_cut() {
        let Ends { pipe, mut client, mut server, .. } = ends().await;
        client.write_all(b"COMMIT\0").await.expect("written");
        let mut bytes = [0; 7];
        server.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"COMMIT\0");
        pipe.cut_all();
        assert_eq!(client.read(&mut bytes).await.unwrap_or(0), 0);
        assert_eq!(server.read(&mut bytes).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn an_orphaned_commit_arrives_when_its_asker_is_gone() {
        let Ends { pipe, mut client, mut server, .. } = ends().await;
        pipe.orphan_commits(1);
        client.write_all(b"COMMIT\0").await.expect("written");
        let mut bytes = [0; 7];
        assert_eq!(client.read(&mut bytes).await.unwrap_or(0), 0);
        server.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"COMMIT\0");
    }
}
