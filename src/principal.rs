//! Who a peer is, as its connection proved it: what handlers and rules see, and what records belong to.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::panic_text;
use crate::nonce;
use crate::protocol::PrincipalId;

/// Who is at the other end of a connection. Cheap to clone.
///
/// It is proved by the connection and never claimed by a message: over `tls://` with mutual authentication it has the name in the
/// peer's certificate; over `tcp://`, `ipc://`, TLS without client certificates and within the process it is anonymous.
///
/// Records belong to a principal: a call of another one is another call, even under the same nonce. All anonymous peers are one principal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    id: PrincipalId,
    name: Option<Arc<str>>,
}

impl Principal {
    /// A peer that proved nothing.
    pub const fn anonymous() -> Principal {
        Principal { id: PrincipalId::ANYONE, name: None }
    }

    /// A peer whose certificate has this name: what a rule or a handler gets in a test. It makes no peer that one; a server takes the names of its peers
    /// from their connections alone.
    pub fn named(name: impl Into<Arc<str>>) -> Principal {
        let name = name.into();
        // 64 bits of SHA-256. Never the id of everyone, which would take an absurd name to hit.
        let hash = nonce::hash(&[b"selfsame principal", name.as_bytes()]);
        Principal { id: PrincipalId((hash as u64).max(1)), name: Some(name) }
    }

    /// The principal of a connection that proved this name, or none.
    pub(crate) fn proved(name: Option<Arc<str>>) -> Principal {
        name.map_or(Principal::anonymous(), Principal::named)
    }

    /// The name in its certificate; none if it is anonymous.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the peer proved nothing.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_none()
    }

    /// As records know it.
    pub(crate) fn id(&self) -> PrincipalId {
        self.id
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("anonymous"))
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({self})")
    }
}

/// What a user says about who may do what: all must agree, and without one everything is allowed.
#[derive(Clone, Default)]
pub(crate) struct Rules(Vec<Arc<Rule>>);

type Rule = dyn Fn(&Principal, &str) -> bool + Send + Sync;

impl Rules {
    pub fn add(&mut self, rule: impl Fn(&Principal, &str) -> bool + Send + Sync + 'static) {
        self.0.push(Arc::new(rule));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this principal may call this method, or read this topic. A rule that panics has said no.
    pub fn allow(&self, principal: &Principal, what: &str) -> bool {
        self.0.iter().all(|rule| {
            catch_unwind(AssertUnwindSafe(|| rule(principal, what))).unwrap_or_else(|panic| {
                let panic = panic_text(&*panic);
                tracing::error!(%principal, what, panic, "a rule panicked, which counts as a no");
                false
            })
        })
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_the_same_name_is_the_same_principal() {
        let (ann, bob) = (Principal::named("ann"), Principal::named("bob"));
        assert_eq!(ann, Principal::named("ann"));
        assert_ne!(ann.id(), bob.id());
        assert_ne!(ann.id(), Principal::anonymous().id());
        // Records in files and databases bear it: it must never change.
        assert_eq!(ann.id(), PrincipalId(0x5339ecb178cbfb79));
    }

    #[test]
    fn all_rules_must_agree_and_a_panic_is_a_no() {
        let ann = Principal::named("ann");
        let mut rules = Rules::default();
        assert!(rules.allow(&ann, "anything"));
        rules.add(|_, what| what != "forbidden");
        rules.add(|principal, _| principal.name().unwrap() == "ann");
        assert!(rules.allow(&ann, "anything"));
        assert!(!rules.allow(&ann, "forbidden"));
        assert!(!rules.allow(&Principal::named("bob"), "anything"));
        assert!(!rules.allow(&Principal::anonymous(), "anything"));
    }

    #[test]
    fn shows_its_name() {
        assert_eq!(Principal::named("ann").to_string(), "ann");
        assert_eq!(format!("{:?}", Principal::anonymous()), "Principal(anonymous)");
        assert_eq!(Principal::proved(None), Principal::anonymous());
    }
}
