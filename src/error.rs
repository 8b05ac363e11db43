//! Errors: whose fault, did it execute, which call.
//!
//! [`Error`] is what a caller gets, [`Fault`] what a handler returns, [`SetupError`] what `bind` and `connect` return.

use std::any::Any;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use crate::protocol::{Outcome, Refusal};

use crate::codegen::Raised;
use crate::message::Message;
use crate::nonce::Nonce;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The contract's typed no. See [`Error::fault`].
    Declined,
    /// The handler failed or panicked, and will not be run again for this nonce.
    Failed,
    /// The library refused the call.
    Refused(Refusal),
    /// The time was up.
    Deadline,
    /// This program used the library wrongly; nothing was sent.
    Misuse,
}

/// Why a call has no reply. Cheap to clone.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
pub(crate) struct Inner {
    pub kind: Kind,
    pub outcome: Outcome,
    pub method: &'static str,
    pub nonce: Option<Nonce>,
    pub attempts: u32,
    pub retry_after: Option<Duration>,
    pub message: String,
    /// The type id and body of a typed fault.
    pub fault: Option<(u64, Bytes)>,
}

impl Error {
    pub(crate) fn new(inner: Inner) -> Self {
        Error(Box::new(inner))
    }

    /// This program's own mistake, found before anything was sent.
    pub(crate) fn misuse(method: &'static str, message: impl Into<String>) -> Self {
        Error::new(Inner {
            kind: Kind::Misuse,
            outcome: Outcome::No,
            method,
            nonce: None,
            attempts: 0,
            retry_after: None,
            message: message.into(),
            fault: None,
        })
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether the call executed.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The method, as `Interface.method` in the contract's spelling.
    pub fn method(&self) -> &'static str {
        self.0.method
    }

    /// The call's identity, if it got as far as having one.
    pub fn nonce(&self) -> Option<Nonce> {
        self.0.nonce
    }

    /// How often the call was sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// When the server asked not to be called again earlier.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The contract's typed no, if the error is one and of type `F`.
    pub fn fault<F: Raised>(&self) -> Option<Message<F>> {
        let (type_id, body) = self.0.fault.as_ref()?;
        if *type_id != F::TYPE_ID {
            return None;
        }
        Message::from_bytes(body.clone()).ok()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, outcome, method, nonce, attempts, message, .. } = &*self.0;
        write!(f, "{method}: ")?;
        match kind {
            Kind::Declined => write!(f, "declined")?,
            Kind::Failed => write!(f, "failed")?,
            Kind::Refused(refusal) => write!(f, "refused as {}", refusal.told(message))?,
            Kind::Deadline => write!(f, "no reply before the deadline")?,
            Kind::Misuse => write!(f, "misuse")?,
        }
        if !message.is_empty() && !matches!(kind, Kind::Refused(_)) {
            write!(f, ": {message}")?;
        }
        let executed = match outcome {
            Outcome::No => "it did not execute",
            Outcome::Yes => "it executed",
            Outcome::Unknown => "whether it executed is unknown",
        };
        write!(f, "; {executed}")?;
        if let Some(nonce) = nonce {
            write!(f, " (nonce {nonce}, attempts {attempts})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, outcome, method, nonce, attempts, retry_after, message, fault } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("outcome", outcome)
            .field("method", method)
            .field("nonce", nonce)
            .field("attempts", attempts)
            .field("retry_after", retry_after)
            .field("message", message)
            .field("fault", &fault.as_ref().map(|(type_id, _)| type_id))
            .finish()
    }
}

impl std::error::Error for Error {}

/// What kept a socket, a store or a subscription from being set up, or a server from serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetupErrorKind {
    /// The text is no endpoint.
    Endpoint,
    /// Another socket has the endpoint, or another server the store's file.
    InUse,
    /// An endpoint has TLS settings and needs none, or the other way round; or they name files that are of no use.
    Tls,
    /// The store cannot be opened, or has stopped.
    Store,
    /// No publisher that can be reached lets this subscriber read the topic.
    Denied,
    /// The other side did not confirm in time: it is not there, cannot be reached, or is slow. It may once it is there, so this is worth another try.
    Unconfirmed,
    /// Something else: a mistake of the program, such as two services of one interface, or want of threads, descriptors or permissions.
    Other,
}

/// Why something could not be set up: no call was made yet, so there is no outcome. Cheap to clone.
///
/// Its [`source`](std::error::Error::source) is the error of the system, of TLS or of the store's file, where one was the cause.
#[derive(Clone, Debug)]
pub struct SetupError(Box<Setup>);

#[derive(Clone, Debug)]
struct Setup {
    kind: SetupErrorKind,
    what: String,
    why: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl SetupError {
    pub(crate) fn new(kind: SetupErrorKind, what: impl Into<String>, why: impl fmt::Display) -> Self {
        SetupError(Box::new(Setup { kind, what: what.into(), why: why.to_string(), source: None }))
    }

    /// The error of something else says why.
    pub(crate) fn of(
        kind: SetupErrorKind,
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        SetupError::new(kind, what, &source).because(source)
    }

    /// The system's error says why, and of which kind it is.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::AddrInUse => SetupErrorKind::InUse,
            _ => SetupErrorKind::Other,
        };
        SetupError::of(kind, what, source)
    }

    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> SetupErrorKind {
        self.0.kind
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.what, self.0.why)
    }
}

impl std::error::Error for SetupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// No typed fault: the fault type of a method whose contract raises none.
#[derive(Debug)]
pub enum Untyped {}

/// What a handler returns instead of a reply. The kind decides whether the call may run again, and what its caller is told.
///
/// | made by | record | outcome at the caller |
/// | --- | --- | --- |
/// | [`Request::decline`](crate::Request::decline) | replayed | `Yes` |
/// | [`Fault::failed`], `?` on an error, a panic, a time-out | replayed, never run again | `Unknown` |
/// | [`Fault::unavailable`] | dropped, may be retried | `No` |
/// | [`Fault::interrupted`] | dropped, may be retried | `Unknown` |
///
/// What is wrong with the call itself, so that no retry would help (an argument that makes no sense, a right that the caller lacks, a thing that is not there), is for the
/// contract to name: its typed no, `$Selfsame.Raises` in the schema.
pub struct Fault<F = Untyped> {
    pub(crate) verdict: Verdict,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    fault: PhantomData<fn() -> F>,
}

/// What a handler decided, in the table of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The contract's typed no. See [`Fault::typed`].
    Declined,
    /// It went wrong, and is not run again.
    Failed,
    /// Nothing was done, and it may be retried.
    Unavailable,
    /// What was done was done within the request, and it may be retried.
    Interrupted,
}

/// A handler's no, with what its kind needs.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Declined { fault: u64, body: Bytes },
    Failed,
    Unavailable,
    Interrupted,
}

impl<F> Fault<F> {
    pub(crate) fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        Fault { verdict, message: message.into(), retry_after: None, fault: PhantomData }
    }

    /// It went wrong, and what was done before is not known. Recorded: a retry gets the same answer.
    pub fn failed(why: impl fmt::Display) -> Self {
        Fault::new(Verdict::Failed, why.to_string())
    }

    /// Nothing was done. The call may be retried, here or elsewhere.
    pub fn unavailable(why: impl fmt::Display) -> Self {
        Fault::new(Verdict::Unavailable, why.to_string())
    }

    /// All effects so far were calls made `.within` this request, so running the handler again is safe.
    pub fn interrupted(why: impl fmt::Display) -> Self {
        Fault::new(Verdict::Interrupted, why.to_string())
    }

    /// Asks the caller not to retry earlier.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// What the handler decided.
    pub fn kind(&self) -> FaultKind {
        match self.verdict {
            Verdict::Declined { .. } => FaultKind::Declined,
            Verdict::Failed => FaultKind::Failed,
            Verdict::Unavailable => FaultKind::Unavailable,
            Verdict::Interrupted => FaultKind::Interrupted,
        }
    }
}

impl<F: Raised> Fault<F> {
    /// The contract's typed no, if it is one: what its caller gets from [`Error::fault`].
    pub fn typed(&self) -> Option<Message<F>> {
        let Verdict::Declined { body, .. } = &self.verdict else { return None };
        Message::from_bytes(body.clone()).ok()
    }
}

impl<F> fmt::Display for Fault<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind() {
            FaultKind::Declined => "declined",
            FaultKind::Failed => "failed",
            FaultKind::Unavailable => "unavailable",
            FaultKind::Interrupted => "interrupted",
        };
        write!(f, "{kind}")?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl<F> fmt::Debug for Fault<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({self})")
    }
}

impl<F> std::error::Error for Fault<F> {}

// No blanket `From<E: std::error::Error>`: it would hide the choice of a verdict behind every `?`.
impl<F> From<capnp::Error> for Fault<F> {
    fn from(error: capnp::Error) -> Self {
        Fault::failed(error)
    }
}

impl<F> From<std::str::Utf8Error> for Fault<F> {
    fn from(error: std::str::Utf8Error) -> Self {
        Fault::failed(error)
    }
}

impl<F> From<capnp::NotInSchema> for Fault<F> {
    fn from(error: capnp::NotInSchema) -> Self {
        Fault::failed(error)
    }
}

impl<F> From<Error> for Fault<F> {
    fn from(error: Error) -> Self {
        Fault::failed(error)
    }
}

/// What a panic says, for logs and for messages.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(refusal: Refusal, outcome: Outcome, message: &str) -> String {
        let (kind, method, message) = (Kind::Refused(refusal), "Account.report", message.to_owned());
        let inner = Inner {
            kind,
            outcome,
            method,
            nonce: None,
            attempts: 1,
            retry_after: None,
            message,
            fault: None,
        };
        Error::new(inner).to_string()
    }

    #[test]
    fn a_refusal_says_what_happened_and_what_to_do_and_then_what_else_is_known() {
        assert_eq!(
            refused(Refusal::ReplyEvicted, Outcome::Yes, ""),
            "Account.report: refused as ReplyEvicted: the call ran, but its reply was too large to keep; \
             ask for what it changed by another call; it executed"
        );
        assert_eq!(
            refused(Refusal::Overloaded, Outcome::No, "all handlers are busy"),
            "Account.report: refused as Overloaded: too much is under way; try again later, or elsewhere \
             (all handlers are busy); it did not execute"
        );
    }
}
