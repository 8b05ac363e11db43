//! W3C trace context: which trace a call belongs to, and its place in there.

use crate::protocol::wire::Trace;
use crate::random;

const SAMPLED: u8 = 1;

/// A trace that begins here.
pub(crate) fn root() -> Trace {
    let id = u128::from(random::id()) << 64 | u128::from(random::id());
    Trace { id, parent: random::id(), flags: SAMPLED }
}

/// A call within another: the same trace, a span of its own.
pub(crate) fn child(of: Trace) -> Trace {
    Trace { parent: random::id(), ..of }
}

/// `00-<trace id>-<parent id>-<flags>`.
pub(crate) fn to_traceparent(trace: &Trace) -> String {
    format!("00-{:032x}-{:016x}-{:02x}", trace.id, trace.parent, trace.flags)
}

/// Reads a `traceparent` of version 00; zero ids are invalid, as the recommendation says.
pub(crate) fn from_traceparent(text: &str) -> Option<Trace> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == digits && lower).then(|| u128::from_str_radix(part, 16).ok()).flatten()
    };
    let (version, id, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let valid = version == 0 && id != 0 && parent != 0 && parts.next().is_none();
    valid.then_some(Trace { id, parent: parent as u64, flags: flags as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_goes_there_and_back() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(to_traceparent(&from_traceparent(text).unwrap()), text);
        let made = root();
        assert_eq!(from_traceparent(&to_traceparent(&made)), Some(made));
    }

    #[test]
    fn what_the_recommendation_forbids_is_refused() {
        for text in [
            "",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(from_traceparent(text), None, "{text}");
        }
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let parent = root();
        let child = child(parent);
        assert_eq!(child.id, parent.id);
        assert_ne!(child.parent, parent.parent);
    }
}
