//! TLS between a stranger and its gate: the handshakes of both sides, and who they prove to be.
//!
//! Certificates and rules about them are `crate::tls`'s; here are streams.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{InvalidMessage, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::endpoint::Endpoint;
use super::stream::Stream;
use crate::tls::{ClientTls, Live, NameError, ServerTls, Unusable, principal_name};

/// How long a stranger that was turned away may take to read why: a round trip or two.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Either side's stream.
pub(crate) type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// The accepting side of `tls://`. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(Arc<Live<ServerTls>>);

/// The dialling side of `tls://`. Cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<Live<ClientTls>>);

/// Why a socket cannot have the settings that it was given.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A `tls://` endpoint without settings.
    #[error("a tls:// endpoint needs certificates: give them by `{builder}`")]
    Missing {
        /// The method that takes them.
        builder: &'static str,
    },
    /// Settings for an endpoint that has no TLS.
    #[error("{0}")]
    Superfluous(&'static str),
    /// A file of the settings is of no use.
    #[error("{0}")]
    File(String),
    /// No certificate can be valid for this name.
    #[error("`{0}` is neither a DNS name nor an IP address: say by `ClientTls::server_name` whom to expect")]
    Name(String),
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The first bytes are no TLS.
    #[error("the other side does not speak TLS: is it a tcp:// endpoint?")]
    NotTls,
    /// The other side's certificate, version or conduct, or what it says of ours.
    #[error("TLS handshake: {0}")]
    Refused(String),
    /// The connection ended or broke.
    #[error("the other side ended the connection during the TLS handshake: {0}")]
    Io(#[source] io::Error),
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// A file of the settings is of no use.
    pub fn open(settings: ServerTls) -> Result<Acceptor, TlsSetupError> {
        Ok(Acceptor(Arc::new(Live::open(settings)?)))
    }

    /// What this endpoint needs of what `builder` was given.
    ///
    /// # Errors
    /// It was given too little or too much, or files that are of no use.
    pub fn of(
        endpoint: &Endpoint,
        given: Option<ServerTls>,
        builder: &'static str,
    ) -> Result<Option<Acceptor>, TlsSetupError> {
        check(endpoint, given.is_some(), builder)?;
        given.map(Acceptor::open).transpose()
    }

    /// Shakes hands, and returns the stream and the name that the stranger's certificate proved, if it had to show one.
    pub(crate) async fn accept(&self, stream: Stream) -> Result<(Stream, Option<Arc<str>>), TlsError> {
        let accepting = TlsAcceptor::from(self.0.current()).accept(over_tcp(stream)?);
        let stream = match accepting.into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                let _ = timeout(LAST_WORDS, part(stream)).await;
                return Err(error.into());
            }
        };
        let name = proved_name(stream.get_ref().1).map_err(|why| TlsError::Refused(why.to_string()))?;
        Ok((encrypted(stream.into()), name))
    }
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// A file of the settings is of no use.
    pub fn open(settings: ClientTls) -> Result<Connector, TlsSetupError> {
        Ok(Connector(Arc::new(Live::open(settings)?)))
    }

    /// What these endpoints need of what `builder` was given.
    ///
    /// # Errors
    /// It was given too little or too much, or files that are of no use.
    pub fn of(
        endpoints: &[Endpoint],
        given: Option<ClientTls>,
        builder: &'static str,
    ) -> Result<Option<Connector>, TlsSetupError> {
        for endpoint in endpoints {
            check(endpoint, given.is_some(), builder)?;
        }
        let Some(connector) = given.map(Connector::open).transpose()? else { return Ok(None) };
        for endpoint in endpoints {
            connector.expected(endpoint)?;
        }
        Ok(Some(connector))
    }

    /// Shakes hands, and returns the stream and the name that the other side proved to have.
    pub(crate) async fn connect(
        &self,
        stream: Stream,
        endpoint: &Endpoint,
    ) -> Result<(Stream, Option<Arc<str>>), TlsError> {
        let expected = self.expected(endpoint).map_err(|error| TlsError::Refused(error.to_string()))?;
        let name = expected.to_str().into();
        let connector = TlsConnector::from(self.0.current());
        let stream = connector.connect(expected, over_tcp(stream)?).await?;
        Ok((encrypted(stream.into()), Some(name)))
    }

    fn expected(&self, endpoint: &Endpoint) -> Result<ServerName<'static>, TlsSetupError> {
        let name = self.0.source().name_to_expect().or_else(|| endpoint.host()).unwrap_or_default();
        ServerName::try_from(name.to_owned()).map_err(|_| TlsSetupError::Name(name.to_owned()))
    }
}

/// Whether the endpoint has the settings that it needs, and no others.
pub(crate) fn check(endpoint: &Endpoint, given: bool, builder: &'static str) -> Result<(), TlsSetupError> {
    match endpoint {
        Endpoint::Tls(_) if !given => Err(TlsSetupError::Missing { builder }),
        Endpoint::Tcp(_) if given => Err(TlsSetupError::Superfluous(
            "TLS settings are given, but tcp:// is not encrypted: make it tls://, or leave them out",
        )),
        Endpoint::Ipc(_) if given => Err(TlsSetupError::Superfluous(
            "TLS settings are given, but no TLS is spoken between a client and an ipc:// server, which are on one machine: leave them out",
        )),
        _ => Ok(()),
    }
}

/// rustls has verified the certificate by now.
fn proved_name(connection: &ServerConnection) -> Result<Option<Arc<str>>, NameError> {
    let Some(certificate) = connection.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    principal_name(certificate).map(|name| Some(name.into()))
}

/// Lets a stranger that was turned away read why: a close would take that back if it has said more than was read.
async fn part(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// What an endpoint with TLS gives and takes.
fn over_tcp(stream: Stream) -> io::Result<TcpStream> {
    if let Stream::Tcp(stream) = stream { Ok(stream) } else { Err(io::ErrorKind::Unsupported.into()) }
}

fn encrypted(stream: TlsStream) -> Stream {
    Stream::Tls(Box::new(stream))
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        match alert(&error) {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => TlsError::NotTls,
            Some(why) => TlsError::Refused(why.to_string()),
            None => TlsError::Io(error),
        }
    }
}

/// What TLS has against a stream. In TLS 1.3 a client learns only after its handshake that its certificate was refused.
pub(crate) fn alert(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl From<Unusable> for TlsSetupError {
    fn from(error: Unusable) -> Self {
        TlsSetupError::File(error.to_string())
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acceptor").field(self.0.source()).finish()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(self.0.source()).finish()
    }
}
