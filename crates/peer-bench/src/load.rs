//! How calls are made: so many in flight, for so long; and what each of them took.
//!
//! Two ways, for two kinds of library. A socket is given messages and gives back others: [`windowed`]. An RPC library gives a future for each call: [`calls`].
//! Both cost some 50 ns a call, for all peers alike.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, TryStreamExt};
use hdrhistogram::Histogram;
use tokio::time::{Interval, interval};

use crate::Result;

/// What a client is asked to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Calls under way at once.
    pub in_flight: usize,
    /// What each carries.
    pub payload: Bytes,
    /// When the last one is begun, seen from the first.
    pub length: Duration,
    /// Calls a second, if not as many as possible.
    pub pace: Option<u32>,
    /// Tasks that the calls are spread over: one for each worker of the runtime.
    pub lanes: usize,
}

impl Load {
    fn ticks(&self) -> Option<Interval> {
        self.pace.map(|rate| interval(Duration::from_secs(1) / rate))
    }
}

/// What calls took.
#[derive(Debug)]
pub struct Meter {
    /// In nanoseconds.
    pub times: Histogram<u64>,
    /// When the first call began.
    pub began: Instant,
    /// When the last one ended.
    pub ended: Instant,
}

impl Meter {
    fn start() -> Result<Self> {
        let now = Instant::now();
        // From a nanosecond to a minute, within a thousandth.
        Ok(Meter { times: Histogram::new_with_bounds(1, 60_000_000_000, 3)?, began: now, ended: now })
    }

    fn record(&mut self, began: Instant, ended: Instant) {
        self.times.saturating_record((ended - began).as_nanos() as u64);
        self.ended = self.ended.max(ended);
    }

    fn add(&mut self, other: &Meter) -> Result<()> {
        self.times.add(&other.times)?;
        self.began = self.began.min(other.began);
        self.ended = self.ended.max(other.ended);
        Ok(())
    }

    /// From the first call's begin to the last one's end.
    pub fn elapsed(&self) -> Duration {
        self.ended - self.began
    }
}

/// A connection that takes messages and gives back their echoes, in order.
pub trait Pipe {
    /// Takes one more. May keep it until [`echoes`](Pipe::echoes) is called.
    fn submit(&mut self, number: u64, payload: &Bytes) -> Result<()>;

    /// Sends what is kept, waits for one echo at least, and adds the numbers of all that are there.
    fn echoes(&mut self, numbers: &mut Vec<u64>) -> impl Future<Output = Result<()>>;
}

/// Keeps a pipe filled.
pub async fn windowed(load: &Load, pipe: &mut impl Pipe) -> Result<Meter> {
    let mut ticks = load.ticks();
    let mut meter = Meter::start()?;
    let end = meter.began + load.length;
    let (mut next, mut expected) = (0, 0);
    let mut sent = VecDeque::with_capacity(load.in_flight);
    let mut numbers = Vec::with_capacity(load.in_flight);
    let mut now = meter.began;
    while now < end || !sent.is_empty() {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
            now = Instant::now();
        }
        while now < end && sent.len() < load.in_flight {
            pipe.submit(next, &load.payload)?;
            sent.push_back(now);
            next += 1;
        }
        if sent.is_empty() {
            break;
        }
        pipe.echoes(&mut numbers).await?;
        now = Instant::now();
        for number in numbers.drain(..) {
            if number != expected {
                return Err(format!("echo {number} came instead of {expected}").into());
            }
            expected += 1;
            meter.record(sent.pop_front().ok_or("an echo that nobody asked for")?, now);
        }
    }
    Ok(meter)
}

/// Makes calls in one task for each lane.
pub async fn calls<C, F>(load: &Load, call: C) -> Result<Meter>
where
    C: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let lanes = load.lanes.clamp(1, load.in_flight);
    if lanes == 1 && load.lanes == 1 {
        return lane(load, load.in_flight, call).await;
    }
    let mut tasks = Vec::new();
    for number in 0..lanes {
        let (load, call) = (load.clone(), call.clone());
        let share = (load.in_flight + number) / lanes;
        tasks.push(tokio::spawn(async move { lane(&load, share, call).await }));
    }
    let mut meter = Meter::start()?;
    for task in tasks {
        meter.add(&task.await??)?;
    }
    Ok(meter)
}

/// Makes calls in this task.
pub async fn lane<C, F>(load: &Load, in_flight: usize, call: C) -> Result<Meter>
where
    C: Fn(u64) -> F,
    F: Future<Output = Result<()>>,
{
    let meter = Arc::new(Mutex::new(Meter::start()?));
    let end = Instant::now() + load.length;
    // As many futures as calls in flight, each of which calls again and again: none is allocated while it is measured.
    let callers: FuturesUnordered<_> = (0..in_flight as u64)
        .map(|first| caller(load.ticks(), first, in_flight as u64, end, &call, meter.clone()))
        .collect();
    callers.try_collect::<()>().await?;
    let meter = Arc::into_inner(meter).ok_or("a caller is still there")?;
    Ok(meter.into_inner().unwrap_or_else(PoisonError::into_inner))
}

async fn caller<C, F>(
    mut ticks: Option<Interval>,
    first: u64,
    step: u64,
    end: Instant,
    call: &C,
    meter: Arc<Mutex<Meter>>,
) -> Result<()>
where
    C: Fn(u64) -> F,
    F: Future<Output = Result<()>>,
{
    let mut number = first;
    loop {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let began = Instant::now();
        if began >= end {
            return Ok(());
        }
        call(number).await?;
        meter.lock().unwrap_or_else(PoisonError::into_inner).record(began, Instant::now());
        number += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives back what it was given, a few at a time.
    #[derive(Default)]
    struct Mirror(VecDeque<u64>);

    impl Pipe for Mirror {
        fn submit(&mut self, number: u64, _: &Bytes) -> Result<()> {
            self.0.push_back(number);
            Ok(())
        }

        async fn echoes(&mut self, numbers: &mut Vec<u64>) -> Result<()> {
            let few = self.0.len().min(3);
            numbers.extend(self.0.drain(..few));
            Ok(())
        }
    }

    fn load(in_flight: usize, lanes: usize) -> Load {
        let payload = Bytes::from_static(b"payload");
        Load { in_flight, payload, length: Duration::from_millis(5), pace: None, lanes }
    }

    #[tokio::test]
    async fn a_pipe_is_emptied_and_each_call_counted() {
        let mut mirror = Mirror::default();
        let meter = windowed(&load(8, 1), &mut mirror).await.expect("echoes");
        assert!(mirror.0.is_empty());
        assert!(!meter.times.is_empty() && meter.elapsed() >= Duration::from_millis(5));
    }

    #[tokio::test]
    async fn lanes_share_the_calls() {
        for (in_flight, lanes) in [(1, 1), (1, 2), (7, 2)] {
            let call = |_| async {
                tokio::task::yield_now().await;
                Ok(())
            };
            let meter = calls(&load(in_flight, lanes), call).await.expect("calls");
            assert!(!meter.times.is_empty());
        }
    }
}
