//! When to try again: back-off with full jitter, and a budget that all calls of a client share.
//!
//! It decides *when* and *whether there is money for it*, not *whether a retry is safe*: that is [`call`](super::call)'s business.
//!
//! Why a budget: a server that is slow gets retries on top of its load, becomes slower, and gets more of them. Counting retries per call
//! does not help, for there are many calls. So retries are paid from what ordinary calls deposit, as in Finagle: 20 % on top, and a
//! small allowance a second so that a client with few calls can retry at all. Why full jitter: clients that failed together must not
//! come back together (Brooker, "Exponential backoff and jitter", AWS 2015).

use std::time::Duration;

use super::Moment;

/// Exponential back-off with full jitter: the n-th delay is uniform between nothing and `base * 2^n`, at most `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first delay.
    pub base: Duration,
    /// The longest delay of all.
    pub cap: Duration,
}

impl Backoff {
    /// Between attempts of a call: 20 ms, about what a short queue takes to empty; at most 2 s, so that a call with the default
    /// deadline of 5 s gets its attempts.
    pub const CALLS: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(2) };
    /// Between connections: 20 ms, so that a restarted server is found at once; at most 5 s, so that a thousand clients of a dead one
    /// knock 400 times a second between them.
    pub const CONNECTIONS: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(5) };

    /// The delay after `failures` earlier ones in a row (0 = this is the first), given 64 random bits.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let ceiling = self.base.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.cap);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
    }
}

/// A [`Backoff`] that counts: the delays of one thing that keeps failing, such as a connection.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    backoff: Backoff,
    failures: u32,
}

impl Pace {
    /// Nothing has failed yet.
    pub fn new(backoff: Backoff) -> Self {
        Pace { backoff, failures: 0 }
    }

    /// It failed (again): how long to wait, given 64 random bits.
    pub fn failed(&mut self, random: u64) -> Duration {
        let delay = self.backoff.delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// It works. For a connection: it was welcomed, not merely accepted.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

/// What a [`Budget`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Retries for each hundred calls. Default 20, Finagle's: a fifth on top of its load is what a server has to bear anyway.
    pub percent: u32,
    /// Retries a second besides. Default 10: a client with a call now and then can retry it.
    pub per_second: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Allowance { percent: 20, per_second: 10 }
    }
}

/// Retries of the last ten seconds, weighed against the calls of the last ten seconds.
///
/// Ten seconds, as Finagle: short enough that a quiet hour does not save up a storm, long enough to bridge a hiccup.
#[derive(Clone, Debug)]
pub struct Budget {
    allowance: Allowance,
    /// One slot a second, of the seconds `second - 9 ..= second`, indexed by the second modulo ten.
    slots: [Slot; SECONDS as usize],
    second: u64,
    sum: Slot,
}

const SECONDS: u64 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    calls: u64,
    retries: u64,
}

impl Budget {
    /// A budget in which nothing was called and nothing retried yet.
    pub fn new(allowance: Allowance) -> Self {
        Budget { allowance, slots: Default::default(), second: 0, sum: Slot::default() }
    }

    /// A call was started.
    pub fn deposit(&mut self, now: Moment) {
        self.turn(now);
        self.slots[index(self.second)].calls += 1;
        self.sum.calls += 1;
    }

    /// Pays for a retry. False: there is no money, do not retry.
    #[must_use]
    pub fn withdraw(&mut self, now: Moment) -> bool {
        self.turn(now);
        let Allowance { percent, per_second } = self.allowance;
        // Hundredths of a retry, so that three calls are worth more than none.
        let earned = self.sum.calls * u64::from(percent) + u64::from(per_second) * SECONDS * 100;
        let paid = self.sum.retries * 100 + 100 <= earned;
        if paid {
            self.slots[index(self.second)].retries += 1;
            self.sum.retries += 1;
        }
        paid
    }

    /// Forgets the seconds that are more than ten old.
    fn turn(&mut self, now: Moment) {
        let passed = now.as_secs().saturating_sub(self.second);
        for second in self.second + 1..=self.second + passed.min(SECONDS) {
            let old = std::mem::take(&mut self.slots[index(second)]);
            self.sum.calls -= old.calls;
            self.sum.retries -= old.retries;
        }
        self.second += passed;
    }
}

fn index(second: u64) -> usize {
    (second % SECONDS) as usize
}

/// Random bits for jitter and for names that need not be secret: SplitMix64 (Steele, Lea, Flood 2014). Not for keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    fn withdraw_all(budget: &mut Budget, now: Moment) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_over_their_whole_width() {
        let backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(2) };
        let longest: Vec<_> = (0..9).map(|n| backoff.delay(n, u64::MAX).as_micros().div_ceil(1000)).collect();
        assert_eq!(longest, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        for failures in [0, 3, 31, 32, 33, u32::MAX] {
            assert_eq!(backoff.delay(failures, 0), Duration::ZERO);
            assert!(backoff.delay(failures, u64::MAX) < backoff.cap);
        }
        let mut random = Random::new(1);
        let mean = (0..1000).map(|_| backoff.delay(7, random.bits()).as_millis()).sum::<u128>() / 1000;
        assert!((900..1100).contains(&mean), "{mean}");
    }

    #[test]
    fn a_pace_slows_down_until_it_works() {
        let mut pace = Pace::new(Backoff::CONNECTIONS);
        let delays: Vec<_> = (0..10).map(|_| pace.failed(u64::MAX).as_micros().div_ceil(1000)).collect();
        assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
        pace.worked();
        assert!(pace.failed(u64::MAX) < Duration::from_millis(20));
    }

    #[test]
    fn absurd_backoffs_neither_overflow_nor_panic() {
        let backoff = Backoff { base: Duration::MAX, cap: Duration::MAX };
        assert!(backoff.delay(u32::MAX, u64::MAX) > Duration::from_secs(1 << 33));
        assert_eq!(Backoff { base: Duration::ZERO, cap: Duration::ZERO }.delay(4, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn s21_retries_are_a_fifth_of_the_calls_and_ten_a_second() {
        let mut budget = Budget::new(Allowance::default());
        assert_eq!(withdraw_all(&mut budget, seconds(100)), 100, "the allowance of ten seconds");
        (0..1000).for_each(|_| budget.deposit(seconds(101)));
        assert_eq!(withdraw_all(&mut budget, seconds(101)), 200, "a fifth of a thousand");
        assert_eq!(withdraw_all(&mut budget, seconds(109)), 0);
        assert_eq!(withdraw_all(&mut budget, seconds(110)), 100, "the first retries are ten seconds old");
    }

    #[test]
    fn s21_a_quiet_hour_saves_nothing_up() {
        let mut budget = Budget::new(Allowance { percent: 20, per_second: 0 });
        (0..1000).for_each(|_| budget.deposit(seconds(1)));
        assert!(!budget.withdraw(seconds(3600)));
        budget.deposit(seconds(3600));
        assert!(!budget.withdraw(seconds(3600)), "one call is a fifth of a retry");
        (0..4).for_each(|_| budget.deposit(seconds(3601)));
        assert!(budget.withdraw(seconds(3601)));
        assert!(!budget.withdraw(seconds(3601)));
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_does_no_harm() {
        let mut budget = Budget::new(Allowance { percent: 100, per_second: 0 });
        budget.deposit(seconds(50));
        budget.deposit(seconds(3));
        assert_eq!(withdraw_all(&mut budget, seconds(3)), 2);
        assert_eq!(withdraw_all(&mut budget, Moment::MAX), 0);
    }

    #[test]
    fn random_bits_follow_from_the_seed_and_look_random() {
        let numbers: Vec<_> = {
            let mut r = Random::new(7);
            (0..64).map(|_| r.bits()).collect()
        };
        let again: Vec<_> = {
            let mut r = Random::new(7);
            (0..64).map(|_| r.bits()).collect()
        };
        assert_eq!(numbers, again);
        let ones: u32 = numbers.iter().map(|n| n.count_ones()).sum();
        assert!((1800..2300).contains(&ones), "{ones} of 4096");
    }
}
