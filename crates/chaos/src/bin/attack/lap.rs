//! What the good client saw in one lap: how many calls, how fast, how many events; and whether that is as good as in another.

use std::fmt;
use std::time::Duration;

use selfsame_chaos::child::Arguments;
use selfsame_chaos::{Error, Result};

/// No event for so long is a publisher that hangs.
const SILENCE: Duration = Duration::from_secs(2);

/// One lap.
#[derive(Clone, Debug, Default)]
pub struct Lap {
    pub calls: u64,
    /// Calls that did not succeed, and why one did not.
    pub failed: u64,
    pub why: String,
    /// Of calls, from their beginning to their reply.
    pub p50: Duration,
    pub p99: Duration,
    pub events: u64,
    /// Of events, from being published to being heard.
    pub event_p99: Duration,
    /// The longest time without an event.
    pub silence: Duration,
}

impl Lap {
    /// From what it is printed as.
    pub fn parse(text: &str) -> Result<Lap> {
        let (numbers, why) = text.split_once(" why=").unwrap_or((text, ""));
        let words = Arguments::parse(numbers.split_whitespace().map(str::to_owned))?;
        let time = |name| Ok::<_, Error>(Duration::from_micros(words.get(name)?));
        Ok(Lap {
            calls: words.get("calls")?,
            failed: words.get("failed")?,
            why: why.to_owned(),
            p50: time("p50")?,
            p99: time("p99")?,
            events: words.get("events")?,
            event_p99: time("event_p99")?,
            silence: time("silence")?,
        })
    }

    /// What is worse than an attack may make it, whatever the latencies are.
    pub fn failure(&self) -> Option<String> {
        if self.failed > 0 {
            return Some(format!("{} of {} good calls failed: {}", self.failed, self.calls, self.why));
        }
        if self.calls == 0 {
            return Some("the good client made no call".into());
        }
        if self.silence > SILENCE {
            return Some(format!("no event for {:?}", self.silence));
        }
        None
    }

    /// What is slower than after the quiet lap it may be.
    pub fn slowness(&self, quiet: &Lap, floor: Duration) -> Option<String> {
        let slow = |what, now: Duration, before: Duration| {
            (now > 2 * before && now > before + floor)
                .then(|| format!("p99 of {what} {now:.1?}, in quiet {before:.1?}"))
        };
        slow("calls", self.p99, quiet.p99).or_else(|| slow("events", self.event_p99, quiet.event_p99))
    }
}

impl fmt::Display for Lap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lap { calls, failed, why, p50, p99, events, event_p99, silence } = self;
        write!(
            f,
            "calls={calls} failed={failed} p50={} p99={} events={events} event_p99={} silence={} why={why}",
            p50.as_micros(),
            p99.as_micros(),
            event_p99.as_micros(),
            silence.as_micros()
        )
    }
}

/// The time below which 99 of 100 are. Sorts them.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lap(p99: u64) -> Lap {
        Lap { calls: 100, p99: Duration::from_millis(p99), ..Lap::default() }
    }

    #[test]
    fn a_lap_is_read_as_it_was_printed() {
        let lap = Lap { failed: 1, why: "it was slow".into(), ..lap(3) };
        let read = Lap::parse(&lap.to_string()).expect("it can be read");
        assert_eq!((read.calls, read.failed, read.p99, read.why), (100, 1, lap.p99, lap.why));
    }

    #[test]
    fn slow_is_more_than_twice_and_more_than_the_floor() {
        let floor = Duration::from_millis(5);
        assert!(lap(4).slowness(&lap(1), floor).is_none());
        assert!(lap(7).slowness(&lap(1), floor).is_some());
        assert!(lap(19).slowness(&lap(10), floor).is_none());
    }

    #[test]
    fn the_percentile_is_of_all() {
        let mut times: Vec<Duration> = (0..200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&mut [], 99), Duration::ZERO);
    }
}
