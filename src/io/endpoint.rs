//! Where a socket binds or dials.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket that Linux and macOS both take.
const PATH_LIMIT: usize = 103;

/// An address in ZeroMQ's notation: `tcp://host:port` or `ipc://path`; and `tls://host:port`, which only this library speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host (name, IPv4 or bracketed IPv6 address) and a port. When binding, `*` is every IPv4 interface, and port 0 any free port.
    Tcp(String),
    /// As [`Tcp`](Endpoint::Tcp), encrypted.
    #[cfg(feature = "tls")]
    Tls(String),
    /// The path of a Unix socket.
    Ipc(PathBuf),
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an endpoint: {why}")]
pub struct EndpointError {
    text: String,
    why: &'static str,
}

impl Endpoint {
    /// The host of a network's endpoint, an IPv6 address without its brackets and zone.
    #[cfg(feature = "tls")]
    pub(crate) fn host(&self) -> Option<&str> {
        let (Endpoint::Tcp(address) | Endpoint::Tls(address)) = self else { return None };
        let (host, _) = address.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(bare.split_once('%').map_or(bare, |(address, _)| address))
    }

    fn parse(text: &str) -> Result<Endpoint, &'static str> {
        match text.split_once("://") {
            Some(("tcp", rest)) => parse_tcp(rest).map(Endpoint::Tcp),
            Some(("ipc", path)) => parse_ipc(path).map(Endpoint::Ipc),
            #[cfg(feature = "tls")]
            Some(("tls", rest)) => parse_tcp(rest).map(Endpoint::Tls),
            #[cfg(not(feature = "tls"))]
            Some(("tls", _)) => Err("TLS is not built in: build selfsame with the feature `tls`"),
            Some(_) => Err("only tcp://, tls:// and ipc:// are spoken here"),
            None => Err("it must begin with tcp://, tls:// or ipc://"),
        }
    }
}

fn parse_tcp(rest: &str) -> Result<String, &'static str> {
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing, as in tcp://127.0.0.1:7314")?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|_| digits);
    let port = port.ok_or("the port must be a number from 0 to 65535")?;
    let host = match host {
        "" => return Err("the host is missing; * is every interface"),
        "*" => "0.0.0.0",
        host => host,
    };
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // A zone (`%eth0`) is the resolver's business.
        let address = address.split_once('%').map_or(address, |(address, _)| address);
        address.parse::<Ipv6Addr>().map_err(|_| "there is no IPv6 address in the brackets")?;
    } else if host.contains([':', '[', ']']) {
        return Err("an IPv6 address needs brackets, as in tcp://[::1]:7314");
    } else if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@' || c == '*')
    {
        return Err("the host has characters that no host has");
    }
    Ok(format!("{host}:{port}"))
}

fn parse_ipc(path: &str) -> Result<PathBuf, &'static str> {
    match path {
        "" => Err("the path is missing"),
        "*" => Err("a path must be chosen"),
        _ if path.starts_with('@') => {
            Err("abstract sockets are open to every user of the machine; use a path")
        }
        _ if path.contains('\0') => Err("the path has a zero byte"),
        _ if path.len() > PATH_LIMIT => {
            Err("the path is longer than the 103 bytes that a Unix socket's may have")
        }
        _ => Ok(PathBuf::from(path)),
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse(text).map_err(|why| EndpointError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "tcp://{address}"),
            #[cfg(feature = "tls")]
            Endpoint::Tls(address) => write!(f, "tls://{address}"),
            Endpoint::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://[::1]:7314",
            "tcp://service.example:65535",
            "ipc:///run/account",
            "ipc://here",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://*:7314".parse::<Endpoint>().unwrap().to_string(), "tcp://0.0.0.0:7314");
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        let refused = [
            ("", "begin with"),
            ("127.0.0.1:7314", "begin with"),
            ("udp://127.0.0.1:7314", "only tcp"),
            ("tcp://127.0.0.1", "port is missing"),
            ("tcp://127.0.0.1:", "number"),
            ("tcp://127.0.0.1:65536", "number"),
            ("tcp://127.0.0.1:+5", "number"),
            ("tcp://:7314", "host is missing"),
            ("tcp://::1:7314", "brackets"),
            ("tcp://[::g]:7314", "no IPv6"),
            ("tcp://a b:7314", "characters"),
            ("tcp://host/x:7314", "characters"),
            ("ipc://", "path is missing"),
            ("ipc://@abstract", "abstract"),
        ];
        for (text, why) in refused {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
        #[cfg(not(feature = "tls"))]
        assert!(
            "tls://host:7314".parse::<Endpoint>().unwrap_err().to_string().contains("with the feature `tls`")
        );
        let long = format!("ipc:///{}", "x".repeat(PATH_LIMIT));
        assert!(long.parse::<Endpoint>().unwrap_err().to_string().contains("longer"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn knows_the_host_that_a_certificate_has_to_name() {
        let hosts = [
            ("tls://service.example:7314", Some("service.example")),
            ("tls://127.0.0.1:1", Some("127.0.0.1")),
            ("tls://[fe80::1%eth0]:1", Some("fe80::1")),
            ("ipc:///run/account", None),
        ];
        for (text, host) in hosts {
            let endpoint = text.parse::<Endpoint>().unwrap();
            assert_eq!((endpoint.host(), endpoint.to_string().as_str()), (host, text));
        }
        assert!("tls://host".parse::<Endpoint>().unwrap_err().to_string().contains("port is missing"));
    }
}
