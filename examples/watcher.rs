//! Watches the price of one symbol at a `ticker`. `cargo run --example watcher [endpoint [symbol]]`

#[path = "contracts/mod.rs"]
mod api;

use api::ticker::Price;
use selfsame::{Event, Subscriber};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or("tcp://127.0.0.1:7315".into());
    let symbol = arguments.next().unwrap_or("ACME".into());
    let subscriber = Subscriber::connect(&endpoint).await?;
    let mut prices = subscriber.subscribe::<Price>().key(&symbol).await?;
    while let Some(event) = prices.next().await {
        match event? {
            Event::Message(price) => println!("{symbol} {:.2}", price.get()?.get_cents() as f64 / 100.0),
            Event::Gap { missed, .. } => println!("missed {missed} prices of {symbol}"),
            Event::Disconnected { publisher } => println!("lost {publisher}"),
            Event::Reconnected { publisher } => println!("back at {publisher}"),
            _ => {}
        }
    }
    Ok(())
}
