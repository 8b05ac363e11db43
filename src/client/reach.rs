//! Whether a channel's server has been reached, and if not, why.

use std::fmt;

use tokio::sync::watch;

use super::STOPPED;
use crate::io::Outage;

/// What is known of the server's endpoints. The driver writes it, and a channel sees how it [stands](Standing).
pub(super) struct Reach {
    /// Of each endpoint, in the order in which they are dialled.
    outages: Vec<Outage>,
    /// The one that was dialled last.
    at: usize,
    standing: watch::Sender<Standing>,
}

/// Whether calls are sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Welcomed,
    /// There is no welcome: why.
    Away(String),
}

impl Reach {
    pub fn new(whom: impl Iterator<Item = impl fmt::Display>) -> Reach {
        let standing = watch::Sender::new(Standing::Away("the server was not dialled yet".into()));
        Reach { outages: whom.map(Outage::new).collect(), at: 0, standing }
    }

    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// This endpoint is dialled.
    pub fn tries(&mut self, at: usize) {
        self.at = at;
        self.outages[at].tried();
        self.away();
    }

    /// That came to nothing, or the connection is lost. Returns whether the reason is a new one.
    pub fn failed(&mut self, why: impl fmt::Display) -> bool {
        let new = self.outages[self.at].failed(why);
        self.away();
        new
    }

    /// The server has answered.
    pub fn welcomed(&mut self) {
        self.outages.iter_mut().for_each(Outage::over);
        self.standing.send_replace(Standing::Welcomed);
    }

    pub fn is_welcomed(&self) -> bool {
        *self.standing.borrow() == Standing::Welcomed
    }

    fn away(&self) {
        self.standing.send_replace(Standing::Away(self.to_string()));
    }
}

impl Drop for Reach {
    /// The driver is gone, and would have been the one to notice.
    fn drop(&mut self) {
        self.standing.send_replace(Standing::Away(STOPPED.into()));
    }
}

/// Why the server is not reached.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for outage in self.outages.iter().filter(|outage| outage.has_begun()) {
            write!(f, "{between}{outage}")?;
            between = "; ";
        }
        Ok(())
    }
}
