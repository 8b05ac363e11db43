//! Nonces: the identity of a call, however often it is sent.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::protocol::{Key, Registration, WallTime};

/// The identity of one call. Printable and parsable: `s-<registration>-<number>` or `k-<key>-<issued>-<expiry>`.
///
/// A call gets a sequenced nonce by itself, which ends with the call. A call that is made under a keyed one can be made again, and is still one call, with one
/// effect and one reply. Such a nonce outlives the client's process too: save it, or the whole call ([`Call::to_bytes`](crate::Call::to_bytes)), before the first
/// send, and a restarted client can ask again under it. A server refuses one that was issued less than a second after its store began, since the store before may
/// have seen it: see [`ServerBuilder::clock_error`](crate::ServerBuilder::clock_error).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub(crate) Identity);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Sequenced { registration: Registration, number: u64 },
    Keyed(Key),
}

/// How long a keyed nonce is valid unless told otherwise: a day, so that a client that crashed in the evening can resume in the morning.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

impl Nonce {
    /// A keyed nonce that nobody has had before, issued now and valid for [`DEFAULT_VALIDITY`]: for a call that may have to be asked about again.
    ///
    /// ```no_run
    /// use selfsame::{Call, Error, Message, Method, Nonce, Outcome};
    ///
    /// // `call` makes a call with the same parameters each time: `|| account.change_password(|mut p| p.set_user("ann"))`.
    /// async fn ask<M: Method>(call: impl Fn() -> Call<M>) -> Result<Message<M::Results>, Error> {
    ///     let nonce = Nonce::random();
    ///     match call().nonce(nonce).await {
    ///         Err(error) if error.outcome() == Outcome::Unknown => call().nonce(nonce).await,
    ///         answer => answer,
    ///     }
    /// }
    /// ```
    pub fn random() -> Nonce {
        Nonce(Identity::Keyed(random_key()))
    }

    /// A nonce from a key of your own, such as `order-8731`, valid for [`DEFAULT_VALIDITY`] from `issued`.
    ///
    /// Give the time at which the intention arose (the order's own time), not the time of the retry: a key rebuilt after a crash must come
    /// out the same. Where clients prove who they are (`ServerTls::clients`), a key is its principal's own; elsewhere all are one principal, and whoever guesses a key
    /// can read its reply.
    pub fn keyed(key: impl AsRef<[u8]>, issued: SystemTime) -> Nonce {
        Nonce::keyed_for(key, issued, DEFAULT_VALIDITY)
    }

    /// As [`keyed`](Nonce::keyed), valid for `validity`. Servers take up to 7 days, since they have to keep the record that long.
    pub fn keyed_for(key: impl AsRef<[u8]>, issued: SystemTime, validity: Duration) -> Nonce {
        let issued = wall_time(issued);
        let key = hash(&[b"selfsame user key", key.as_ref()]);
        Nonce(Identity::Keyed(Key { key, issued, expiry: later(issued, validity) }))
    }
}

pub(crate) fn random_key() -> Key {
    let issued = wall_time(SystemTime::now());
    Key { key: crate::random::u128(), issued, expiry: later(issued, DEFAULT_VALIDITY) }
}

pub(crate) fn wall_time(time: SystemTime) -> WallTime {
    WallTime(time.duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// `duration` after `time`, or the end of time.
pub(crate) fn later(time: WallTime, duration: Duration) -> WallTime {
    WallTime(time.0.saturating_add(millis(duration)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The first 128 bits of SHA-256 over the parts, each preceded by its length.
pub(crate) fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    u128::from_be_bytes(digest[..16].try_into().expect("16 of 32 bytes"))
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Identity::Sequenced { registration, number } => write!(f, "s-{registration}-{number}"),
            Identity::Keyed(Key { key, issued, expiry }) => {
                write!(f, "k-{key:032x}-{}-{}", issued.0, expiry.0)
            }
        }
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

/// A text that is not a nonce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a nonce: {0:?}; expected s-<registration>-<number> or k-<key>-<issued>-<expiry>")]
pub struct ParseNonceError(String);

impl FromStr for Nonce {
    type Err = ParseNonceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseNonceError(text.chars().take(120).collect()))
    }
}

fn parse(text: &str) -> Option<Nonce> {
    let hex = |s: &str| (s.len() == 32).then(|| u128::from_str_radix(s, 16).ok()).flatten();
    let mut parts = text.split('-');
    let identity = match parts.next()? {
        "s" => Identity::Sequenced {
            registration: Registration(hex(parts.next()?)?),
            number: parts.next()?.parse().ok()?,
        },
        "k" => Identity::Keyed(Key {
            key: hex(parts.next()?)?,
            issued: WallTime(parts.next()?.parse().ok()?),
            expiry: WallTime(parts.next()?.parse().ok()?),
        }),
        _ => return None,
    };
    parts.next().is_none().then_some(Nonce(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_prints_and_parses_back() {
        let issued = UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
        for nonce in [
            Nonce::keyed("order-8731", issued),
            Nonce::keyed_for("", UNIX_EPOCH, Duration::MAX),
            Nonce(Identity::Sequenced { registration: Registration(u128::MAX), number: u64::MAX }),
            Nonce(Identity::Sequenced { registration: Registration(1), number: 0 }),
        ] {
            assert_eq!(nonce.to_string().parse(), Ok(nonce));
        }
    }

    #[test]
    fn what_is_no_nonce_does_not_parse() {
        for text in [
            "",
            "s",
            "s-1-2",
            "k-00-1-2",
            "x-00000000000000000000000000000001-1",
            "s-00000000000000000000000000000001-1-1",
        ] {
            assert!(text.parse::<Nonce>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_the_same_whenever_it_is_rebuilt_from_the_same_issue_time() {
        let issued = UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(Nonce::keyed("a", issued), Nonce::keyed("a", issued));
        assert_ne!(Nonce::keyed("a", issued), Nonce::keyed("b", issued));
    }

    #[test]
    fn a_random_nonce_is_keyed_and_no_other() {
        let (one, other) = (Nonce::random(), Nonce::random());
        assert_ne!(one, other);
        assert!(matches!(one.0, Identity::Keyed(key) if later(key.issued, DEFAULT_VALIDITY) == key.expiry));
    }
}
