//! Entries to the schema's structs.

use bytes::Bytes;

use crate::generated::wire as schema;
use crate::protocol::CallId;

use super::mapping::*;
use super::{Ack, Answer, Call, Contract, Entry, Event, Hello, Numbers, Reply, Welcome};

pub(super) fn put_entry(entry: &Entry, mut to: schema::entry::Builder<'_>) {
    match entry {
        Entry::Hello(hello) => put_hello(hello, to.init_hello()),
        Entry::Welcome(welcome) => put_welcome(welcome, to.init_welcome()),
        Entry::Call(call) => put_call(call, to.init_call()),
        Entry::Reply(reply) => put_reply(reply, to.init_reply()),
        Entry::Cancel(cancel) => {
            let mut to = to.init_cancel();
            put_halves!(cancel.registration.0, to.reborrow().init_registration());
            put_call_id!(&cancel.id, to.init_id());
        }
        Entry::Ack(ack) => put_ack(ack, to.init_ack()),
        Entry::Ping(number) => to.set_ping(*number),
        Entry::Pong(number) => to.set_pong(*number),
        Entry::Goodbye(goodbye) => {
            let mut to = to.init_goodbye();
            to.set_reason(&goodbye.reason);
            to.set_refusal(put_refusal(goodbye.refusal));
        }
        Entry::Event(event) => put_event(event, to.init_event()),
        Entry::Numbers(numbers) => put_numbers(numbers, to.init_numbers()),
    }
}

fn put_hello(hello: &Hello, mut to: schema::hello::Builder<'_>) {
    to.set_id(hello.id);
    to.set_version(hello.version);
    put_halves!(hello.session.0, to.reborrow().init_session());
    if let Some(resume) = hello.resume {
        put_halves!(resume.0, to.reborrow().init_resume());
    }
    to.set_acked_below(hello.acked_below);
    if !hello.contracts.is_empty() {
        put_contracts(&hello.contracts, to.init_contracts(count(hello.contracts.len())));
    }
}

fn put_contracts(contracts: &[Contract], mut to: capnp::struct_list::Builder<'_, schema::contract::Owned>) {
    for (at, contract) in contracts.iter().enumerate() {
        let mut to = to.reborrow().get(count(at));
        to.set_interface(contract.interface);
        to.set_fingerprint(contract.fingerprint);
        if !contract.shape.is_empty() {
            let mut shape = to.init_shape(count(contract.shape.len()));
            for (at, (id, form)) in contract.shape.iter().enumerate() {
                let mut member = shape.reborrow().get(count(at));
                member.set_id(*id);
                member.set_form(*form);
            }
        }
    }
}

fn put_welcome(welcome: &Welcome, mut to: schema::welcome::Builder<'_>) {
    to.set_hello(welcome.hello);
    to.set_version(welcome.version);
    put_halves!(welcome.registration.0, to.reborrow().init_registration());
    to.set_incarnation(welcome.incarnation.0);
    to.set_stamp(welcome.stamp.0);
    put_halves!(welcome.store, to.reborrow().init_store());
    to.set_generation(welcome.generation);
    to.set_level(put_level(welcome.level));
    to.set_ordinal(welcome.ordinal);
    to.set_retention(put_duration(welcome.retention));
    to.set_window(welcome.window);
    to.set_heartbeat(put_duration(welcome.heartbeat));
    to.set_body_limit(welcome.body_limit);
    if !welcome.contracts.is_empty() {
        put_contracts(&welcome.contracts, to.init_contracts(count(welcome.contracts.len())));
    }
}

fn put_call(call: &Call, mut to: schema::call::Builder<'_>) {
    put_halves!(call.registration.0, to.reborrow().init_registration());
    to.set_incarnation(call.incarnation.0);
    to.set_first_stamp(call.first_stamp.0);
    put_call_id!(&call.id, to.reborrow().init_id());
    to.set_interface(call.interface);
    to.set_method(call.method);
    to.set_retry(put_retry(call.retry));
    to.set_attempt(call.attempt);
    to.set_time_left(put_duration(call.time_left));
    to.set_issued(call.issued.0);
    to.set_acked_below(call.acked_below);
    if let Some(trace) = &call.trace {
        put_trace!(trace, to.reborrow().init_trace());
    }
    if !call.metadata.is_empty() {
        put_metadata(&call.metadata, to.init_metadata(count(call.metadata.len())));
    }
}

/// To a list of as many.
pub(super) fn put_metadata(
    metadata: &[(String, Bytes)],
    mut to: capnp::struct_list::Builder<'_, schema::metadatum::Owned>,
) {
    for (at, (name, value)) in metadata.iter().enumerate() {
        let mut to = to.reborrow().get(count(at));
        to.set_name(name);
        to.set_value(value);
    }
}

fn put_reply(reply: &Reply, mut to: schema::reply::Builder<'_>) {
    put_halves!(reply.registration.0, to.reborrow().init_registration());
    put_call_id!(&reply.id, to.reborrow().init_id());
    to.set_attempt(reply.attempt);
    to.set_replayed(reply.replayed);
    match &reply.answer {
        Answer::Ok(_) => to.set_ok(()),
        Answer::Declined { fault, .. } => to.set_declined(*fault),
        Answer::Failed(text) => to.set_failed(text),
        Answer::Refused(refused) => {
            let mut to = to.init_refused();
            to.set_refusal(put_refusal(Some(refused.refusal)));
            to.set_ambiguous(refused.ambiguous);
            to.set_retry_after(refused.retry_after.map_or(0, put_duration));
            to.set_message(&refused.message);
        }
    }
}

fn put_ack(ack: &Ack, mut to: schema::ack::Builder<'_>) {
    put_halves!(ack.registration.0, to.reborrow().init_registration());
    to.set_below(ack.below);
    if !ack.closed.is_empty() {
        let mut list = to.init_closed(count(ack.closed.len()));
        for (at, (first, last)) in ack.closed.iter().enumerate() {
            let mut to = list.reborrow().get(count(at));
            to.set_first(*first);
            to.set_last(*last);
        }
    }
}

fn put_event(event: &Event, mut to: schema::event::Builder<'_>) {
    to.set_publisher(event.publisher);
    to.set_epoch(event.epoch);
    to.set_sequence(event.sequence);
    to.set_type(event.type_id);
    if let Some(trace) = &event.trace {
        put_trace!(trace, to.init_trace());
    }
}

fn put_numbers(numbers: &Numbers, mut to: schema::numbers::Builder<'_>) {
    to.set_publisher(numbers.publisher);
    to.set_sync(numbers.sync);
    to.set_more(numbers.more);
    to.set_interval(put_duration(numbers.interval));
    if !numbers.last.is_empty() {
        let mut list = to.reborrow().init_last(count(numbers.last.len()));
        for (at, last) in numbers.last.iter().enumerate() {
            let mut to = list.reborrow().get(count(at));
            to.set_topic(&last.topic);
            to.set_epoch(last.epoch);
            to.set_sequence(last.sequence);
        }
    }
    if !numbers.denied.is_empty() {
        let mut list = to.init_denied(count(numbers.denied.len()));
        for (at, topic) in numbers.denied.iter().enumerate() {
            list.set(count(at), topic);
        }
    }
}

/// The length, or a place, of a list.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).expect("lists are in the header, whose limit is a u32 of bytes")
}
