//! The name by which a certificate makes its holder a principal.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// As long as what an operator can still read in a log, and longer than any DNS name.
const LIMIT: usize = 255;

/// Why a certificate names no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("it cannot be read")]
    Unreadable,
    #[error("it has no URI, DNS name, email address or common name")]
    Nameless,
    #[error("its name is empty")]
    Empty,
    #[error("its name is longer than {LIMIT} bytes")]
    TooLong,
    #[error("its name has control characters")]
    Control,
}

/// The first URI of the alternative names, else the first DNS name, else the first email address, else the subject's first common name.
///
/// The first one of the best kind decides, even if it is unfit: a certificate has one name, or none.
pub(crate) fn principal_name(certificate: &CertificateDer<'_>) -> Result<String, NameError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| NameError::Unreadable)?;
    let alternatives = certificate.subject_alternative_name().map_err(|_| NameError::Unreadable)?;
    let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
    let first = |kind: fn(&GeneralName<'_>) -> Option<String>| alternatives.iter().find_map(kind);
    let name = first(uri).or_else(|| first(dns)).or_else(|| first(email));
    let name = match name {
        Some(name) => name,
        None => {
            let common = certificate.subject().iter_common_name().next().ok_or(NameError::Nameless)?;
            common.as_str().map_err(|_| NameError::Unreadable)?.to_owned()
        }
    };
    fit(name)
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
}

fn dns(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(dns) = name { Some((*dns).to_owned()) } else { None }
}

fn email(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::RFC822Name(email) = name { Some((*email).to_owned()) } else { None }
}

fn fit(name: String) -> Result<String, NameError> {
    match name {
        _ if name.is_empty() => Err(NameError::Empty),
        _ if name.len() > LIMIT => Err(NameError::TooLong),
        _ if name.chars().any(char::is_control) => Err(NameError::Control),
        name => Ok(name),
    }
}
