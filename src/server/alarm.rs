//! When to warn that a table fills up: once, and not again and again while it stays about as full.

/// It goes off at four fifths: what comes in goes on for a while until somebody has read the warning.
const HIGH: usize = 80;
/// It may go off again once all has fallen below: well under `HIGH`, or a table that hovers there would warn without end.
const LOW: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Alarm {
    is_on: bool,
}

impl Alarm {
    /// Whether to warn now, as the fullest of these has so many percent.
    pub fn goes_off(&mut self, shares: [usize; 2]) -> bool {
        let fullest = shares.into_iter().max().unwrap_or_default();
        let was_on = self.is_on;
        self.is_on = fullest >= if was_on { LOW } else { HIGH };
        self.is_on && !was_on
    }
}

/// What is used of a bound, in percent.
pub(super) fn share(used: usize, bound: usize) -> usize {
    used.saturating_mul(100) / bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_off_once_and_again_only_after_a_fall() {
        let mut alarm = Alarm::default();
        let heard = [10, 79, 80, 81, 100, 79, 85, 60, 80, 59, 79, 80].map(|full| alarm.goes_off([full, 0]));
        let warned: Vec<_> = (0..heard.len()).filter(|&at| heard[at]).collect();
        assert_eq!(warned, [2, 11]);
    }

    #[test]
    fn the_fullest_counts() {
        let mut alarm = Alarm::default();
        assert!(alarm.goes_off([0, 80]));
        assert!(!alarm.goes_off([80, 0]), "one has fallen, and the other is as full");
        assert_eq!(share(4, 5), 80);
    }
}
