//! Certificates, as an operator would have them in a folder.
#![allow(dead_code)] // more than one suite needs them, and not all of each

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use selfsame::{ClientTls, ServerTls};
use tempfile::TempDir;

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, as PEM.
    pub fn issue(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// For a server at this machine's loopback address.
pub fn server() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// For a client with this common name and these alternative names.
pub fn client(common: &str, alternatives: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    if !common.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.subject_alt_names = alternatives;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A folder with a service's roots and certificates.
pub struct Folder {
    pub folder: TempDir,
    pub authority: Authority,
}

impl Folder {
    /// With the roots, and a certificate of the server.
    pub fn new() -> Folder {
        let folder = Folder { folder: tempfile::tempdir().unwrap(), authority: Authority::new() };
        folder.write("roots.pem", &folder.authority.pem);
        folder.put("server", folder.authority.issue(server()));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Renames a new file over the old one, as an operator should.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path(name)).unwrap();
    }

    /// The files of a certificate and its key, the key first.
    pub fn put(&self, name: &str, (certificate, key): (String, String)) {
        self.write(&format!("{name}.key"), &key);
        self.write(&format!("{name}.pem"), &certificate);
    }

    /// Lets in who has a certificate of this authority.
    pub fn mutual(&self) -> ServerTls {
        of_server(self.folder.path())
    }

    /// Lets in anybody.
    pub fn one_way(&self) -> ServerTls {
        ServerTls::new(self.path("server.pem"), self.path("server.key"))
    }

    /// Believes the server, and shows nothing.
    pub fn nobody(&self) -> ClientTls {
        ClientTls::new(self.path("roots.pem"))
    }

    /// Shows a certificate with this common name, issued if it has none yet.
    pub fn client(&self, name: &str) -> ClientTls {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        if !Path::exists(&certificate) {
            self.put(name, self.authority.issue(client(name, vec![])));
        }
        self.nobody().identity(certificate, key)
    }
}

/// What a server with client certificates is set up with, in such a folder.
pub fn of_server(folder: &Path) -> ServerTls {
    ServerTls::new(folder.join("server.pem"), folder.join("server.key")).clients(folder.join("roots.pem"))
}

/// What ann is set up with, who must have been issued a certificate.
pub fn of_client(folder: &Path) -> ClientTls {
    ClientTls::new(folder.join("roots.pem")).identity(folder.join("ann.pem"), folder.join("ann.key"))
}

/// TLS by rustls alone.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Ann's end of a connection with a server in such a folder, without any code of ours.
pub fn stream(folder: &Path, over: TcpStream) -> TlsStream {
    let certificate = |name: &str| CertificateDer::from_pem_file(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("roots.pem")).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate("ann.pem")],
            PrivateKeyDer::from_pem_file(folder.join("ann.key")).unwrap(),
        )
        .unwrap();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, over)
}
