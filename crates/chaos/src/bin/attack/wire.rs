//! ZMTP 3.0 as an attacker speaks it: the honest bytes of greeting, READY and frames, and a connection that says any others. It keeps no rule by itself.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use selfsame_chaos::Result;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::secure::Certificates;

pub use selfsame_relay::honest::{COMMAND, LONG, MORE, frame, greeting, long_header, ready};

/// Longer than anything takes; what is waited for so long does not come.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The longest frame that an attacker takes: more than a victim ever sends.
const LONGEST: u64 = 64 << 20;

/// What carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The frames of a message.
pub fn message<B: AsRef<[u8]>>(frames: &[B]) -> Vec<u8> {
    let last = frames.len().saturating_sub(1);
    let flags = |at| if at < last { MORE } else { 0 };
    frames.iter().enumerate().flat_map(|(at, body)| frame(flags(at), body.as_ref())).collect()
}

/// A PING with a context of up to 16 bytes.
pub fn ping(context: &[u8]) -> Vec<u8> {
    frame(COMMAND, &[b"\x04PING\x00\x00", context].concat())
}

/// An attacker's connection.
pub struct Wire<'a>(pub Box<dyn Duplex + 'a>);

impl Wire<'_> {
    /// Connects from an address of the attacker's. It ends with a reset, so that no port is kept waiting.
    pub async fn dial(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = in_time(socket.connect(to)).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// The same, encrypted if there is what to show.
    pub async fn connect(
        from: Ipv4Addr,
        to: SocketAddr,
        secure: Option<&TlsConnector>,
    ) -> io::Result<Wire<'static>> {
        let stream = Wire::dial(from, to).await?;
        Ok(match secure {
            None => Wire(Box::new(stream)),
            Some(connector) => Wire(Box::new(Certificates::secure(connector, stream).await?)),
        })
    }

    /// Says it all. A victim that does not read is an error after [`PATIENCE`].
    pub async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time(self.0.write_all(bytes)).await?;
        in_time(self.0.flush()).await
    }

    /// Says it, and reads over whatever the victim says meanwhile. Whether all was said.
    pub async fn say_and_read(&mut self, bytes: &[u8]) -> bool {
        let (mut hears, mut says) = tokio::io::split(&mut self.0);
        let mut heard = vec![0; 1 << 16];
        let says = in_time(says.write_all(bytes));
        tokio::pin!(says);
        loop {
            tokio::select! {
                said = &mut says => return said.is_ok(),
                heard = hears.read(&mut heard) => if let Ok(0) | Err(_) = heard { return false },
            }
        }
    }

    /// Says as much as the victim hears before it ends the connection.
    pub async fn say_in_vain(&mut self, bytes: &[u8]) {
        // Being cut off is what is to happen.
        let _ = self.say(bytes).await;
    }

    /// Greets, and waits until it is greeted.
    pub async fn greet(&mut self) -> io::Result<()> {
        self.say(&greeting()).await?;
        in_time(self.0.read_exact(&mut [0; 64])).await?;
        Ok(())
    }

    /// The whole handshake.
    pub async fn shake(&mut self, kind: &str, identity: &[u8]) -> io::Result<()> {
        self.greet().await?;
        self.say(&ready(kind, identity)).await?;
        match self.hear().await? {
            (COMMAND, body) if body.starts_with(b"\x05READY") => Ok(()),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "no READY")),
        }
    }

    /// A frame: its flags without the one for the long form, and its body.
    pub async fn hear(&mut self) -> io::Result<(u8, Vec<u8>)> {
        in_time(self.hear_at_leisure()).await
    }

    async fn hear_at_leisure(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let flags = self.0.read_u8().await?;
        let length = match flags & LONG {
            0 => u64::from(self.0.read_u8().await?),
            _ => self.0.read_u64().await?,
        };
        if length > LONGEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "a frame longer than any"));
        }
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).await?;
        Ok((flags & !LONG, body))
    }

    /// A message. Commands before it are read over.
    pub async fn hear_message(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (flags, body) = self.hear().await?;
            if flags & COMMAND == 0 {
                frames.push(body);
                if flags & MORE == 0 {
                    return Ok(frames);
                }
            }
        }
    }

    /// That the victim still listens: it answers a PING, whatever else it says before.
    pub async fn is_heard(&mut self) -> io::Result<()> {
        self.say(&ping(b"still there?")).await?;
        while self.hear().await? != (COMMAND, b"\x04PONGstill there?".to_vec()) {}
        Ok(())
    }

    /// Reads until the victim ends the connection.
    ///
    /// # Errors
    /// If it does not.
    pub async fn hears_the_end(&mut self) -> Result<()> {
        let mut rest = vec![0; 1 << 16];
        loop {
            match timeout(PATIENCE, self.0.read(&mut rest)).await {
                Ok(Ok(0) | Err(_)) => return Ok(()),
                Ok(Ok(_)) => {}
                Err(_) => return Err("the victim did not end the connection".into()),
            }
        }
    }
}

/// # Errors
/// If it takes longer than [`PATIENCE`].
pub async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))?
}
