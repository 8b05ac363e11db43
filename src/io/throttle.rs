//! Keeps a connection to its rates by not reading it for a while: the stranger's writes wait then, as at any slow reader.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep};

use crate::protocol::gate::{Bucket, Rate};

/// Bytes in one read of a connection that has a rate, so that it cannot go far into debt by one read.
const READ: usize = 16 * 1024;

/// The rates of one connection; by default it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub messages: Option<Rate>,
    pub bytes: Option<Rate>,
}

/// See the module. Takes no room where there is no rate.
pub(crate) struct Throttle(Option<Box<Limited>>);

struct Limited {
    origin: Instant,
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// Until it is out of debt.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    pub fn new(rates: Rates) -> Throttle {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, Default::default()));
        let (messages, bytes) = (bucket(rates.messages), bucket(rates.bytes));
        let limited = Limited { origin: Instant::now(), messages, bytes, pause: None };
        Throttle((limited.messages.is_some() || limited.bytes.is_some()).then(|| Box::new(limited)))
    }

    /// Ready when the connection may be read.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limited) = &mut self.0 else { return Poll::Ready(()) };
        if let Some(pause) = &mut limited.pause {
            ready!(pause.as_mut().poll(cx));
            limited.pause = None;
        }
        Poll::Ready(())
    }

    /// What one read may take.
    pub fn clip<'a>(&self, scratch: &'a mut [u8]) -> &'a mut [u8] {
        let most = if self.0.is_some() { READ.min(scratch.len()) } else { scratch.len() };
        &mut scratch[..most]
    }

    /// So much was read. Returns whether the connection now has to wait.
    pub fn charge(&mut self, messages: u64, bytes: usize) -> bool {
        let Some(limited) = &mut self.0 else { return false };
        let now = limited.origin.elapsed();
        let debt = |bucket: &mut Option<Bucket>, tokens| {
            let bucket = bucket.as_mut()?;
            bucket.charge(tokens, now);
            bucket.debt(now)
        };
        let waits = debt(&mut limited.messages, messages).max(debt(&mut limited.bytes, bytes as u64));
        limited.pause = waits.map(|wait| Box::pin(sleep(wait)));
        waits.is_some()
    }
}
