//! What generated code begins from; the only module that it names. Not for hand-written code, to which nothing here is promised.
//!
//! Generated code is committed, and published in crates of contracts, so it outlives the release of `selfsame-build` that wrote it. Within a minor
//! version (`0.x`, later `x`) it stays good: it compiles with the `selfsame` of that release and of all later ones, means the same there, and the
//! names in it stay. What cannot keep to that waits for the next minor version, and is another format: see [`generated_code!`].

use std::future::Future;
use std::pin::Pin;

pub use capnp;

pub use crate::call::Call;
pub use crate::client::Channel;
pub use crate::error::{Error, Fault, SetupError, Untyped};
pub use crate::message::{Filled, Message};
pub use crate::protocol::RetryClass;
pub use crate::request::{Answer, Request};
pub use crate::server::{Incoming, Outgoing};

/// A method of a contract: what [`Call`] and [`Request`] are of. For code that works with any method:
///
/// ```
/// use selfsame::{Call, Error, Message, Method};
///
/// async fn audited<M: Method>(call: Call<M>) -> Result<Message<M::Results>, Error> {
///     let reply = call.await;
///     if let Err(error) = &reply {
///         eprintln!("{} failed, ran: {:?}", error.method(), error.outcome());
///     }
///     reply
/// }
/// ```
///
/// Generated code alone implements it, and nothing is promised to other implementations.
pub trait Method: Send + Sync + 'static {
    /// The struct of its parameters.
    type Params: capnp::traits::Owned;
    /// The struct of its result.
    type Results: capnp::traits::Owned;
    /// The struct of its typed no, or [`Untyped`].
    type Fault: 'static;
    #[doc(hidden)]
    const INTERFACE: &'static InterfaceInfo;
    #[doc(hidden)]
    const INFO: MethodInfo;
}

/// What the library knows of a method.
#[derive(Debug)]
pub struct MethodInfo {
    /// The type id of the interface that declares it.
    pub interface: u64,
    /// Its ordinal there.
    pub ordinal: u16,
    /// `Interface.method`, as the contract spells it.
    pub name: &'static str,
    /// What the contract promises about calling it again.
    pub retry: RetryClass,
}

/// What the library knows of an interface.
#[derive(Debug)]
pub struct InterfaceInfo {
    /// Its type id.
    pub id: u64,
    /// Its name, as the contract spells it.
    pub name: &'static str,
    /// A hash of all that its compiled schema says, down to the structs that its methods reach.
    pub fingerprint: u64,
    /// `(member, form)` pairs, sorted: two versions of a contract are compatible if each member that both have is of one form.
    pub shape: &'static [(u64, u64)],
    /// The methods that it declares itself.
    pub methods: &'static [&'static MethodInfo],
}

/// A struct that a method may raise as its typed no: any struct of a contract without type parameters.
pub trait Raised: capnp::traits::Owned {
    /// The struct's type id.
    const TYPE_ID: u64;
}

impl<F> Raised for F
where
    F: capnp::traits::Owned,
    for<'a> F::Reader<'a>: capnp::traits::HasTypeId,
{
    const TYPE_ID: u64 = <F::Reader<'static> as capnp::traits::HasTypeId>::TYPE_ID;
}

/// A struct of a contract that is published as an event: what a [`TopicPublisher`](crate::TopicPublisher) and a
/// [`Subscription`](crate::Subscription) are of.
///
/// Generated code alone implements it, and nothing is promised to other implementations.
pub trait Topic: capnp::traits::Owned {
    /// The name of its topic.
    const NAME: &'static str;
    #[doc(hidden)]
    const TYPE_ID: u64;
    /// What subscribers may filter by: the type of the field that the contract names as the key, `&str` if that is a text. Of a topic without
    /// a key it is [`Infallible`](std::convert::Infallible), of which there is no value.
    type Key<'k>;
    /// A key as it stands in the topic frame.
    #[doc(hidden)]
    fn key_bytes(key: Self::Key<'_>) -> Vec<u8>;
    /// The event's key, likewise, if the contract names a field.
    ///
    /// # Errors
    /// If the field cannot be read.
    #[doc(hidden)]
    fn key(event: Self::Reader<'_>) -> capnp::Result<Option<Vec<u8>>>;
}

/// A service: what a generated `…Server` is to a [`Server`](crate::Server).
///
/// Generated code alone implements it, and nothing is promised to other implementations.
pub trait Service: Send + Sync + 'static {
    /// The interfaces it serves: its own and those that it extends.
    #[doc(hidden)]
    fn interfaces(&self) -> &'static [&'static InterfaceInfo];
    /// Starts the handler of a call, or answers that there is none ([`Incoming::unknown_method`]).
    #[doc(hidden)]
    fn call(&self, call: Incoming) -> Answering;
}

/// A handler at work.
pub type Answering = Pin<Box<dyn Future<Output = Outgoing> + Send>>;

/// Runs the handler of method `M`: decodes the parameters, and turns the answer into bytes.
pub fn answer<M, H, F>(call: Incoming, handler: H) -> Answering
where
    M: Method,
    H: FnOnce(Request<M>) -> F + Send + 'static,
    F: Future<Output = Answer<M>> + Send + 'static,
{
    let request = match Request::<M>::new(call) {
        Ok(request) => request,
        Err(refused) => return Box::pin(std::future::ready(refused)),
    };
    Box::pin(async move { Outgoing::from_answer::<M>(handler(request).await) })
}

/// Generated code says its format with this in its first line. In another format than this library's it becomes an error that says so.
///
/// ```
/// selfsame::codegen::generated_code!(format 1);
/// ```
/// ```compile_fail
/// selfsame::codegen::generated_code!(format 2);
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! generated_code {
    (format 1) => {};
    (format $other:literal) => {
        compile_error!(concat!(
            "this code was generated in format ",
            $other,
            ", and this release of selfsame knows format 1: generate it anew, with the selfsame-build of the same minor version"
        ));
    };
}
pub use generated_code;

/// Includes the code that `selfsame_build::compile` wrote, as a module: `selfsame::include_contracts!(pub mod api);`
#[macro_export]
macro_rules! include_contracts {
    ($(#[$attribute:meta])* $visibility:vis mod $name:ident) => {
        $(#[$attribute])*
        $visibility mod $name {
            include!(concat!(env!("OUT_DIR"), "/selfsame_contracts.rs"));
        }
    };
}
