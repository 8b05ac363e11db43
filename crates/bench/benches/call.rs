//! A call over TCP on loopback, gate and deduplication included: one at a time, and 64 in flight; beside it the floor, a bare echo of 64
//! bytes over TCP between two threads.
//!
//! Client and server share a process here, so these figures compare one state of the code with another; they are not those of two machines.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use selfsame::Server;
use selfsame_bench::Echo;
use selfsame_bench::api::account::{AccountClient, AccountServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The address of a thread that sends back what it gets.
fn bare_echo() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 64];
            while stream.read_exact(&mut buffer).await.is_ok() {
                stream.write_all(&buffer).await.unwrap();
            }
        });
    });
    address
}

fn floor(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut stream = runtime.block_on(tokio::net::TcpStream::connect(bare_echo())).unwrap();
    stream.set_nodelay(true).unwrap();
    criterion.bench_function("bare echo, 1 in flight", |bencher| {
        let mut buffer = [7; 64];
        bencher.iter(|| {
            runtime.block_on(async {
                stream.write_all(&buffer).await.unwrap();
                stream.read_exact(&mut buffer).await.unwrap();
            });
        });
    });
}

fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let account = runtime.block_on(async {
        let server = Server::bind("tcp://127.0.0.1:0").await.unwrap().service(AccountServer::new(Echo));
        let endpoint = server.endpoint().to_string();
        tokio::spawn(server.serve());
        let account = AccountClient::connect(&endpoint).await.unwrap();
        account.version(|mut p| p.set_user("ann")).await.unwrap();
        account
    });
    let mut group = criterion.benchmark_group("call");
    for (name, in_flight) in [("1 in flight", 1), ("64 in flight", 64)] {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("once, {name}"), |bencher| {
            let call = || account.change_password(|mut p| p.set_user("ann"));
            bencher.iter(|| black_box(runtime.block_on(join_all((0..in_flight).map(|_| call())))));
        });
        group.bench_function(format!("readOnly, {name}"), |bencher| {
            let call = || account.version(|mut p| p.set_user("ann"));
            bencher.iter(|| black_box(runtime.block_on(join_all((0..in_flight).map(|_| call())))));
        });
    }
    group.finish();
}

criterion_group!(benches, floor, calls);
criterion_main!(benches);
