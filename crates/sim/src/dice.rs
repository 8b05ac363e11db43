//! All chance of a run, from one seed.

use std::time::Duration;

use selfsame::protocol::retry::Random;

/// A die. Two with the same seed fall alike.
#[derive(Clone, Debug)]
pub struct Dice(Random);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds would begin alike.
        Dice(Random::new(mix(seed)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// 128 random bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    /// Less than `n`; 0 if `n` is.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.bits() % n }
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// So many milliseconds, with microseconds between them.
    pub fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// True `n` times of a thousand.
    pub fn per_mille(&mut self, n: u64) -> bool {
        n > 0 && self.below(1000) < n
    }

    /// True `n` times of a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.per_mille(n * 10)
    }
}

/// A hash of a number that looks like chance.
pub fn mix(number: u64) -> u64 {
    let mut random = Random::new(number);
    random.bits() ^ random.bits().rotate_left(17)
}

/// A hash of bytes, for bodies and replies: equal bytes, equal hash.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
