//! The stranger's end of a connection, and what accepts it: TCP or a Unix socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::endpoint::Endpoint;
#[cfg(feature = "tls")]
use super::tls::TlsStream;
use crate::protocol::zmtp::SocketType;

/// A silent peer is asked after 15 s whether it is still there, and three times more at 5 s: a host that vanished is noticed within half a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

#[cfg(target_os = "linux")]
/// The same half a minute for a host that vanished while data was on its way to it; the system's own limit is some 15 minutes.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// Over TCP, encrypted or not, from here.
    Tcp(SocketAddr),
    /// Over a Unix socket of this machine.
    Ipc,
}

/// Addresses that count as one: where they are limited, and where peers have a share of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// One address.
    V4([u8; 4]),
    /// The first 64 bits: what one customer of a network gets, to choose addresses from at will.
    V6([u8; 8]),
}

impl PeerAddress {
    /// Where on the network it comes from; a Unix socket is on none.
    pub fn network(self) -> Option<Network> {
        let PeerAddress::Tcp(address) = self else { return None };
        // A socket that is bound to both sees IPv4 as ::ffff:a.b.c.d, all of which share their first 64 bits.
        Some(match address.ip().to_canonical() {
            IpAddr::V4(address) => Network::V4(address.octets()),
            IpAddr::V6(address) => Network::V6(address.octets()[..8].try_into().expect("8 of 16 bytes")),
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp(address) => write!(f, "tcp://{address}"),
            PeerAddress::Ipc => f.write_str("ipc"),
        }
    }
}

/// A stranger that came through the handshake.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: PeerAddress,
    /// The socket type that it shows.
    pub socket: SocketType,
    /// The name that its certificate proved, if it had to show one.
    pub name: Option<Arc<str>>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} at {}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// A connection on its way from one thread to another.
pub(crate) enum Unregistered {
    Tcp(std::net::TcpStream),
    Ipc(std::os::unix::net::UnixStream),
}

impl Unregistered {
    /// To be called on the thread that is to have it.
    pub fn register(self) -> io::Result<Stream> {
        Ok(match self {
            Unregistered::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Unregistered::Ipc(stream) => Stream::Ipc(UnixStream::from_std(stream)?),
        })
    }
}

/// A connection with a stranger.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Ipc(UnixStream),
    /// Takes bytes before they are sent: what must go out has to be flushed.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// To be handed to another thread, before anything was said on it.
    pub fn unregister(self) -> io::Result<Unregistered> {
        match self {
            Stream::Tcp(stream) => stream.into_std().map(Unregistered::Tcp),
            Stream::Ipc(stream) => stream.into_std().map(Unregistered::Ipc),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(io::Error::other("it is encrypted already")),
        }
    }

    /// Sets what every one of ours has.
    pub fn prepare(&self) -> io::Result<()> {
        let Stream::Tcp(stream) = self else { return Ok(()) };
        stream.set_nodelay(true)?; // messages are coalesced before they come here
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Ipc(stream) => Pin::new(stream).poll_read(cx, into),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Ipc(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Ipc(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Ipc(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What accepts strangers.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The path is removed when the listener goes.
    Ipc {
        listener: UnixListener,
        _path: RemovedPath,
    },
}

/// How many connections may wait to be accepted; the system may allow fewer. After a restart all clients come back at once.
const BACKLOG: u32 = 4096;

impl Listener {
    /// Binds, and returns with the listener where: with the port that was chosen, if any would do.
    pub async fn bind(endpoint: &Endpoint) -> io::Result<(Listener, Endpoint)> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let (listener, bound) = bind_first(address).await?;
                Ok((listener, Endpoint::Tcp(bound)))
            }
            #[cfg(feature = "tls")]
            Endpoint::Tls(address) => {
                let (listener, bound) = bind_first(address).await?;
                Ok((listener, Endpoint::Tls(bound)))
            }
            Endpoint::Ipc(path) => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        remove_if_abandoned(path).await.then_some(()).ok_or(error)?;
                        UnixListener::bind(path)?
                    }
                    other => other?,
                };
                Ok((Listener::Ipc { listener, _path: RemovedPath(path.clone()) }, endpoint.clone()))
            }
        }
    }

    pub async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), PeerAddress::Tcp(address)))
            }
            Listener::Ipc { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Ipc(stream), PeerAddress::Ipc))
            }
        }
    }
}

/// Whether accepting failed for want of something, so that it would fail again at once, and not for a stranger that left before its turn.
pub(crate) fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_none_or(|code| wants.contains(&Errno::from_raw_os_error(code)))
}

/// Binds to the first of a host's addresses that can be.
async fn bind_first(address: &str) -> io::Result<(Listener, String)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host(address).await? {
        match bind_tcp(address) {
            Ok(listener) => {
                let bound = listener.local_addr()?.to_string();
                return Ok((Listener::Tcp(listener), bound));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?; // a restarted server gets its port back at once
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A process that was killed leaves its socket file behind. Removes it if nobody answers there and it is a socket.
async fn remove_if_abandoned(path: &Path) -> bool {
    let abandoned = matches!(UnixStream::connect(path).await, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
    let socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    abandoned && socket && std::fs::remove_file(path).is_ok()
}

/// A socket file of ours.
pub(crate) struct RemovedPath(PathBuf);

impl Drop for RemovedPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // if it has gone already, good
    }
}
