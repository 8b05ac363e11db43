//! Why an endpoint cannot be reached: for the log, and for whoever waits for the other side in vain.

use std::fmt;

/// What was tried since the other side last answered, and what came of it.
#[derive(Clone, Debug)]
pub struct Outage {
    whom: String,
    tries: u32,
    why: Option<String>,
}

impl Outage {
    /// Of an endpoint that was not tried yet.
    pub fn new(whom: impl fmt::Display) -> Outage {
        Outage { whom: whom.to_string(), tries: 0, why: None }
    }

    /// It is dialled once more.
    pub fn tried(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// That came to nothing, or the connection ended. Returns whether the reason is another than before, and so worth a line in the log.
    pub fn failed(&mut self, why: impl fmt::Display) -> bool {
        let why = Some(why.to_string());
        let new = self.why != why;
        self.why = why;
        new
    }

    /// The other side has answered.
    pub fn over(&mut self) {
        *self = Outage { tries: 0, why: None, whom: std::mem::take(&mut self.whom) };
    }

    /// Whether there is something to tell.
    pub fn has_begun(&self) -> bool {
        self.tries > 0 || self.why.is_some()
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outage { whom, tries, why } = self;
        match (tries, why) {
            (_, None) => write!(f, "{whom} has not answered yet"),
            (0, Some(why)) => write!(f, "the connection to {whom} is lost: {why}"),
            (1, Some(why)) => write!(f, "no connection to {whom} in 1 try: {why}"),
            (tries, Some(why)) => write!(f, "no connection to {whom} in {tries} tries: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_often_and_why_and_each_reason_is_new_once() {
        let mut outage = Outage::new("tcp://account:7314");
        assert!(!outage.has_begun());
        outage.tried();
        assert_eq!(outage.to_string(), "tcp://account:7314 has not answered yet");
        assert!(outage.failed("refused"));
        assert_eq!(outage.to_string(), "no connection to tcp://account:7314 in 1 try: refused");
        outage.tried();
        assert!(!outage.failed("refused"));
        assert_eq!(outage.to_string(), "no connection to tcp://account:7314 in 2 tries: refused");
        assert!(outage.failed("no route"));
        outage.over();
        assert!(!outage.has_begun());
        assert!(outage.failed("it broke"));
        assert_eq!(outage.to_string(), "the connection to tcp://account:7314 is lost: it broke");
    }
}
