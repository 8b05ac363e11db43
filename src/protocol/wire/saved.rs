//! A call at rest: what a client keeps so that it can ask again after it crashed. Not a message; it never travels.

use bytes::Bytes;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp::{serialize, struct_list};

use crate::generated::wire as schema;
use crate::protocol::{CallId, Key, WallTime};

use super::mapping::{put_halves, put_key, take_call_id, take_halves};
use super::put::put_metadata;
use super::size::metadata_words;
use super::{Segments, copied};

/// The version of the form in which calls are saved. Version 1 had no metadata.
const VERSION: u16 = 2;

/// Enough to send a keyed call again: the nonce alone is not, since a body that is built anew may come out in other bytes. (A sequenced
/// nonce ends with its client.)
#[derive(Clone, Debug, PartialEq)]
pub struct SavedCall {
    /// The nonce.
    pub key: Key,
    /// The interface's type id.
    pub interface: u64,
    /// The method's ordinal.
    pub method: u16,
    /// The parameters: a Cap'n Proto message in stream framing, 8-byte aligned.
    pub body: Bytes,
    /// Names and values.
    pub metadata: Vec<(String, Bytes)>,
}

/// Bytes that are no saved call of a version that this library knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a saved call: {0}")]
pub struct SavedCallError(String);

/// To be written to a file, a queue, a row.
pub fn encode_saved(call: &SavedCall) -> Vec<u8> {
    // The root with its pointer, the nonce, the body, the metadata: one segment.
    let words = 6 + 5 + call.body.len().div_ceil(8) + metadata_words(&call.metadata);
    let words = u32::try_from(words).expect("bodies are shorter than 4 GiB");
    let mut message = Builder::new(HeapAllocator::new().first_segment_words(words));
    let mut to = message.init_root::<schema::saved_call::Builder<'_>>();
    to.set_version(VERSION);
    put_key!(call.key, to.reborrow().init_id().init_keyed());
    to.set_interface(call.interface);
    to.set_method(call.method);
    to.set_body(&call.body);
    if !call.metadata.is_empty() {
        put_metadata(&call.metadata, to.init_metadata(call.metadata.len() as u32));
    }
    serialize::write_message_to_words(&message)
}

/// The call that was saved. The body is a copy of its own.
///
/// # Errors
/// If the bytes are cut, damaged, or of a later version.
pub fn decode_saved(bytes: &[u8]) -> Result<SavedCall, SavedCallError> {
    let bytes = copied(bytes);
    let options =
        ReaderOptions { traversal_limit_in_words: Some(2 * (bytes.len() / 8) + 64), nesting_limit: 8 };
    let message = Reader::new(Segments::new(&bytes[..], options).map_err(broken)?, options);
    let from = message.get_root::<schema::saved_call::Reader<'_>>().map_err(broken)?;
    if !(1..=VERSION).contains(&from.get_version()) {
        let why = format!("its version is {}, and this library knows 1 to {VERSION}", from.get_version());
        return Err(SavedCallError(why));
    }
    let id = take_call_id!(schema::call_id, from.get_id().map_err(broken)?)
        .map_err(|unknown| broken(unknown.into()))?;
    let CallId::Keyed(key) = id else {
        return Err(SavedCallError("its nonce is sequenced, and ended with its client".into()));
    };
    let body = copied(from.get_body().map_err(broken)?);
    let metadata = from.get_metadata().and_then(take_metadata).map_err(broken)?;
    Ok(SavedCall { key, interface: from.get_interface(), method: from.get_method(), body, metadata })
}

fn take_metadata(
    from: struct_list::Reader<'_, schema::metadatum::Owned>,
) -> capnp::Result<Vec<(String, Bytes)>> {
    let take = |datum: schema::metadatum::Reader<'_>| {
        Ok((datum.get_name()?.to_string()?, Bytes::copy_from_slice(datum.get_value()?)))
    };
    from.iter().map(take).collect()
}

fn broken(error: capnp::Error) -> SavedCallError {
    SavedCallError(error.to_string())
}
