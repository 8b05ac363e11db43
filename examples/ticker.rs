//! Publishes prices. `cargo run --example ticker [endpoint]`, then any number of `watcher`s.

#[path = "contracts/mod.rs"]
mod api;

use std::time::Duration;

use api::ticker::Price;
use selfsame::Publisher;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:7315".into());
    let publisher = Publisher::bind(endpoint).await?;
    println!("listening on {}", publisher.endpoint());
    let prices = publisher.topic::<Price>();
    let mut often = tokio::time::interval(Duration::from_millis(100));
    for tick in 0_u64.. {
        tokio::select! {
            _ = often.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        for (symbol, start) in [("ACME", 12_000), ("ACMEX", 400), ("ZZZ", 98_000)] {
            // A price that wanders up and down without ever leaving its place.
            let cents = start + (tick * 37 + start) % 101;
            let event = prices.publish(|mut e| {
                e.set_symbol(symbol);
                e.set_cents(cents);
            });
            event.await?;
        }
    }
    Ok(())
}
