//! What it takes to be compared: to serve an echo, and to call one. Each file of `peers` implements it once.
//!
//! The contract is the same for all: a call carries a sequence number and some bytes, and the reply carries both back. How a library frames, matches and
//! schedules them is its own affair, and is what is measured.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::Result;
use crate::load::{Load, Meter};
use crate::rounds::Cell;

/// A future of a trait's method. It stays on the thread that made it.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Tells the parent where a server or a publisher is to be found, and which processes it consists of besides this one.
pub type Ready = Box<dyn FnOnce(String, Vec<u32>)>;

/// Something that carries calls.
pub trait Peer {
    /// Its name in tables and options.
    fn name(&self) -> &'static str;

    /// What exactly it is, in a line.
    fn about(&self) -> &'static str;

    /// Why it cannot run on this machine, and what to do.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Whether this is measured with it. By default everything, but for paced calls, which are about spin.
    fn takes_part(&self, cell: &Cell) -> bool {
        cell.pace.is_none()
    }

    /// Whether it is worth looking at what its connections occupy: not if they are those of another peer.
    fn has_own_connections(&self) -> bool {
        true
    }

    /// Serves until it is dropped.
    fn serve(&self, ready: Ready) -> Doing<'_, ()>;

    /// Makes one connection.
    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>>;

    /// How it publishes, if it can.
    fn events(&self) -> Option<&dyn Broadcast> {
        None
    }
}

/// One connection to an echo.
pub trait Client {
    /// Calls as the load says, and measures each call.
    fn drive(&mut self, load: Load) -> Doing<'_, Meter>;
}

/// Something that carries events. An event has a number and some bytes.
pub trait Broadcast {
    /// Publishes what the parent asks for, until it asks no more.
    fn publish(&self, ready: Ready, orders: Bursts) -> Doing<'_, ()>;

    /// Subscribes on a connection of its own and tells `tally` of each event, until it is dropped or the publisher is gone.
    fn subscribe(&self, endpoint: String, tally: crate::events::Tally) -> Doing<'_, ()>;
}

/// What a publisher is asked for, one after another.
pub type Bursts = tokio::sync::mpsc::UnboundedReceiver<crate::events::Burst>;

/// The number and the payload of a call, as peers without a schema send them: eight bytes, then the rest.
pub fn numbered(number: u64, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(8 + payload.len());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.into()
}

/// The number of such a message.
///
/// # Errors
/// If it is too short to have one.
pub fn number_of(message: &[u8]) -> Result<u64> {
    let number = message.first_chunk().ok_or("a message of fewer than eight bytes")?;
    Ok(u64::from_le_bytes(*number))
}
