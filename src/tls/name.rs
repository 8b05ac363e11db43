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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// The name in a certificate with this common name, unless it is empty, and these alternative names.
    fn name(common: &str, alternatives: Vec<SanType>) -> Result<String, NameError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        if !common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = alternatives;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        principal_name(certificate.der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    fn email(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().unwrap())
    }

    #[test]
    fn the_first_of_the_best_kind_is_the_name() {
        let all =
            vec![email("ann@a"), dns("ann.a"), uri("spiffe://a/ann"), uri("spiffe://a/bob"), dns("bob.a")];
        assert_eq!(name("ann", all.clone()).unwrap(), "spiffe://a/ann");
        let no_uri = all.iter().filter(|name| !matches!(name, SanType::URI(_))).cloned().collect();
        assert_eq!(name("ann", no_uri).unwrap(), "ann.a");
        assert_eq!(name("ann", vec![email("ann@a")]).unwrap(), "ann@a");
        assert_eq!(name("Änn", vec![]).unwrap(), "Änn");
        // An address names a machine for a while, and nobody.
        assert_eq!(name("ann", vec![SanType::IpAddress([127, 0, 0, 1].into())]).unwrap(), "ann");
    }

    #[test]
    fn one_that_is_unfit_is_not_passed_over_for_the_next() {
        assert_eq!(name("", vec![]), Err(NameError::Nameless));
        assert_eq!(name("", vec![SanType::IpAddress([127, 0, 0, 1].into())]), Err(NameError::Nameless));
        assert_eq!(name("ann", vec![uri("")]), Err(NameError::Empty));
        assert_eq!(name("ann\nbob", vec![]), Err(NameError::Control));
        assert_eq!(name("ann", vec![dns("ann\0.example")]), Err(NameError::Control));
        let long = "x".repeat(LIMIT);
        assert_eq!(name("ann", vec![uri(&long)]).unwrap(), long);
        assert_eq!(name("ann", vec![uri(&format!("{long}x"))]), Err(NameError::TooLong));
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        assert_eq!(principal_name(&CertificateDer::from(&b"no certificate"[..])), Err(NameError::Unreadable));
    }
}
