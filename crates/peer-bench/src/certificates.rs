//! The certificates of a server that is spoken to over TLS: a CA and a server's, made for this run alone. Clients show none, so what is measured is
//! encryption.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use selfsame::{ClientTls, ServerTls};

use crate::Result;

/// Makes them, and says what a server needs of them.
pub fn make(folder: &Path) -> Result<ServerTls> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate()?;
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let (certificate_file, key_file) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::write(&certificate_file, certificate.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    Ok(ServerTls::new(certificate_file, key_file))
}

/// The way to the client: an endpoint, and behind it the folder with the CA's certificate.
pub fn tell(endpoint: &str, folder: &Path) -> String {
    format!("{endpoint} {}", folder.display())
}

/// What a client makes of that. An endpoint without a folder is not spoken to over TLS.
pub fn told(told: &str) -> (&str, Option<ClientTls>) {
    match told.split_once(' ') {
        Some((endpoint, folder)) => (endpoint, Some(ClientTls::new(PathBuf::from(folder).join("ca.pem")))),
        None => (told, None),
    }
}
