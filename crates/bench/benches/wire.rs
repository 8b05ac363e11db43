//! What a message costs to write and to read: calls of 64 bytes, one and 64 a message, and one body that travels uncopied.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use selfsame::protocol::wire::{Call, Encoder, Limits, decode};
use selfsame::protocol::{CallId, Registration};
use selfsame_bench::{call, message};

fn wire(criterion: &mut Criterion) {
    let limits = Limits::default();
    for (name, calls, length) in [("1 call", 1, 64), ("64 calls", 64, 64), ("1 call of 64 KiB", 1, 64 * 1024)]
    {
        let body = Bytes::from(vec![1; length]);
        let numbered = |number| call(Registration(7), CallId::Sequenced(number), number, body.clone());
        let entries: Vec<Call> = (1..=calls).map(numbered).collect();
        let mut encoder = Encoder::new(limits);
        let frames = message(&mut encoder, entries.clone());
        // As a socket hands them out: after a frame's two bytes of flags and length.
        let received: Vec<Bytes> =
            frames.iter().map(|frame| Bytes::from([&[0, 0], &frame[..]].concat()).slice(2..)).collect();

        let mut group = criterion.benchmark_group("wire");
        group.throughput(Throughput::Elements(calls));
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter_batched(
                || entries.clone(),
                |calls| message(&mut encoder, calls),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| decode(black_box(&received), &limits).expect("a valid message"));
        });
    }
}

criterion_group!(benches, wire);
criterion_main!(benches);
