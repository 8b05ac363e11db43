//! Encryption and authentication: what a `tls://` endpoint is given, as PEM files.
//!
//! TLS 1.3 alone, by rustls. Files are read when a socket is bound or connected, and again when they have changed: see [`ServerTls`]. How bytes are
//! encrypted is the IO threads' business; what a peer may do is the business of [`Server::allow`](crate::Server::allow).

mod clients;
mod files;
mod name;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use clients::Named;
pub(crate) use files::{Live, Source, Unusable};
pub(crate) use name::{NameError, principal_name};

/// What a server or publisher at a `tls://` endpoint shows, and whom it lets in.
///
/// The files are looked at for every new connection. When one has changed all are read again, and new connections use what they say; connections that
/// stand are not touched. If what they say is of no use, the old certificates stay in use, an error is logged and [`counters`](ServerTls::counters)
/// tell it. So replace files by renaming new ones over them, the key first: whoever connects between the two renames still gets the old pair.
///
/// ```no_run
/// # async fn serve(vault: impl selfsame::Service) -> Result<(), selfsame::SetupError> {
/// use selfsame::{Server, ServerTls};
/// let tls = ServerTls::new("server.pem", "server.key").clients("clients-ca.pem");
/// Server::builder().tls(tls).bind("tls://0.0.0.0:7314").await?.service(vault).serve().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerTls {
    own: Identity,
    clients: Clients,
    tally: Arc<Tally>,
}

/// Whom a client or subscriber of a `tls://` endpoint believes, and what it shows.
///
/// The files are looked at for every new connection, as those of a [`ServerTls`] are.
///
/// ```no_run
/// # async fn connect() -> Result<selfsame::Channel, selfsame::SetupError> {
/// use selfsame::{Channel, ClientTls};
/// let tls = ClientTls::new("servers-ca.pem").identity("ann.pem", "ann.key");
/// Channel::builder().tls(tls).connect("tls://account.example:7314").await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientTls {
    roots: PathBuf,
    own: Option<Identity>,
    server_name: Option<String>,
    tally: Arc<Tally>,
}

/// How often certificates were read anew; shared by all clones of a [`ServerTls`] or [`ClientTls`]. All only ever rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsCounters {
    /// Times that changed files were read and are in use.
    pub reloads: u64,
    /// Times that changed files were of no use, and the certificates before stayed in use.
    pub failed_reloads: u64,
}

#[derive(Clone, Debug)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Clone, Debug)]
enum Clients {
    Anyone,
    Optional(PathBuf),
    Required(PathBuf),
}

#[derive(Debug, Default)]
struct Tally {
    reloads: AtomicU64,
    failed: AtomicU64,
}

impl ServerTls {
    /// Shows this certificate: a PEM file with the server's own certificate first and then those between it and the root, and one with its private key
    /// (PKCS #8, SEC 1 or PKCS #1). Anyone may connect, and is anonymous, unless [`clients`](ServerTls::clients) says otherwise.
    ///
    /// Nothing is read before the endpoint is bound.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ServerTls {
        let own = Identity { certificate: certificate.into(), key: key.into() };
        ServerTls { own, clients: Clients::Anyone, tally: Arc::default() }
    }

    /// Lets in only clients with a valid certificate that leads to one of these roots: a PEM file. It names the client's
    /// [`Principal`](crate::Principal): by its first URI among the subject's alternative names, else its first DNS name, else its first email address,
    /// else by the subject's common name. A certificate whose name is empty, longer than 255 bytes, or has control characters is refused.
    #[must_use]
    pub fn clients(mut self, roots: impl Into<PathBuf>) -> ServerTls {
        self.clients = Clients::Required(roots.into());
        self
    }

    /// As [`clients`](ServerTls::clients), but one that shows no certificate is let in too, and is anonymous. One that shows a wrong one is refused.
    #[must_use]
    pub fn clients_optional(mut self, roots: impl Into<PathBuf>) -> ServerTls {
        self.clients = Clients::Optional(roots.into());
        self
    }

    /// How often the files were read anew since they were first in use.
    pub fn counters(&self) -> TlsCounters {
        self.tally.read()
    }
}

impl ClientTls {
    /// Believes servers whose certificate leads to one of these roots, and is valid for the host in the endpoint: a PEM file.
    ///
    /// Nothing is read before it connects.
    pub fn new(roots: impl Into<PathBuf>) -> ClientTls {
        ClientTls { roots: roots.into(), own: None, server_name: None, tally: Arc::default() }
    }

    /// Shows this certificate to a server that asks for one: two PEM files, as [`ServerTls::new`] has them.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ClientTls {
        self.own = Some(Identity { certificate: certificate.into(), key: key.into() });
        self
    }

    /// The DNS name or IP address that the server's certificate must be valid for. Default: the host in the endpoint.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> ClientTls {
        self.server_name = Some(name.into());
        self
    }

    /// How often the files were read anew since they were first in use.
    pub fn counters(&self) -> TlsCounters {
        self.tally.read()
    }

    /// Instead of the host in the endpoint.
    pub(crate) fn name_to_expect(&self) -> Option<&str> {
        self.server_name.as_deref()
    }
}

impl Source for ServerTls {
    type Made = ServerConfig;

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.own.paths();
        if let Clients::Optional(roots) | Clients::Required(roots) = &self.clients {
            paths.push(roots.clone());
        }
        paths
    }

    fn make(&self) -> Result<ServerConfig, Unusable> {
        let (chain, key) = self.own.read()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.own.unusable(&error))?;
        let builder = match &self.clients {
            Clients::Anyone => builder.with_no_client_auth(),
            Clients::Optional(path) | Clients::Required(path) => {
                let roots = Arc::new(read_roots(path)?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                if let Clients::Optional(_) = &self.clients {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier.build().map_err(|error| Unusable::new(path, error))?;
                builder.with_client_cert_verifier(Arc::new(Named(verifier)))
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.own.unusable(&error))?;
        // A session that is resumed would not look at the roots of today, and keeping sessions costs memory. Connections live long here.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    fn told(&self, usable: bool) {
        self.tally.count(usable);
    }
}

impl Source for ClientTls {
    type Made = ClientConfig;

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = self.own.as_ref().map(Identity::paths).unwrap_or_default();
        paths.push(self.roots.clone());
        paths
    }

    fn make(&self) -> Result<ClientConfig, Unusable> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| Unusable::new(&self.roots, error))?
            .with_root_certificates(read_roots(&self.roots)?);
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (chain, key) = own.read()?;
                builder.with_client_auth_cert(chain, key).map_err(|error| own.unusable(&error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn told(&self, usable: bool) {
        self.tally.count(usable);
    }
}

impl Identity {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
        Ok((files::certificates(&self.certificate)?, files::private_key(&self.key)?))
    }

    /// rustls has looked at both files.
    fn unusable(&self, error: &rustls::Error) -> Unusable {
        if let rustls::Error::InconsistentKeys(_) = error {
            let why = format!("the key does not fit the certificate in {}", self.certificate.display());
            return Unusable::new(&self.key, why);
        }
        let why = format!("it and the certificate in {} are of no use: {error}", self.certificate.display());
        Unusable::new(&self.key, why)
    }
}

impl Tally {
    fn count(&self, usable: bool) {
        let counter = if usable { &self.reloads } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> TlsCounters {
        TlsCounters {
            reloads: self.reloads.load(Ordering::Relaxed),
            failed_reloads: self.failed.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Display for TlsCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reloads, {} failed", self.reloads, self.failed_reloads)
    }
}

/// Named, so that another one in the process's default place changes nothing here.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    PROVIDER.clone()
}

fn read_roots(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in files::certificates(path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            Unusable::new(path, format!("certificate {} in it cannot be a root: {error}", index + 1))
        })?;
    }
    Ok(roots)
}
