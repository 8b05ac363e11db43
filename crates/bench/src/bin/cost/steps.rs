//! The steps of a call that are counted, with their bounds: a tenth or so above what they were when they were last looked at.

use std::hint::black_box;
use std::ops::RangeInclusive;

use bytes::Bytes;
use selfsame::protocol::dedup::{Admission, Attempt, Dedup, Identity, Limits, Minted, Now, Terminal};
use selfsame::protocol::wire::{self, Call, Encoder, Hello};
use selfsame::protocol::{
    CallId, ConnectionId, Moment, PrincipalId, Registration, RetryClass, Stamp, WallTime,
};
use selfsame::{Channel, Spin};
use selfsame_bench::api::account::{AccountClient, AccountServer};
use selfsame_bench::{Echo, call, message};

/// A step, and what one call may cost in it.
pub struct Step {
    pub name: &'static str,
    /// Makes it for so many calls.
    pub make: fn(u64),
    pub instructions: f64,
    pub allocations: f64,
}

pub const STEPS: &[Step] = &[
    Step { name: "encode", make: encode, instructions: 1_350.0, allocations: 0.2 },
    // A frame of small bodies is always copied, one allocation a message: as it came it may hold a read buffer many times its length.
    Step { name: "decode", make: decode, instructions: 1_200.0, allocations: 0.15 },
    Step { name: "admit", make: admit, instructions: 4_200.0, allocations: 1.3 },
    // Three threads: what they do depends a little on who is awake, 47,000 to 49,000.
    Step { name: "dispatch", make: dispatch, instructions: 53_000.0, allocations: 20.0 },
];

/// Calls of one message, and calls in flight.
const TOGETHER: u64 = 32;

/// Numbered calls with this body, each of which acknowledges what is no longer in flight.
fn numbered(numbers: RangeInclusive<u64>, body: &'static [u8]) -> impl Iterator<Item = Call> {
    numbers.map(move |number| {
        let acked_below = number.saturating_sub(TOGETHER);
        call(Registration(7), CallId::Sequenced(number), acked_below, Bytes::from_static(body))
    })
}

/// Calls of 64 bytes to messages.
fn encode(calls: u64) {
    let mut encoder = Encoder::new(wire::Limits::default());
    for _ in 0..calls / TOGETHER {
        black_box(message(&mut encoder, numbered(1..=TOGETHER, &[1; 64])));
    }
}

/// Messages to calls.
fn decode(calls: u64) {
    let limits = wire::Limits::default();
    let message = message(&mut Encoder::new(limits), numbered(1..=TOGETHER, &[1; 64]));
    for _ in 0..calls / TOGETHER {
        black_box(wire::decode(black_box(&message), &limits).expect("a valid message"));
    }
}

/// What deduplication does for a call: admit it, keep its reply, forget it when a later call acknowledges it.
fn admit(calls: u64) {
    let now = Now { moment: Moment::from_secs(1), wall: WallTime(1_000_000) };
    let (principal, from, class) = (PrincipalId::ANYONE, ConnectionId(1), RetryClass::Once);
    let mut dedup = Dedup::new(Identity::default(), Limits::default());
    let minted = Minted { registration: Registration(7), stamp: Stamp(9) };
    let hello = Hello { version: 1, ..Hello::default() };
    dedup.hello(&hello, principal, minted, now).expect("room for a session");
    let (reply, mut deliveries) = (Bytes::from_static(&[0; 64]), Vec::new());
    for call in numbered(1..=calls, &[]) {
        let attempt = Attempt { call: &call, digest: 7, principal, from, class };
        let Admission::Execute(execution) = dedup.admit(&attempt, None, now) else { panic!("it should run") };
        dedup.complete(execution, Terminal::Ok(reply.clone()), now, &mut deliveries);
        black_box(&deliveries);
        deliveries.clear();
    }
}

/// Whole calls within this process, from the caller through the handler and back, without sockets.
fn dispatch(calls: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // A thread that spins would be counted.
        let channel = Channel::builder().spin(Spin::Off).local(AccountServer::new(Echo));
        let account = AccountClient::new(channel);
        for _ in 0..calls / TOGETHER {
            let calls = (0..TOGETHER).map(|_| account.change_password(|mut p| p.set_user("ann")));
            for reply in futures::future::join_all(calls).await {
                reply.expect("a reply");
            }
        }
    });
}
