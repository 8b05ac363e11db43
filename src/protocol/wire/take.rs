//! The schema's structs to entries.

use bytes::Bytes;
use capnp::text;

use crate::generated::wire as schema;
use crate::protocol::{CallId, Incarnation, Key, Refusal, Registration, Session, Stamp, WallTime};

use super::decode::{BadEntry, Problem, Source, Subject};
use super::mapping::*;
use super::{
    Ack, Answer, Call, Cancel, Contract, Entry, Event, Goodbye, Hello, Last, Numbers, Refused, Reply, Trace,
    Welcome,
};

/// An entry; `None` if it is of an unknown kind.
pub(super) fn take_entry(
    from: schema::entry::Reader<'_>,
    source: &mut Source<'_>,
) -> Option<Result<Entry, BadEntry>> {
    use schema::entry::Which;
    let body = Place { frame: from.get_frame(), offset: from.get_offset(), length: from.get_length() };
    let other = Subject::Other;
    Some(match from.which() {
        Err(_) | Ok(Which::Unknown(())) => return None,
        Ok(Which::Call(call)) => take_call(call, body, source),
        Ok(Which::Reply(reply)) => take_reply(reply, body, source),
        Ok(Which::Event(event)) => {
            take_event(event, body, source).map_err(|problem| problem.with(other("event")))
        }
        Ok(Which::Ping(number)) => Ok(Entry::Ping(number)),
        Ok(Which::Pong(number)) => Ok(Entry::Pong(number)),
        Ok(Which::Cancel(cancel)) => take_cancel(cancel).map_err(|problem| problem.with(other("cancel"))),
        Ok(Which::Ack(ack)) => take_ack(ack, source).map_err(|problem| problem.with(other("ack"))),
        Ok(Which::Hello(hello)) => take_hello(hello, source).map_err(|problem| problem.with(Subject::Hello)),
        Ok(Which::Welcome(welcome)) => {
            take_welcome(welcome, source).map_err(|problem| problem.with(other("welcome")))
        }
        Ok(Which::Goodbye(goodbye)) => {
            take_goodbye(goodbye, source).map_err(|problem| problem.with(other("goodbye")))
        }
        Ok(Which::Numbers(numbers)) => {
            take_numbers(numbers, source).map_err(|problem| problem.with(other("numbers")))
        }
    })
}

/// Where the header says that a body is.
#[derive(Clone, Copy)]
struct Place {
    frame: u16,
    offset: u32,
    length: u32,
}

impl Place {
    fn take(self, source: &mut Source<'_>) -> Result<Bytes, Problem> {
        source.bodies.take(self.frame, self.offset, self.length)
    }
}

/// Whose call, and which.
type Name = (Registration, CallId);

fn check_name((registration, id): Name) -> Result<(), Problem> {
    check_registration(registration)?;
    match id {
        CallId::Sequenced(0) => Err(Problem::malformed("number 0: numbers begin at 1")),
        CallId::Sequenced(_) | CallId::Keyed(_) => Ok(()),
    }
}

fn check_registration(registration: Registration) -> Result<(), Problem> {
    if registration == Registration(0) { Err(Problem::malformed("no registration")) } else { Ok(()) }
}

fn take_call(
    from: capnp::Result<schema::call::Reader<'_>>,
    body: Place,
    source: &mut Source<'_>,
) -> Result<Entry, BadEntry> {
    let nameless = |problem: Problem| problem.with(Subject::Other("call"));
    let from = from.map_err(|error| nameless(error.into()))?;
    let id = take_call_id!(schema::call::id, from.get_id()).map_err(|unknown| nameless(unknown.into()))?;
    let name = (Registration(take_halves!(from.get_registration())), id);
    take_named_call(from, name, body, source).map_err(|problem| {
        let (registration, id) = name;
        let (incarnation, attempt) = (Incarnation(from.get_incarnation()), from.get_attempt());
        problem.with(Subject::Call { registration, incarnation, id, attempt })
    })
}

fn take_named_call(
    from: schema::call::Reader<'_>,
    name: Name,
    body: Place,
    source: &mut Source<'_>,
) -> Result<Entry, Problem> {
    check_name(name)?;
    if from.get_attempt() == 0 {
        return Err(Problem::malformed("attempt 0: attempts begin at 1"));
    }
    Ok(Entry::Call(Call {
        registration: name.0,
        incarnation: Incarnation(from.get_incarnation()),
        first_stamp: Stamp(from.get_first_stamp()),
        id: name.1,
        interface: from.get_interface(),
        method: from.get_method(),
        retry: take_retry(from.get_retry()?),
        attempt: from.get_attempt(),
        time_left: take_duration(from.get_time_left()),
        issued: WallTime(from.get_issued()),
        acked_below: from.get_acked_below(),
        trace: take_trace!(from.get_trace()),
        metadata: if from.has_metadata() { take_metadata(from.get_metadata()?, source)? } else { Vec::new() },
        body: body.take(source)?,
    }))
}

fn take_metadata(
    from: capnp::struct_list::Reader<'_, schema::metadatum::Owned>,
    source: &mut Source<'_>,
) -> Result<Vec<(String, Bytes)>, Problem> {
    let limits = source.limits;
    if from.len() as usize > limits.metadata_count {
        let message = format!("metadata of {} names, the limit is {}", from.len(), limits.metadata_count);
        return Err(Problem::too_large(message));
    }
    source.items(from.len())?;
    let mut left = limits.metadata_bytes;
    let mut metadata = Vec::with_capacity(from.len() as usize);
    for datum in from.iter() {
        let (name, value) = (datum.get_name()?, datum.get_value()?);
        left = left.checked_sub(name.len() + value.len()).ok_or_else(|| {
            Problem::too_large(format!("metadata of more than {} bytes", limits.metadata_bytes))
        })?;
        let name = name.to_str().map_err(|_| Problem::malformed("a name of metadata is not UTF-8"))?;
        metadata.push((name.to_owned(), Bytes::copy_from_slice(value)));
    }
    Ok(metadata)
}

fn take_reply(
    from: capnp::Result<schema::reply::Reader<'_>>,
    body: Place,
    source: &mut Source<'_>,
) -> Result<Entry, BadEntry> {
    let nameless = |problem: Problem| problem.with(Subject::Other("reply"));
    let from = from.map_err(|error| nameless(error.into()))?;
    // The name is not checked: the refusal of a call with a bad one echoes it.
    let id = take_call_id!(schema::reply::id, from.get_id()).map_err(|unknown| nameless(unknown.into()))?;
    let registration = Registration(take_halves!(from.get_registration()));
    let attempt = from.get_attempt();
    let answer = take_answer(from, body, source)
        .map_err(|problem| problem.with(Subject::Reply { registration, id, attempt }))?;
    Ok(Entry::Reply(Reply { registration, id, attempt, replayed: from.get_replayed(), answer }))
}

fn take_answer(
    from: schema::reply::Reader<'_>,
    body: Place,
    source: &mut Source<'_>,
) -> Result<Answer, Problem> {
    use schema::reply::Which;
    Ok(match from.which()? {
        Which::Ok(()) => Answer::Ok(body.take(source)?),
        Which::Declined(fault) => Answer::Declined { fault, body: body.take(source)? },
        Which::Failed(why) => Answer::Failed(take_text(why, source)?),
        Which::Refused(refused) => Answer::Refused(take_refused(refused?, source)?),
    })
}

fn take_refused(from: schema::refused::Reader<'_>, source: &Source<'_>) -> Result<Refused, Problem> {
    let Some(refusal) = take_refusal(from.get_refusal()?) else {
        return Err(Problem::malformed("a refusal without a reason"));
    };
    Ok(Refused {
        refusal,
        ambiguous: from.get_ambiguous(),
        retry_after: Some(from.get_retry_after()).filter(|millis| *millis > 0).map(take_duration),
        message: take_text(from.get_message(), source)?,
    })
}

/// A text for people: cut at the limit, and read as well as it can be.
fn take_text(from: capnp::Result<text::Reader<'_>>, source: &Source<'_>) -> Result<String, Problem> {
    let bytes = from?.as_bytes();
    let cut = &bytes[..bytes.len().min(source.limits.text)];
    Ok(String::from_utf8_lossy(cut).into_owned())
}

fn take_event(
    from: capnp::Result<schema::event::Reader<'_>>,
    body: Place,
    source: &mut Source<'_>,
) -> Result<Entry, Problem> {
    let from = from?;
    Ok(Entry::Event(Event {
        publisher: from.get_publisher(),
        epoch: from.get_epoch(),
        sequence: from.get_sequence(),
        type_id: from.get_type(),
        trace: take_trace!(from.get_trace()),
        body: body.take(source)?,
    }))
}

fn take_numbers(
    from: capnp::Result<schema::numbers::Reader<'_>>,
    source: &mut Source<'_>,
) -> Result<Entry, Problem> {
    let from = from?;
    let list = from.get_last()?;
    source.items(list.len())?;
    let mut last = Vec::with_capacity(list.len() as usize);
    for number in list.iter() {
        let topic = Bytes::copy_from_slice(number.get_topic()?);
        last.push(Last { topic, epoch: number.get_epoch(), sequence: number.get_sequence() });
    }
    let list = from.get_denied()?;
    source.items(list.len())?;
    let mut denied = Vec::with_capacity(list.len() as usize);
    for topic in list.iter() {
        denied.push(take_text(topic, source)?);
    }
    Ok(Entry::Numbers(Numbers {
        publisher: from.get_publisher(),
        sync: from.get_sync(),
        last,
        more: from.get_more(),
        interval: take_duration(from.get_interval()),
        denied,
    }))
}

fn take_cancel(from: capnp::Result<schema::cancel::Reader<'_>>) -> Result<Entry, Problem> {
    let from = from?;
    let registration = Registration(take_halves!(from.get_registration()?));
    let id = take_call_id!(schema::call_id, from.get_id()?)?;
    check_name((registration, id))?;
    Ok(Entry::Cancel(Cancel { registration, id }))
}

fn take_ack(from: capnp::Result<schema::ack::Reader<'_>>, source: &mut Source<'_>) -> Result<Entry, Problem> {
    let from = from?;
    let registration = Registration(take_halves!(from.get_registration()?));
    check_registration(registration)?;
    let list = from.get_closed()?;
    source.items(list.len())?;
    let mut closed = Vec::with_capacity(list.len() as usize);
    for range in list.iter() {
        let (first, last) = (range.get_first(), range.get_last());
        if first > last {
            return Err(Problem::malformed("a range that ends before it begins"));
        }
        closed.push((first, last));
    }
    Ok(Entry::Ack(Ack { registration, below: from.get_below(), closed }))
}

fn take_hello(
    from: capnp::Result<schema::hello::Reader<'_>>,
    source: &mut Source<'_>,
) -> Result<Entry, Problem> {
    let from = from?;
    let resume = Registration(take_halves!(from.get_resume()?));
    Ok(Entry::Hello(Hello {
        id: from.get_id(),
        version: from.get_version(),
        session: Session(take_halves!(from.get_session()?)),
        resume: (resume != Registration(0)).then_some(resume),
        acked_below: from.get_acked_below(),
        contracts: take_contracts(from.get_contracts()?, source)?,
    }))
}

fn take_contracts(
    from: capnp::struct_list::Reader<'_, schema::contract::Owned>,
    source: &mut Source<'_>,
) -> Result<Vec<Contract>, Problem> {
    source.items(from.len())?;
    let mut contracts = Vec::with_capacity(from.len() as usize);
    for contract in from.iter() {
        let members = contract.get_shape()?;
        source.items(members.len())?;
        let shape = members.iter().map(|member| (member.get_id(), member.get_form())).collect();
        contracts.push(Contract {
            interface: contract.get_interface(),
            fingerprint: contract.get_fingerprint(),
            shape,
        });
    }
    Ok(contracts)
}

fn take_welcome(
    from: capnp::Result<schema::welcome::Reader<'_>>,
    source: &mut Source<'_>,
) -> Result<Entry, Problem> {
    let from = from?;
    let registration = Registration(take_halves!(from.get_registration()?));
    check_registration(registration)?;
    Ok(Entry::Welcome(Welcome {
        hello: from.get_hello(),
        version: from.get_version(),
        registration,
        incarnation: Incarnation(from.get_incarnation()),
        stamp: Stamp(from.get_stamp()),
        store: take_halves!(from.get_store()?),
        generation: from.get_generation(),
        level: take_level(from.get_level()?),
        ordinal: from.get_ordinal(),
        retention: take_duration(from.get_retention()),
        window: from.get_window(),
        heartbeat: take_duration(from.get_heartbeat()),
        body_limit: from.get_body_limit(),
        contracts: take_contracts(from.get_contracts()?, source)?,
    }))
}

fn take_goodbye(
    from: capnp::Result<schema::goodbye::Reader<'_>>,
    source: &Source<'_>,
) -> Result<Entry, Problem> {
    let from = from?;
    // A reason that is unknown here is a reason all the same.
    let refusal = from.get_refusal().map_or(Some(Refusal::Incompatible), take_refusal);
    Ok(Entry::Goodbye(Goodbye { reason: take_text(from.get_reason(), source)?, refusal }))
}
