//! The good client's process: it calls at a steady rate, whatever becomes of the calls before, and hears the victim's events.
//!
//! It answers `lap` with what it saw since it was asked last, when the calls of that time have ended.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use selfsame::{Channel, Event, Subscriber};
use selfsame_chaos::api::mark::{Beat, MarkClient};
use selfsame_chaos::child::{self, Arguments};
use selfsame_chaos::{Result, log};
use tokio::time::MissedTickBehavior;

use crate::lap::{Lap, percentile};
use crate::secure::Certificates;

/// Between two calls.
const PACE: Duration = Duration::from_millis(4);

/// Calls and listens until it is dismissed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let (mut channel, mut subscriber) = (Channel::builder(), Subscriber::builder());
    if let Some(folder) = arguments.find("certificates") {
        let tls = Certificates::at(Path::new(folder)).of_client();
        (channel, subscriber) = (channel.tls(tls.clone()), subscriber.tls(tls));
    }
    let mark = MarkClient::new(channel.connect(&arguments.get::<String>("server")?).await?);
    let subscriber = subscriber.connect(&arguments.get::<String>("publisher")?).await?;
    let mut beats = subscriber.subscribe::<Beat>().await?;
    mark.post(|mut p| p.set_number(0)).await?;
    println!("ready");
    let mut orders = child::orders();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calling = FuturesUnordered::new();
    // The last one is under way, the others wait for their last calls.
    let mut laps = VecDeque::from([Seen::begin()]);
    let mut number = 0;
    let mut newest = 0;
    loop {
        tokio::select! {
            _ = pace.tick() => {
                number += 1;
                let Some(seen) = laps.back_mut() else { continue };
                seen.open += 1;
                calling.push(call(&mark, number, newest));
            }
            Some((lap, took)) = calling.next() => {
                if let Some(seen) = laps.iter_mut().rev().nth((newest - lap) as usize) {
                    seen.ended(took);
                }
            }
            event = beats.next() => {
                if let (Some(Ok(Event::Message(beat))), Some(seen)) = (event, laps.back_mut()) {
                    seen.heard(beat.get()?.get_sent());
                }
            }
            order = orders.recv() => {
                let Some(order) = order else { return Ok(()) };
                let Some(question) = order.strip_suffix(" lap") else { continue };
                let Some(seen) = laps.back_mut() else { continue };
                seen.end(question);
                laps.push_back(Seen::begin());
                newest += 1;
            }
        }
        while laps.len() > 1 && laps[0].open == 0 {
            laps.pop_front().into_iter().for_each(Seen::tell);
        }
    }
}

async fn call(mark: &MarkClient, number: u64, lap: u64) -> (u64, Result<Duration>) {
    let begun = Instant::now();
    let answered = match mark.post(|mut p| p.set_number(number)).await {
        Ok(reply) => match reply.get() {
            Ok(reply) if reply.get_number() == number => Ok(begun.elapsed()),
            Ok(_) => Err("the reply is another call's".into()),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    };
    (lap, answered)
}

/// A lap as it goes on.
struct Seen {
    /// The question that ended it.
    asked: Option<String>,
    open: usize,
    lap: Lap,
    calls: Vec<Duration>,
    events: Vec<Duration>,
    heard: Instant,
}

impl Seen {
    fn begin() -> Seen {
        Seen {
            asked: None,
            open: 0,
            lap: Lap::default(),
            calls: Vec::new(),
            events: Vec::new(),
            heard: Instant::now(),
        }
    }

    fn ended(&mut self, took: Result<Duration>) {
        self.open -= 1;
        self.lap.calls += 1;
        match took {
            Ok(took) => self.calls.push(took),
            Err(error) => {
                self.lap.failed += 1;
                self.lap.why = error.to_string();
            }
        }
    }

    fn heard(&mut self, sent: u64) {
        self.lap.events += 1;
        self.events.push(Duration::from_micros(log::now().saturating_sub(sent)));
        self.lap.silence = self.lap.silence.max(self.heard.elapsed());
        self.heard = Instant::now();
    }

    fn end(&mut self, question: &str) {
        self.asked = Some(question.to_owned());
        self.lap.silence = self.lap.silence.max(self.heard.elapsed());
    }

    fn tell(mut self) {
        self.lap.p50 = percentile(&mut self.calls, 50);
        self.lap.p99 = percentile(&mut self.calls, 99);
        self.lap.event_p99 = percentile(&mut self.events, 99);
        println!("{} {}", self.asked.unwrap_or_default(), self.lap);
    }
}
