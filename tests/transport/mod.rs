//! What the peers of a suite are connected by: plain TCP, a Unix socket, or TLS with certificates on both sides. The suite does not know which.
//!
//! A suite runs over TCP, and two of its tests run it again, over the others: in a process of its own, that is told by its environment what to use. So a
//! test is written once, needs no parameter, and can be run alone over any of them.
#![allow(dead_code)] // each suite needs a part of it

#[cfg(feature = "tls")]
#[path = "../tls/certificates.rs"]
pub mod certificates;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use selfsame::io::{DealerOptions, RouterOptions};
use selfsame::{ChannelBuilder, PublisherBuilder, ServerBuilder, SubscriberBuilder};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer than anything takes; only a bug makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

enum Transport {
    Tcp,
    /// TCP, with routers of several IO threads.
    Threads,
    /// With a folder for the sockets.
    Ipc(PathBuf),
    /// With a folder of certificates.
    #[cfg(feature = "tls")]
    Tls(PathBuf),
}

const NAME: &str = "SELFSAME_TEST_TRANSPORT";
const FOLDER: &str = "SELFSAME_TEST_FOLDER";

fn transport() -> &'static Transport {
    static TRANSPORT: OnceLock<Transport> = OnceLock::new();
    TRANSPORT.get_or_init(|| {
        let folder = || std::env::var_os(FOLDER).expect("a folder for this transport").into();
        match std::env::var(NAME).as_deref() {
            Err(_) => Transport::Tcp,
            Ok("threads") => Transport::Threads,
            Ok("ipc") => Transport::Ipc(folder()),
            #[cfg(feature = "tls")]
            Ok("tls") => Transport::Tls(folder()),
            Ok(other) => panic!("{other} is no transport of this build"),
        }
    })
}

/// Runs all tests of this binary whose names contain `filter` again, over `ipc`.
pub fn again_over_ipc(filter: &str) {
    let folder = tempfile::tempdir().unwrap();
    again("ipc", &folder, filter);
}

/// As [`again_over_ipc`], over TCP, with three IO threads a router.
pub fn again_with_threads(filter: &str) {
    again("threads", &tempfile::tempdir().unwrap(), filter);
}

/// As [`again_over_ipc`], over `tls`.
#[cfg(feature = "tls")]
pub fn again_over_tls(filter: &str) {
    let certificates = certificates::Folder::new();
    certificates.client("ann");
    again("tls", &certificates.folder, filter);
}

fn again(name: &str, folder: &TempDir, filter: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Limits are about addresses, sockets and time.
    command
        .args([filter, "--skip", "the_same_over", "--skip", "gate::limits"])
        .env(NAME, name)
        .env(FOLDER, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "over {name}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "there are no tests named {filter}");
}

/// An endpoint to bind to that nobody else has.
pub fn anywhere() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    match transport() {
        Transport::Tcp | Transport::Threads => "tcp://127.0.0.1:0".to_owned(),
        Transport::Ipc(folder) => {
            let path = folder.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
            format!("ipc://{}", path.display())
        }
        #[cfg(feature = "tls")]
        Transport::Tls(_) => "tls://127.0.0.1:0".to_owned(),
    }
}

/// An endpoint at which nobody listens, and which can be bound.
pub fn nowhere() -> String {
    let endpoint = anywhere();
    match endpoint.strip_suffix(":0") {
        None => endpoint,
        Some(host) => {
            let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("{host}:{}", reserved.local_addr().unwrap().port())
        }
    }
}

/// How a server knows a client of this suite.
pub fn who() -> &'static str {
    match transport() {
        Transport::Tcp | Transport::Threads | Transport::Ipc(_) => "anonymous",
        #[cfg(feature = "tls")]
        Transport::Tls(_) => "ann",
    }
}

/// What is needed to speak over the suite's transport.
pub trait Over {
    fn over(self) -> Self;
}

macro_rules! over {
    ($($builder:ident: $side:ident),+) => {
        $(impl Over for $builder {
            fn over(self) -> Self {
                match transport() {
                    Transport::Tcp | Transport::Threads | Transport::Ipc(_) => self,
                    #[cfg(feature = "tls")]
                    Transport::Tls(folder) => self.tls(certificates::$side(folder)),
                }
            }
        })+
    };
}

over!(ServerBuilder: of_server, PublisherBuilder: of_server, ChannelBuilder: of_client, SubscriberBuilder: of_client);

impl Over for RouterOptions {
    fn over(self) -> Self {
        RouterOptions {
            threads: if matches!(transport(), Transport::Threads) { 3 } else { self.threads },
            #[cfg(feature = "tls")]
            tls: match transport() {
                Transport::Tls(folder) => {
                    Some(selfsame::io::Acceptor::open(certificates::of_server(folder)).unwrap())
                }
                _ => None,
            },
            ..self
        }
    }
}

impl Over for DealerOptions {
    fn over(self) -> Self {
        DealerOptions {
            #[cfg(feature = "tls")]
            tls: match transport() {
                Transport::Tls(folder) => {
                    Some(selfsame::io::Connector::open(certificates::of_client(folder)).unwrap())
                }
                _ => None,
            },
            ..self
        }
    }
}

/// The endpoint of somebody on the network at `address` who passes bytes on to a socket of this suite: over TLS they stay sealed.
pub fn in_front_of(endpoint: &str, address: SocketAddr) -> String {
    let scheme = if endpoint.starts_with("tls://") { "tls" } else { "tcp" };
    format!("{scheme}://{address}")
}

/// A connection that bytes are passed on to as they are.
pub enum Wire {
    Tcp(tokio::net::TcpStream),
    Ipc(tokio::net::UnixStream),
}

impl Wire {
    /// Connects to where a socket of this suite is bound, and speaks nothing.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(endpoint: &str) -> io::Result<Wire> {
        match endpoint.split_once("://").unwrap() {
            ("ipc", path) => tokio::net::UnixStream::connect(path).await.map(Wire::Ipc),
            (_, address) => tokio::net::TcpStream::connect(address).await.map(Wire::Tcp),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Wire::Ipc(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Ipc(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Ipc(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Ipc(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A blocking connection, for peers that are written by hand.
pub enum Line {
    Tcp(TcpStream),
    Ipc(UnixStream),
    /// And whether its end is said.
    #[cfg(feature = "tls")]
    Tls(Box<certificates::TlsStream>, bool),
}

impl Line {
    /// Connects to where a socket of this suite is bound.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(endpoint: &str) -> io::Result<Line> {
        let (scheme, address) = endpoint.split_once("://").unwrap();
        if scheme == "ipc" {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            return Ok(Line::Ipc(stream));
        }
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(match transport() {
            #[cfg(feature = "tls")]
            Transport::Tls(folder) if scheme == "tls" => {
                Line::Tls(Box::new(certificates::stream(folder, stream)), true)
            }
            _ => Line::Tcp(stream),
        })
    }

    /// For what only TCP has.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Line::Tcp(stream) => stream,
            _ => panic!("this is no TCP connection"),
        }
    }

    /// The next drop resets the connection, where there is such a thing.
    pub fn reset_at_drop(&mut self) {
        let tcp: &TcpStream = match self {
            Line::Tcp(stream) => stream,
            Line::Ipc(_) => return,
            #[cfg(feature = "tls")]
            Line::Tls(stream, says_its_end) => {
                *says_its_end = false;
                &stream.sock
            }
        };
        socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        #[cfg(feature = "tls")]
        if let Line::Tls(stream, true) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush(); // the other side may have gone
        }
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Tcp(stream) => stream.read(into),
            Line::Ipc(stream) => stream.read(into),
            #[cfg(feature = "tls")]
            Line::Tls(stream, _) => stream.read(into),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Tcp(stream) => stream.write(bytes),
            Line::Ipc(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Line::Tls(stream, _) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Tcp(stream) => stream.flush(),
            Line::Ipc(stream) => stream.flush(),
            #[cfg(feature = "tls")]
            Line::Tls(stream, _) => stream.flush(),
        }
    }
}
