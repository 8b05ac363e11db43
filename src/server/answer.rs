//! What passes between the engine and generated code: a call on its way in, an answer on its way out.

use std::time::Duration;

use bytes::Bytes;

use super::shares::Source;
use crate::codegen::{Answering, Method};
use crate::error::{Fault, Verdict};
use crate::protocol::Refusal;
use crate::protocol::dedup::{Shed, Terminal};
use crate::request::{Answer, Context};

/// A call on its way to its handler.
pub struct Incoming {
    pub(crate) context: Context,
    pub(crate) body: Bytes,
    pub(crate) interface: u64,
    pub(crate) ordinal: u16,
    pub(super) source: Source,
}

impl Incoming {
    /// The type id of the interface that declares the method.
    pub fn interface(&self) -> u64 {
        self.interface
    }

    /// The method's ordinal there.
    pub fn ordinal(&self) -> u16 {
        self.ordinal
    }

    /// The answer of a service that has no such method.
    pub fn unknown_method(self) -> Answering {
        let message = format!("no method {} in interface {:#018x}", self.ordinal, self.interface);
        Box::pin(std::future::ready(Outgoing::not_started(Refusal::UnknownMethod, message)))
    }
}

/// A handler's answer on its way back.
pub struct Outgoing(pub(crate) Terminal);

impl Outgoing {
    pub(crate) fn from_answer<M: Method>(answer: Answer<M>) -> Self {
        Outgoing(match answer {
            Ok(reply) => Terminal::Ok(reply.body),
            Err(Fault { verdict, message, retry_after, .. }) => {
                verdict_to_terminal(verdict, message, retry_after)
            }
        })
    }

    pub(crate) fn malformed(message: String) -> Self {
        Outgoing::not_started(Refusal::Malformed, message)
    }

    fn not_started(refusal: Refusal, message: String) -> Self {
        Outgoing(Terminal::NotStarted(Shed { refusal, retry_after: None, message }))
    }
}

fn verdict_to_terminal(verdict: Verdict, message: String, retry_after: Option<Duration>) -> Terminal {
    match verdict {
        Verdict::Declined { fault, body } => Terminal::Declined { fault, body },
        Verdict::Failed => Terminal::Failed(message),
        Verdict::Unavailable => Terminal::Unavailable { message, retry_after },
        Verdict::Interrupted => Terminal::Interrupted { message, retry_after },
    }
}

#[cfg(test)]
impl Incoming {
    /// A call from there, of no method in particular.
    pub(super) fn test(source: Source) -> Incoming {
        use crate::nonce::{Identity, Nonce};
        use crate::request::{ContextParts, Lineage};
        static METHOD: crate::codegen::MethodInfo = crate::codegen::MethodInfo {
            interface: 1,
            ordinal: 0,
            name: "Test.method",
            retry: crate::protocol::RetryClass::Once,
        };
        let never = crate::protocol::WallTime(0);
        let key = crate::protocol::Key { key: 1, issued: never, expiry: never };
        let context = Context::new(ContextParts {
            method: &METHOD,
            nonce: Nonce(Identity::Keyed(key)),
            attempt: 1,
            deadline: std::time::Instant::now(),
            principal: crate::principal::Principal::anonymous(),
            trace: crate::trace::root(),
            metadata: crate::metadata::Metadata::default(),
            lineage: Lineage::Keyed(key),
            derived: crate::derived::Derived::default(),
        });
        Incoming { context, body: Bytes::from_static(b"body"), interface: 1, ordinal: 0, source }
    }
}
