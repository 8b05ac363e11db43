//! Makes a CA, a server's and two clients' certificates, serves with them, and calls as both clients: `cargo run --example certificates --features tls`
//!
//! All in a folder that goes with the program. A real CA's key belongs on a machine of its own, and a client's key never leaves the client.

#[path = "contracts/mod.rs"]
mod api;

use std::error::Error;
use std::fs;
use std::path::Path;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use selfsame::{Answer, Channel, ClientTls, Request, Server, ServerTls};

struct Vault;

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        println!("{} changes a password", request.principal());
        request.reply(|mut reply| reply.set_version(1))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        println!("{} asks for a version", request.principal());
        request.reply(|mut reply| reply.set_version(1))
    }
}

/// Makes the CA, and leaves its certificate in `ca.pem`.
fn make_ca(folder: &Path) -> Result<Issuer<'static, KeyPair>, Box<dyn Error>> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "an example's CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.pem"), ca.self_signed(&key)?.pem())?;
    Ok(Issuer::new(ca, key))
}

/// Signs a certificate for `name`, a DNS name, and leaves it in `NAME.pem` with its key in `NAME.key`.
fn sign(folder: &Path, ca: &Issuer<'_, KeyPair>, name: &str) -> Result<(), Box<dyn Error>> {
    let key = KeyPair::generate()?; // ECDSA on P-256, which costs a handshake least
    let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, ca)?;
    fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}

async fn connect(endpoint: &str, folder: &Path, name: &str) -> Result<AccountClient, selfsame::SetupError> {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let tls = ClientTls::new(folder.join("ca.pem")).identity(certificate, key).server_name("account.example");
    Ok(AccountClient::new(Channel::builder().tls(tls).connect(endpoint).await?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let ca = make_ca(folder)?;
    for name in ["account.example", "ann.example", "bob.example"] {
        sign(folder, &ca, name)?;
    }

    let tls = ServerTls::new(folder.join("account.example.pem"), folder.join("account.example.key"))
        .clients(folder.join("ca.pem"));
    let server = Server::builder().tls(tls).bind("tls://127.0.0.1:0").await?;
    let endpoint = server.endpoint().to_owned();
    // Who may call what, by the name in the certificate.
    let server = server
        .service(AccountServer::new(Vault))
        .allow(|principal, method| method == "Account.version" || principal.name() == Some("ann.example"));
    tokio::spawn(server.serve());

    for name in ["ann.example", "bob.example"] {
        let account = connect(&endpoint, folder, name).await?;
        account.version(|mut p| p.set_user("ann")).await?;
        match account.change_password(|mut p| p.set_user("ann")).await {
            Ok(_) => println!("{name} may change it"),
            Err(error) => println!("{name} may not: {error}"),
        }
    }
    Ok(())
}
