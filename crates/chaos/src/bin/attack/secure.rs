//! Certificates of a run over TLS, and connections that show one of them. What the attackers do with them is in [`tls`](crate::tls).
//!
//! All lie in one folder: the victim's own, those of its honest clients, and those that it has to refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use selfsame::{ClientTls, ServerTls};
use selfsame_chaos::Result;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who an attacker says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Somebody whom the victim lets in. Attackers are mostly insiders: others do not get far.
    Mallory,
    /// Somebody else whom it lets in.
    Ann,
    /// Nobody: no certificate.
    Nobody,
    /// Somebody whose certificate has expired.
    Expired,
    /// Somebody with a certificate of an authority that the victim does not know.
    Foreign,
}

impl Who {
    fn file(self) -> Option<&'static str> {
        match self {
            Who::Mallory => Some("mallory"),
            Who::Ann => Some("ann"),
            Who::Nobody => None,
            Who::Expired => Some("expired"),
            Who::Foreign => Some("foreign"),
        }
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Those that lie there.
    pub fn at(folder: &Path) -> Certificates {
        Certificates(folder.to_owned())
    }

    /// Makes them all.
    pub fn make(folder: &Path) -> Result<Certificates> {
        let certificates = Certificates::at(folder);
        let (ours, pem) = authority()?;
        fs::write(certificates.path("roots", "pem"), pem)?;
        let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        certificates.issue("server", &server, &ours)?;
        for name in ["good", "ann", "mallory"] {
            certificates.issue(name, &client(name), &ours)?;
        }
        let mut expired = client("expired");
        (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        certificates.issue("expired", &expired, &ours)?;
        let (foreign, _) = authority()?;
        certificates.issue("foreign", &client("good"), &foreign)?;
        Ok(certificates)
    }

    fn path(&self, name: &str, what: &str) -> PathBuf {
        self.0.join(format!("{name}.{what}"))
    }

    fn issue(&self, name: &str, params: &CertificateParams, issuer: &Issuer<'static, KeyPair>) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.path(name, "key"), key.serialize_pem())?;
        fs::write(self.path(name, "pem"), params.signed_by(&key, issuer)?.pem())?;
        Ok(())
    }

    /// The folder, for a child.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The victim's: it wants a certificate of every client.
    pub fn of_victim(&self) -> ServerTls {
        ServerTls::new(self.path("server", "pem"), self.path("server", "key"))
            .clients(self.path("roots", "pem"))
    }

    /// The good client's.
    pub fn of_client(&self) -> ClientTls {
        ClientTls::new(self.path("roots", "pem")).identity(self.path("good", "pem"), self.path("good", "key"))
    }

    /// An attacker's.
    pub fn connector(&self, who: Who) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("roots", "pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let config = match who.file() {
            None => config.with_no_client_auth(),
            Some(name) => {
                let certificate = CertificateDer::from_pem_file(self.path(name, "pem"))?;
                let key = PrivateKeyDer::from_pem_file(self.path(name, "key"))?;
                config.with_client_auth_cert(vec![certificate], key)?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// A connection over one.
    pub async fn secure(connector: &TlsConnector, over: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST).into());
        crate::wire::in_time(connector.connect(name, over)).await
    }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
