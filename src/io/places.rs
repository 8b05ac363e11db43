//! Who may come in: places for connections, in all and for each source address.
//!
//! The count in all is the process's, since descriptors are: sockets that each kept to a bound of their own would run out of them together. Connections that
//! this process dials are in the count too, but never refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::descriptors;
use super::stream::{Network, PeerAddress};

/// Connections that are open, coming in and going out.
struct Open(AtomicUsize);

/// Those of the process.
static PROCESS: Open = Open(AtomicUsize::new(0));

/// However few connections there may be, one address may have so many: a handful of clients on one host is nothing unusual.
const FEWEST: usize = 16;

/// The places of one bound socket. May be shared by threads.
pub(crate) struct Places {
    process: &'static Open,
    /// What the process has descriptors for.
    descriptors: usize,
    limit: usize,
    an_address: usize,
    /// No more entries than connections are open.
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<Network, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("as many connections are open as may be")]
    Full,
    #[error("as many connections are open from its address as may be")]
    Address,
}

impl Places {
    /// `an_address`: connections from one address; by default a quarter of all.
    pub fn new(limit: usize, an_address: Option<usize>) -> Arc<Places> {
        Places::within(&PROCESS, descriptors::connections_limit(), limit, an_address)
    }

    fn within(
        process: &'static Open,
        descriptors: usize,
        limit: usize,
        an_address: Option<usize>,
    ) -> Arc<Places> {
        let an_address = an_address.unwrap_or((limit.min(descriptors) / 4).max(FEWEST)).max(1);
        Arc::new(Places { process, descriptors, limit, an_address, taken: Mutex::default() })
    }

    /// A place for a stranger from there, until it is dropped.
    pub fn take(self: &Arc<Places>, address: PeerAddress) -> Result<Place, NoPlace> {
        let source = address.network();
        let mut taken = self.lock();
        if taken.all >= self.limit {
            return Err(NoPlace::Full);
        }
        let here = source.map_or(0, |source| taken.by_address.get(&source).copied().unwrap_or(0));
        if here >= self.an_address {
            return Err(NoPlace::Address);
        }
        let one = One::below(self.process, self.descriptors).ok_or(NoPlace::Full)?;
        taken.all += 1;
        if let Some(source) = source {
            taken.by_address.insert(source, here + 1);
        }
        drop(taken);
        Ok(Place { places: self.clone(), source, _one: one })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stranger's place, given back whatever becomes of it.
pub(crate) struct Place {
    places: Arc<Places>,
    source: Option<Network>,
    _one: One,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        let Some(source) = self.source else { return };
        if let Some(count) = taken.by_address.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&source);
            }
        }
    }
}

/// One of the process's connections, for as long as it lives.
pub(crate) struct One(&'static Open);

impl One {
    /// One that goes out.
    pub fn dialled() -> One {
        PROCESS.0.fetch_add(1, Ordering::Relaxed);
        One(&PROCESS)
    }

    /// One that comes in, if fewer than `limit` are open.
    fn below(process: &'static Open, limit: usize) -> Option<One> {
        let more = |open: usize| (open < limit).then_some(open + 1);
        process.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| One(process))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> PeerAddress {
        PeerAddress::Tcp(address.parse().unwrap())
    }

    fn take(places: &Arc<Places>, address: &str) -> Result<Place, NoPlace> {
        places.take(from(address))
    }

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let places = Places::new(4, Some(2));
        let first = take(&places, "10.0.0.1:1").ok().unwrap();
        let _second = take(&places, "10.0.0.1:2").ok().unwrap();
        assert_eq!(take(&places, "10.0.0.1:3").err(), Some(NoPlace::Address));
        let _other = take(&places, "10.0.0.2:1").ok().unwrap();
        drop(first);
        let _again = take(&places, "10.0.0.1:3").ok().unwrap();
        let _last = take(&places, "10.0.0.2:2").ok().unwrap();
        assert_eq!(take(&places, "10.0.0.3:1").err(), Some(NoPlace::Full));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address_and_ipv4_stays_ipv4() {
        let places = Places::new(100, Some(1));
        let _first = take(&places, "[2001:db8:1:2::1]:1").ok().unwrap();
        assert_eq!(take(&places, "[2001:db8:1:2:ffff::9]:1").err(), Some(NoPlace::Address));
        let _next = take(&places, "[2001:db8:1:3::1]:1").ok().unwrap();
        let _mapped = take(&places, "[::ffff:10.0.0.1]:1").ok().unwrap();
        let _also_mapped = take(&places, "[::ffff:10.0.0.2]:1").ok().unwrap();
        assert_eq!(take(&places, "10.0.0.2:1").err(), Some(NoPlace::Address));
    }

    #[test]
    fn a_unix_socket_has_no_address_and_counts_in_all() {
        let places = Places::new(3, Some(1));
        let taken: Vec<_> = (0..3).map(|_| places.take(PeerAddress::Ipc).ok().unwrap()).collect();
        assert_eq!(places.take(PeerAddress::Ipc).err(), Some(NoPlace::Full));
        drop(taken);
        assert!(places.take(PeerAddress::Ipc).is_ok() && places.lock().by_address.is_empty());
    }

    #[test]
    fn sockets_of_one_process_share_its_descriptors() {
        static OURS: Open = Open(AtomicUsize::new(0));
        let places = |limit| Places::within(&OURS, 5, limit, None);
        let (one, other) = (places(100), places(3));
        let most: Vec<_> = (0..4).map(|_| one.take(PeerAddress::Ipc).ok().unwrap()).collect();
        let last = other.take(PeerAddress::Ipc).ok().unwrap();
        assert_eq!(other.take(PeerAddress::Ipc).err(), Some(NoPlace::Full));
        drop((most, last));
        let _own: Vec<_> = (0..3).map(|_| other.take(PeerAddress::Ipc).ok().unwrap()).collect();
        assert_eq!(other.take(PeerAddress::Ipc).err(), Some(NoPlace::Full), "its own limit holds too");
        assert!(one.take(PeerAddress::Ipc).is_ok());
    }

    #[test]
    fn by_default_an_address_has_a_quarter() {
        assert_eq!(Places::new(400, None).an_address, 100);
        assert_eq!(Places::new(20, None).an_address, FEWEST);
        assert_eq!(
            Places::new(usize::MAX, None).an_address,
            (descriptors::connections_limit() / 4).max(FEWEST)
        );
    }
}
