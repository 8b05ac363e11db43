//! From a call on the wire to what its handler gets.

use std::time::{Duration, Instant};

use super::answer::Incoming;
use super::shares::Source;
use crate::codegen::MethodInfo;
use crate::derived::Derived;
use crate::message::Message;
use crate::metadata::Metadata;
use crate::nonce::{self, Identity, Nonce};
use crate::principal::Principal;
use crate::protocol::CallId;
use crate::protocol::wire::Call;
use crate::request::{Context, ContextParts, Lineage};

/// The call with its context, as its handler sees it. Its deadline counts from when it arrived.
pub(super) fn incoming(
    call: Call,
    method: &'static MethodInfo,
    principal: Principal,
    source: Source,
    retention: Duration,
    arrived: Instant,
) -> Incoming {
    let nonce = match call.id {
        CallId::Sequenced(number) => Nonce(Identity::Sequenced { registration: call.registration, number }),
        CallId::Keyed(key) => Nonce(Identity::Keyed(key)),
    };
    let context = Context::new(ContextParts {
        method,
        nonce,
        attempt: call.attempt,
        deadline: arrived + call.time_left,
        principal,
        trace: call.trace.map_or_else(crate::trace::root, crate::trace::child),
        lineage: lineage(&call, retention),
        derived: Derived::default(),
        metadata: Metadata(call.metadata),
    });
    Incoming { context, body: call.body, interface: call.interface, ordinal: call.method, source }
}

/// What tells one body from another. A client resends a sequenced call's very bytes; a keyed one may have been built anew, and Cap'n Proto
/// lays out the same content in more than one way, so its canonical form counts.
pub(super) fn digest(call: &Call) -> capnp::Result<u128> {
    match call.id {
        CallId::Sequenced(_) => Ok(xxhash_rust::xxh3::xxh3_128(&call.body)),
        CallId::Keyed(_) => {
            let message = Message::<capnp::any_pointer::Owned>::from_bytes(call.body.clone())?;
            Ok(xxhash_rust::xxh3::xxh3_128(&message.canonical()?))
        }
    }
}

/// A sequenced call is retried for less than the retention; twice that outlives the effects of its last attempt.
fn lineage(call: &Call, retention: Duration) -> Lineage {
    match call.id {
        CallId::Keyed(key) => Lineage::Keyed(key),
        CallId::Sequenced(number) => Lineage::Sequenced {
            registration: call.registration,
            number,
            issued: call.issued,
            expiry: nonce::later(call.issued, 2 * retention),
        },
    }
}
