//! What a handler gets and gives: the request with its context, and the answer.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use capnp::traits::Owned;

use crate::call::LONGEST_DEADLINE;
use crate::codegen::{Method, MethodInfo, Raised};
use crate::derived::Derived;
use crate::error::{Fault, Verdict};
use crate::message::{self, Filled, Message};
use crate::metadata::Metadata;
use crate::nonce::{self, Identity, Nonce};
use crate::principal::Principal;
use crate::protocol::wire::Trace;
use crate::protocol::{Key, Registration, WallTime};
use crate::server::{Incoming, Outgoing};
#[cfg(feature = "postgres")]
use crate::store::postgres::{Transaction, TransactionError};

/// What a handler returns: a reply, or a fault that says what becomes of the call.
pub type Answer<M> = Result<Reply<M>, Fault<<M as Method>::Fault>>;

/// A call at its handler: the parameters, and by `Deref` the [`Context`].
pub struct Request<M: Method> {
    params: Message<M::Params>,
    context: Context,
}

impl<M: Method> Request<M> {
    pub(crate) fn new(call: Incoming) -> Result<Self, Outgoing> {
        let Incoming { context, body, .. } = call;
        match Message::from_bytes(body) {
            Ok(params) => Ok(Request { params, context }),
            Err(error) => {
                Err(Outgoing::malformed(format!("the parameters are not a valid message: {error}")))
            }
        }
    }

    /// A request without a server, to call a handler directly in a test, in the context of [`TestContext::new`].
    ///
    /// ```
    /// # mod api { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/contracts/mod.rs")); }
    /// # use api::account::account::{ChangePassword, Version};
    /// # use api::account::Account;
    /// # use selfsame::{Answer, FaultKind, Principal, Request, TestContext};
    /// # struct Vault;
    /// # impl Account for Vault {
    /// #     async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
    /// #         if request.principal().is_anonymous() { return Err(request.decline(|mut fault| fault.set_user("ann"))) }
    /// #         request.reply(|mut reply| reply.set_version(7))
    /// #     }
    /// #     async fn version(&self, request: Request<Version>) -> Answer<Version> { request.reply(|mut r| r.set_version(7)) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let request = Request::<Version>::test(|mut p| p.set_user("ann"));
    /// let reply = Vault.version(request).await?.message()?;
    /// assert_eq!(reply.get()?.get_version(), 7);
    ///
    /// let request = Request::<ChangePassword>::test(|mut p| p.set_user("ann"));
    /// let fault = Vault.change_password(request).await.unwrap_err();
    /// assert_eq!(fault.kind(), FaultKind::Declined);
    /// assert_eq!(fault.typed().unwrap().get()?.get_user()?, "ann");
    ///
    /// let ann = TestContext::new().principal(Principal::named("ann")).metadata("tenant", "blue");
    /// let request = Request::<ChangePassword>::test_with(ann, |mut p| p.set_user("ann"));
    /// assert!(Vault.change_password(request).await.is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// If the closure returns an error.
    pub fn test<R: Filled>(fill: impl FnOnce(<M::Params as Owned>::Builder<'_>) -> R) -> Self {
        Self::test_with(TestContext::new(), fill)
    }

    /// As [`test`](Request::test), in a context of the test's own.
    ///
    /// # Panics
    /// If the closure returns an error.
    pub fn test_with<R: Filled>(
        context: TestContext,
        fill: impl FnOnce(<M::Params as Owned>::Builder<'_>) -> R,
    ) -> Self {
        let body = message::build::<M::Params, R>(fill).expect("the test's parameters are valid");
        let params = Message::from_bytes(body).expect("just built");
        Request { params, context: context.of(&M::INFO) }
    }

    /// Lends a reader of the parameters. It must not be held over an await; see [`Message`].
    ///
    /// # Errors
    /// If the parameters are not of the contract's form.
    pub fn get(&self) -> capnp::Result<<M::Params as Owned>::Reader<'_>> {
        self.params.get()
    }

    /// Reads what the handler needs in one expression: `request.read(|p| Ok(p.get_user()?.to_string()?))?`.
    ///
    /// # Errors
    /// As [`get`](Request::get), and what the closure returns.
    pub fn read<'s, R>(
        &'s self,
        read: impl FnOnce(<M::Params as Owned>::Reader<'s>) -> capnp::Result<R>,
    ) -> capnp::Result<R> {
        self.params.read(read)
    }

    /// The parameters as a message to keep.
    pub fn params(&self) -> &Message<M::Params> {
        &self.params
    }

    /// The handler's whole answer, from a closure that fills the result.
    ///
    /// # Errors
    /// What the closure returns, as `failed`.
    pub fn reply<R: Filled>(&self, fill: impl FnOnce(<M::Results as Owned>::Builder<'_>) -> R) -> Answer<M> {
        let body = message::build::<M::Results, R>(fill)?;
        Ok(Reply { body, of: PhantomData })
    }

    /// The contract's typed no: `return Err(request.decline(|mut f| f.set_no_such_user(())))`. It is an answer like any other:
    /// recorded, replayed, and its outcome is `Yes`.
    pub fn decline<R: Filled>(
        &self,
        fill: impl FnOnce(<M::Fault as Owned>::Builder<'_>) -> R,
    ) -> Fault<M::Fault>
    where
        M::Fault: Raised,
    {
        match message::build::<M::Fault, R>(fill) {
            Ok(body) => Fault::new(Verdict::Declined { fault: <M::Fault as Raised>::TYPE_ID, body }, ""),
            Err(error) => Fault::from(error),
        }
    }

    /// The context, to hand to helpers and tasks.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl<M: Method> Deref for Request<M> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<M: Method> fmt::Debug for Request<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("context", &self.context).field("params", &self.params).finish()
    }
}

/// A handler's reply, made by [`Request::reply`].
pub struct Reply<M> {
    pub(crate) body: Bytes,
    of: PhantomData<fn() -> M>,
}

impl<M: Method> Reply<M> {
    /// The reply as its caller gets it, to be looked at in a test.
    ///
    /// # Errors
    /// If it is nested deeper than 64 structs and lists: its caller cannot read it either.
    pub fn message(&self) -> capnp::Result<Message<M::Results>> {
        Message::from_bytes(self.body.clone())
    }
}

impl<M> fmt::Debug for Reply<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({} bytes)", self.body.len())
    }
}

/// What a test's request says of its call besides the parameters; see [`Request::test_with`].
#[derive(Clone, Debug)]
pub struct TestContext {
    principal: Principal,
    metadata: Metadata,
    patience: Duration,
}

impl Default for TestContext {
    fn default() -> Self {
        TestContext {
            principal: Principal::anonymous(),
            metadata: Metadata::default(),
            patience: Duration::from_secs(60), // longer than a test runs
        }
    }
}

impl TestContext {
    /// A first attempt by an anonymous peer, without metadata, whose deadline is a minute away. Its nonce is keyed, random and made now.
    pub fn new() -> TestContext {
        TestContext::default()
    }

    /// Who called. Default: an anonymous peer.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// A name and a value that the caller sent along. May be given several times. Default: none.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.metadata.push(name, value);
        self
    }

    /// How long its caller is going to wait, from when the request is made. Default: a minute.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.patience = deadline.min(LONGEST_DEADLINE);
        self
    }

    fn of(self, method: &'static MethodInfo) -> Context {
        let key = nonce::random_key();
        Context::new(ContextParts {
            method,
            nonce: Nonce(Identity::Keyed(key)),
            attempt: 1,
            deadline: Instant::now() + self.patience,
            principal: self.principal,
            trace: crate::trace::root(),
            metadata: self.metadata,
            lineage: Lineage::Keyed(key),
            derived: Derived::default(),
        })
    }
}

/// All that is known of a call besides its parameters. Cheap to clone, `Send` and `Sync`; calls made
/// [`.within`](crate::Call::within) it inherit nonce, deadline and trace.
#[derive(Clone)]
pub struct Context {
    parts: Arc<ContextParts>,
    #[cfg(feature = "postgres")]
    transaction: Option<Transaction>,
}

pub(crate) struct ContextParts {
    pub method: &'static MethodInfo,
    pub nonce: Nonce,
    pub attempt: u32,
    pub deadline: Instant,
    pub principal: Principal,
    pub trace: Trace,
    pub metadata: Metadata,
    pub lineage: Lineage,
    /// Keys of the calls made within this one.
    pub derived: Derived,
}

/// What nonces of calls within a call derive from. Issue and expiry come from the outermost nonce, so that they are the same whenever the handler runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lineage {
    Keyed(Key),
    Sequenced {
        registration: Registration,
        number: u64,
        issued: WallTime,
        /// Beyond it nobody asks for the effects of the call's last attempt.
        expiry: WallTime,
    },
}

impl Lineage {
    fn key(self) -> Key {
        match self {
            Lineage::Keyed(key) => key,
            Lineage::Sequenced { registration, number, issued, expiry } => {
                let parts = [b"selfsame lineage", &registration.0.to_le_bytes()[..], &number.to_le_bytes()];
                Key { key: nonce::hash(&parts), issued, expiry }
            }
        }
    }
}

impl Context {
    pub(crate) fn new(parts: ContextParts) -> Self {
        Context {
            parts: Arc::new(parts),
            #[cfg(feature = "postgres")]
            transaction: None,
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn set_transaction(&mut self, transaction: Option<Transaction>) {
        self.transaction = transaction;
    }

    /// The PostgreSQL transaction of this call: what is written in it is committed together with the record of the answer, or not at all. Of a
    /// server with an [atomic](crate::Store::atomic) store, for calls that have a record: those of class `once`.
    ///
    /// # Errors
    /// If this call has none.
    #[cfg(feature = "postgres")]
    pub fn transaction(&self) -> Result<Transaction, TransactionError> {
        self.transaction.clone().ok_or(TransactionError::None)
    }

    /// The method, as `Interface.method` in the contract's spelling.
    pub fn method(&self) -> &'static str {
        self.parts.method.name
    }

    /// The call's identity: the same in every attempt. Store it beside an effect to find the effect again.
    pub fn nonce(&self) -> Nonce {
        self.parts.nonce
    }

    /// Who called, as its connection proved.
    pub fn principal(&self) -> &Principal {
        &self.parts.principal
    }

    /// The attempt that started this handler, from 1.
    pub fn attempt(&self) -> u32 {
        self.parts.attempt
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Instant {
        self.parts.deadline
    }

    /// How long the caller is still going to wait.
    pub fn time_left(&self) -> Duration {
        self.parts.deadline.saturating_duration_since(Instant::now())
    }

    /// Names and values that the caller sent along.
    pub fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// The W3C `traceparent` of this call.
    pub fn traceparent(&self) -> String {
        crate::trace::to_traceparent(&self.parts.trace)
    }

    pub(crate) fn trace(&self) -> Trace {
        self.parts.trace
    }

    /// The nonce of a call made within this one. `None` if `(method, label)` was used before in this execution: both calls would be
    /// one call to the server, and the second effect would be lost.
    pub(crate) fn derive(&self, method: &MethodInfo, label: &str) -> Option<Key> {
        let lineage = self.parts.lineage.key();
        let key = nonce::hash(&[
            b"selfsame derived",
            &self.parts.principal.id().0.to_le_bytes(),
            &lineage.key.to_le_bytes(),
            &self.parts.method.interface.to_le_bytes(),
            &self.parts.method.ordinal.to_le_bytes(),
            &method.interface.to_le_bytes(),
            &method.ordinal.to_le_bytes(),
            label.as_bytes(),
        ]);
        self.parts.derived.claim(key).then_some(Key { key, ..lineage })
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("method", &self.parts.method.name)
            .field("principal", &self.parts.principal)
            .field("nonce", &self.parts.nonce)
            .field("attempt", &self.parts.attempt)
            .field("deadline", &self.parts.deadline)
            .finish_non_exhaustive()
    }
}
