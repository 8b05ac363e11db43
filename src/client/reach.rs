//! Whether a channel's server has been reached, and if not, why.

use std::fmt;

use crate::io::Outage;

/// What is known of the server's endpoints.
pub(super) struct Reach {
    /// Of each endpoint, in the order in which they are dialled.
    outages: Vec<Outage>,
    /// The one that was dialled last.
    at: usize,
    welcomed: bool,
}

impl Reach {
    pub fn new(whom: impl Iterator<Item = impl fmt::Display>) -> Reach {
        Reach { outages: whom.map(Outage::new).collect(), at: 0, welcomed: false }
    }

    /// This endpoint is dialled.
    pub fn tries(&mut self, at: usize) {
        self.at = at;
        self.outages[at].tried();
    }

    /// That came to nothing, or the connection is lost. Returns whether the reason is a new one.
    pub fn failed(&mut self, why: impl fmt::Display) -> bool {
        self.welcomed = false;
        self.outages[self.at].failed(why)
    }

    /// The server has answered: calls are sent at once.
    pub fn welcomed(&mut self) {
        self.welcomed = true;
        self.outages.iter_mut().for_each(Outage::over);
    }

    pub fn is_welcomed(&self) -> bool {
        self.welcomed
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
