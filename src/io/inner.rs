//! The private side of a gate: a Unix socket that nobody else can reach, and the handshake with the crate's socket.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::task::{Poll, ready};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::backlog::{poll_read, with_scratch};
use crate::protocol::zmtp::{Handshake, Refused, SocketType};

/// The crate's socket is on the same thread and answers at once, unless the thread is in trouble.
pub(crate) const INNER_TIMEOUT: Duration = Duration::from_secs(10);

/// Until then the crate's accept loop has had its turn.
const RETRY: Duration = Duration::from_millis(2);

/// A message of one empty frame.
const ANNOUNCEMENT: &[u8] = &[0, 0];

/// The most that a socket of the crate reads at once. Its buffer has room for one read behind what is left of the one before, never shrinks, and grows by
/// doubling: 32 KiB for messages of 16 KiB. With the crate's own 64 KiB it is four times that, and nothing is faster, not even messages of 1 MiB.
const READ: usize = 16 * 1024;

/// What all sockets of the crate have.
pub(crate) fn socket_options() -> zeromq::SocketOptions {
    let mut options = zeromq::SocketOptions::default();
    // Otherwise as the crate has it: the first read, and the short ones after which reads become shorter.
    options.read_buffer(128, READ, 2);
    options
}

/// A listening socket, and the way to it.
pub(crate) struct Listening {
    path: PathBuf,
    /// By this descriptor, and under no name: nobody else gets there, and nothing is left behind, however the process ends.
    _inode: Option<OwnedFd>,
    /// Or by its name, where the system has no such way.
    _folder: Option<TempDir>,
}

impl Listening {
    pub fn begin(backlog: i32) -> io::Result<(Listening, UnixListener)> {
        // Mode 0700 is what `tempfile` makes folders with.
        let folder = tempfile::Builder::new().prefix("selfsame-").tempdir()?;
        let name = folder.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        listener.bind(&SockAddr::unix(&name)?)?;
        listener.listen(backlog)?;
        let listening = match by_descriptor(&name) {
            Some((inode, path)) => Listening { path, _inode: Some(inode), _folder: None },
            None => Listening { path: name, _inode: None, _folder: Some(folder) },
        };
        Ok((listening, listener.into()))
    }
}

/// A way to a socket that remains when it has no name any more.
#[cfg(target_os = "linux")]
fn by_descriptor(name: &Path) -> Option<(OwnedFd, PathBuf)> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags, open};

    let inode = open(name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", inode.as_raw_fd()));
    path.exists().then_some((inode, path))
}

#[cfg(not(target_os = "linux"))]
fn by_descriptor(_name: &Path) -> Option<(OwnedFd, PathBuf)> {
    None
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShakeError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] super::tls::TlsError),
}

impl From<ShakeError> for io::Error {
    fn from(error: ShakeError) -> Self {
        match error {
            ShakeError::Io(error) => error,
            other => io::Error::other(other),
        }
    }
}

impl ShakeError {
    /// Whether encryption or authentication is what it failed at.
    pub fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return match self {
            // One that went away, such as a balancer that looks whether somebody listens, has failed at nothing.
            ShakeError::Tls(error) => !matches!(error, super::tls::TlsError::Io(_)),
            ShakeError::Io(error) => super::tls::alert(error).is_some(),
            ShakeError::Refused(_) => false,
        };
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Carries a handshake through, and returns the peer's socket type and what was read beyond it.
pub(crate) async fn shake<S>(
    stream: &mut S,
    mut handshake: Handshake,
) -> Result<(SocketType, Vec<u8>), ShakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let outgoing = handshake.take_outgoing();
        if !outgoing.is_empty() {
            say(stream, &outgoing).await?;
        }
        let beyond = poll_fn(|cx| {
            with_scratch(|scratch| {
                let bytes = ready!(poll_read(stream, cx, scratch))?;
                if bytes.is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                Poll::Ready(Ok(handshake.feed(bytes).map(|taken| bytes[taken..].to_vec())))
            })
        });
        let beyond = match beyond.await? {
            Ok(beyond) => beyond,
            Err(why) => {
                // It came with its greeting: whoever is turned away for its type is still told ours, and need not guess.
                say(stream, &handshake.take_outgoing()).await?;
                return Err(why.into());
            }
        };
        if let Some(peer) = handshake.peer() {
            // Nothing is outgoing: our READY went out before the peer's was read, or goes now.
            say(stream, &handshake.take_outgoing()).await?;
            return Ok((peer, beyond));
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Connects to the crate's ROUTER as a DEALER of this identity.
///
/// The first message on it is ours, one empty frame: when it comes out of the ROUTER, the ROUTER knows the connection and can send to it.
pub(crate) async fn connect(to: &Listening, identity: u64) -> Result<(UnixStream, Vec<u8>), ShakeError> {
    // The crate is to have a descriptor to accept it with: without one it would try again and again, and the thread do nothing else.
    let spare = File::open("/dev/null")?;
    let mut stream = loop {
        match UnixStream::connect(&to.path).await {
            // The backlog is full; it is this thread that empties it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
            other => break other?,
        }
    };
    drop(spare);
    let handshake = Handshake::new(SocketType::Dealer, &identity.to_be_bytes());
    let (_, beyond) = shake(&mut stream, handshake).await?;
    stream.write_all(ANNOUNCEMENT).await?;
    Ok((stream, beyond))
}
