//! A call as its caller holds it: a lazy future with options.
//!
//! What happens to a call once it has started, attempt by attempt, is decided in `protocol::call`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::{Channel, Finished, Order, Ticket};
use crate::codegen::Method;
use crate::error::{Error, Inner, Kind, Outcome};
use crate::message::Message;
use crate::metadata::Metadata;
use crate::nonce::{self, Identity, Nonce};
use crate::protocol::RetryClass;
use crate::protocol::wire::{self, SavedCall};
use crate::request::Context;

/// One call: nothing is sent before it is polled for the first time, and dropping it cancels it.
///
/// It is `Unpin` and a plain `Future`, so it goes into `tokio::spawn`, `JoinSet` and `join_all` as it is. Its deadline counts from the
/// first poll. Without [`deadline`](Call::deadline) it is the channel's default: 5 seconds.
///
/// # Errors
/// [`Error`] says what went wrong, whether the call executed, and which nonce it had. To be able to ask again after an [`Outcome::Unknown`], make the call under a
/// keyed nonce from the start: [`nonce`](Call::nonce).
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<M: Method> {
    state: State,
    of: PhantomData<fn() -> M>,
}

enum State {
    Ready(Channel, Box<Order>),
    Started(Ticket),
    Done,
}

impl<M: Method> Call<M> {
    pub(crate) fn new(channel: Channel, body: capnp::Result<Bytes>) -> Self {
        let (body, mistake) = match body {
            Ok(body) => (body, None),
            Err(error) => (Bytes::new(), Some(format!("the parameters could not be filled in: {error}"))),
        };
        let order = Order {
            method: &M::INFO,
            interface: M::INTERFACE,
            body,
            patience: None,
            not_after: None,
            key: None,
            metadata: Metadata::default(),
            trace: None,
            mistake,
            begun: None,
        };
        Call { state: State::Ready(channel, Box::new(order)), of: PhantomData }
    }

    fn with(mut self, set: impl FnOnce(&mut Order)) -> Self {
        // Options are set before the first poll: afterwards the caller has only a pinned future and cannot get here.
        if let State::Ready(_, order) = &mut self.state {
            set(order);
        }
        self
    }

    /// How long to wait for the reply, over all attempts. Within a request, the request's own deadline holds if it is earlier.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|call| call.patience = Some(deadline))
    }

    /// Makes the call under a keyed nonce of yours, such as [`Nonce::random`], so that it stays one call although it is made again: by this process, whose first
    /// call ended as [`Outcome::Unknown`], or by its next life. The parameters have to be the same.
    ///
    /// A sequenced nonce, which an error of a call without a keyed one has, is refused as misuse: its call is over.
    pub fn nonce(self, nonce: Nonce) -> Self {
        self.with(|call| match nonce.0 {
            Identity::Keyed(key) => call.key = Some(key),
            Identity::Sequenced { .. } => {
                call.mistake = Some(format!(
                    "{nonce} is a sequenced nonce, whose call is over; a call can be asked about again only if it was made under a keyed nonce from the start, \
                     by .nonce(Nonce::random()) or .nonce(Nonce::keyed(key, issued))"
                ));
            }
        })
    }

    /// Sends a name and a value along, for the handler's [`metadata`](Context::metadata). May be given several times. Of a name that the
    /// [channel](crate::ChannelBuilder::metadata) gives as well, only the call's own are sent.
    pub fn metadata(self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.with(|call| call.metadata.push(name, value))
    }

    /// Makes the call part of a trace that began elsewhere: a W3C `traceparent`. One that is invalid is ignored, as the recommendation says.
    pub fn traceparent(self, traceparent: &str) -> Self {
        self.with(|call| call.trace = crate::trace::from_traceparent(traceparent).or(call.trace))
    }

    /// Makes the call a part of the request that a handler is working on: it inherits the deadline and the trace, and a `once` call derives its
    /// nonce from the request's. So when the handler runs again, this call is not a second one but the same.
    ///
    /// Two equal calls within one request would have one nonce; the second is refused as misuse. Tell them apart with
    /// [`within_as`](Call::within_as).
    ///
    /// An error of such a call that `?` turns into a fault makes the handler's answer `failed`, which is final. If all that the handler has done are
    /// calls within the request, running it again is safe, and `.map_err(Fault::interrupted)?` says so.
    pub fn within(self, request: &Context) -> Self {
        self.within_as(request, "")
    }

    /// As [`within`](Call::within), with a label that tells this call from others to the same method, such as the number of an order line.
    /// It must be the same whenever the handler runs again.
    pub fn within_as(self, request: &Context, label: impl AsRef<str>) -> Self {
        let label = label.as_ref();
        self.with(|call| {
            call.not_after = Some(request.deadline());
            call.trace = Some(crate::trace::child(request.trace()));
            if M::INFO.retry != RetryClass::Once {
                return;
            }
            match request.derive(&M::INFO, label) {
                Some(key) => call.key = Some(key),
                None => {
                    call.mistake = Some(format!(
                        "a second call within one {} under the label {label:?} would be taken for the first; \
                         give each its own label: .within_as(&request, label)",
                        request.method()
                    ));
                }
            }
        })
    }

    /// The call as bytes, to be saved before it is first awaited; [`from_bytes`](Call::from_bytes) makes the same call again after a crash.
    /// A call without a keyed nonce gets one here: [`Nonce::random`].
    ///
    /// # Errors
    /// Misuse, if the call has a mistake or has started.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, Error> {
        let State::Ready(_, call) = &mut self.state else {
            return Err(Error::misuse(M::INFO.name, "the call has started; save it before the first await"));
        };
        if let Some(mistake) = &call.mistake {
            return Err(Error::misuse(M::INFO.name, mistake.clone()));
        }
        let key = *call.key.get_or_insert_with(nonce::random_key);
        Ok(wire::encode_saved(&SavedCall {
            key,
            interface: M::INFO.interface,
            method: M::INFO.ordinal,
            body: call.body.clone(),
            metadata: call.metadata.0.clone(),
        }))
    }

    /// Makes a call again that [`to_bytes`](Call::to_bytes) saved: the same nonce, parameters and metadata. Its deadline and its trace are not saved,
    /// nor is the metadata of its channel: it takes that of the new one.
    ///
    /// # Errors
    /// Misuse, if the bytes are no saved call, one of a later version of this library, or one of another method.
    pub fn from_bytes(channel: &Channel, saved: &[u8]) -> Result<Self, Error> {
        let misuse = |why: String| Error::misuse(M::INFO.name, why);
        let saved = wire::decode_saved(saved).map_err(|error| misuse(error.to_string()))?;
        if (saved.interface, saved.method) != (M::INFO.interface, M::INFO.ordinal) {
            return Err(misuse(format!(
                "the saved call is of method {} of interface {:#x}, not of this one",
                saved.method, saved.interface
            )));
        }
        Ok(Call::new(channel.clone(), Ok(saved.body)).with(|call| {
            call.key = Some(saved.key);
            call.metadata = Metadata(saved.metadata);
        }))
    }

    /// The nonce, if it is known before the first send: a keyed one.
    pub fn known_nonce(&self) -> Option<Nonce> {
        match &self.state {
            State::Ready(_, call) => call.key.map(|key| Nonce(Identity::Keyed(key))),
            State::Started(ticket) => ticket.key().map(|key| Nonce(Identity::Keyed(key))),
            State::Done => None,
        }
    }
}

/// Hands a call over to its channel.
fn start(channel: Channel, mut order: Box<Order>) -> Result<Ticket, Error> {
    let method = order.method.name;
    if let Some(mistake) = order.mistake {
        return Err(Error::misuse(method, mistake));
    }
    order.metadata.fill_in(channel.metadata());
    let limits = wire::Limits::default();
    let bytes = order.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if order.metadata.len() > limits.metadata_count || bytes > limits.metadata_bytes {
        let (count, most, most_bytes) = (order.metadata.len(), limits.metadata_count, limits.metadata_bytes);
        let why =
            format!("{count} metadata of {bytes} bytes; a call takes {most} of {most_bytes} bytes together");
        return Err(Error::misuse(method, why));
    }
    let patience = order.patience.unwrap_or(channel.default_deadline()).min(LONGEST_DEADLINE);
    let now = Instant::now();
    let own = now + patience;
    let deadline = order.not_after.map_or(own, |outer| own.min(outer));
    channel.submit(order, deadline, now)
}

/// What the wire's 32 bits of milliseconds can say, a little less than 50 days.
pub(crate) const LONGEST_DEADLINE: Duration = Duration::from_millis(u32::MAX as u64);

impl<M: Method> Future for Call<M> {
    type Output = Result<Message<M::Results>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let State::Ready(..) = &self.state {
            let State::Ready(channel, order) = std::mem::replace(&mut self.state, State::Done) else {
                unreachable!()
            };
            match start(channel, order) {
                Ok(ticket) => self.state = State::Started(ticket),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let State::Started(ticket) = &mut self.state else {
            panic!("a call was polled after it had finished");
        };
        let finished = std::task::ready!(ticket.poll_finished(cx));
        self.state = State::Done;
        Poll::Ready(conclude::<M>(finished))
    }
}

fn conclude<M: Method>(finished: Finished) -> Result<Message<M::Results>, Error> {
    let Finished { result, nonce, attempts } = finished;
    let failed = |kind, outcome, message: String| {
        let method = M::INFO.name;
        let inner = Inner { kind, outcome, method, nonce, attempts, retry_after: None, message, fault: None };
        Error::new(inner)
    };
    match result {
        Ok(body) => Message::from_bytes(body).map_err(|error| {
            // The call ran; only its reply cannot be read.
            failed(Kind::Failed, Outcome::Yes, format!("the reply is not a valid message: {error}"))
        }),
        Err(failure) => Err(Error::new(Inner {
            kind: failure.kind,
            outcome: failure.outcome,
            method: M::INFO.name,
            nonce,
            attempts,
            retry_after: failure.retry_after,
            message: failure.message,
            fault: failure.fault,
        })),
    }
}

impl<M: Method> fmt::Debug for Call<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ready(..) => "ready",
            State::Started(_) => "started",
            State::Done => "done",
        };
        write!(f, "Call({}, {state})", M::INFO.name)
    }
}
