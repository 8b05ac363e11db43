//! What deduplication costs a call: admit, complete, and the acknowledgement that rides on a later call. The figure to beat is RIFL's 530 ns
//! (Lee et al., SOSP 2015); and it must not depend on the number of sessions.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use selfsame::protocol::dedup::{Admission, Attempt, Dedup, Identity, Limits, Minted, Now, Terminal};
use selfsame::protocol::wire::{Call, Hello};
use selfsame::protocol::{
    CallId, ConnectionId, Key, Moment, PrincipalId, Registration, RetryClass, Stamp, WallTime,
};
use selfsame_bench::call;

/// Calls of one session that are not acknowledged yet: what the other benches have in flight.
const IN_FLIGHT: u64 = 64;
/// The same for all sessions together, below the limit of records.
const IN_FLIGHT_IN_ALL: u64 = 100_000;
const NOW: Now = Now { moment: Moment::from_secs(1), wall: WallTime(1_000_000) };

fn server(sessions: u64) -> (Dedup, Vec<Registration>) {
    let mut dedup = Dedup::new(Identity::default(), Limits::default());
    let hello = Hello { version: 1, ..Hello::default() };
    let register = |n: u64| {
        // An odd multiplier spreads the numbers as dice would.
        let random = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let minted = Minted { registration: Registration(random), stamp: Stamp(n) };
        dedup.hello(&hello, PrincipalId::ANYONE, minted, NOW).expect("room for a session").registration
    };
    let registrations = (1..=sessions).map(register).collect();
    (dedup, registrations)
}

fn admit(dedup: &mut Dedup, call: &Call) -> Admission {
    let (principal, from, class) = (PrincipalId::ANYONE, ConnectionId(1), RetryClass::Once);
    dedup.admit(&Attempt { call, digest: 7, principal, from, class }, None, NOW)
}

fn once(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit, complete, acknowledge");
    for sessions in [1, 100, 10_000] {
        let in_flight = IN_FLIGHT.min(IN_FLIGHT_IN_ALL / sessions);
        let (mut dedup, registrations) = server(sessions);
        let (mut at, mut number, mut deliveries) = (0, 1u64, Vec::new());
        let reply = Bytes::from_static(&[0; 64]);
        group.bench_function(BenchmarkId::from_parameter(format!("{sessions} sessions")), |b| {
            b.iter(|| {
                let acked = number.saturating_sub(in_flight);
                let call = call(registrations[at], CallId::Sequenced(number), acked, Bytes::new());
                let Admission::Execute(execution) = admit(&mut dedup, &call) else { panic!("it should run") };
                dedup.complete(execution, Terminal::Ok(reply.clone()), NOW, &mut deliveries);
                black_box(&deliveries);
                deliveries.clear();
                at += 1;
                if at == registrations.len() {
                    (at, number) = (0, number + 1);
                }
            });
        });
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    let (mut dedup, registrations) = server(1);
    let mut deliveries = Vec::new();
    let first = call(registrations[0], CallId::Sequenced(1), 0, Bytes::new());
    let Admission::Execute(execution) = admit(&mut dedup, &first) else { panic!("it should run") };
    dedup.complete(execution, Terminal::Ok(Bytes::from_static(&[0; 64])), NOW, &mut deliveries);
    c.bench_function("replay", |b| b.iter(|| black_box(admit(&mut dedup, &first))));
}

fn keyed(c: &mut Criterion) {
    c.bench_function("a thousand keyed calls", |b| {
        b.iter_batched(
            || server(1),
            |(mut dedup, registrations)| {
                let mut deliveries = Vec::new();
                for n in 0..1_000u128 {
                    let (issued, expiry) = (WallTime(500_000), WallTime(2_000_000));
                    let key = Key { key: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), issued, expiry };
                    let call = call(registrations[0], CallId::Keyed(key), 0, Bytes::new());
                    let Admission::Execute(execution) = admit(&mut dedup, &call) else {
                        panic!("it should run")
                    };
                    let reply = Terminal::Ok(Bytes::from_static(&[0; 64]));
                    dedup.complete(execution, reply, NOW, &mut deliveries);
                    deliveries.clear();
                }
                dedup
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, once, replay, keyed);
criterion_main!(benches);
