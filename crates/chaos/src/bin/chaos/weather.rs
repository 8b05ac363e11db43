//! The faults of a run, drawn from its seed: what happens next, and how soon. It does nothing itself.

use std::time::Duration;

use selfsame_relay::Dice;

use crate::places::{CLIENTS, SERVERS};
use crate::store::Level;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// kill -9.
    KillServer(usize),
    KillClient(usize),
    /// SIGSTOP for so long, then SIGCONT.
    StopServer(usize, Duration),
    StopClient(usize, Duration),
    /// All connections of a server's relay are cut.
    Cut(usize),
    /// No file of the server may grow any more.
    FullDisk(usize),
    /// Another process tries to open the server's file.
    Rival(usize),
    /// The database is struck.
    Database(Blow),
}

/// How a database is struck. After the first three it is started again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blow {
    /// Sessions are cut off, and all is written down.
    Fast,
    /// Sessions are cut off; it recovers at the next start.
    Immediate,
    /// The same, without its having been told.
    Kill,
    /// Its sessions stand still, their connections are cut, and then they go on: what they were asked, they do, and nobody hears of it.
    Freeze,
    /// Connections to it are cut.
    Cut,
    /// Some COMMITs arrive when whoever asked for them has lost the connection.
    Doubt,
}

/// Between one fault and the next, in milliseconds.
const PAUSES: std::ops::Range<u64> = 100..500;
/// Longer than a lease, and than a dead peer takes to be noticed.
const STOPS: std::ops::Range<u64> = 200..4_000;

/// The points at which a server may be killed, in the order in which a call passes them.
pub const KILL_POINTS: [&str; 9] = [
    "received",
    "intent-written",
    "intent-synced",
    "handler-entered",
    "effect-done",
    "completion-written",
    "completion-synced",
    "committed",
    "sent",
];

/// An endless list of faults.
#[derive(Clone, Debug)]
pub struct Weather {
    dice: Dice,
    level: Level,
}

impl Weather {
    pub fn new(seed: u64, level: Level) -> Self {
        Weather { dice: Dice::new(seed, 0x77), level }
    }

    /// How long to wait, and what to do then.
    pub fn next(&mut self) -> (Duration, Fault) {
        let dice = &mut self.dice;
        let pause = Duration::from_millis(dice.within(PAUSES));
        let server = dice.below(SERVERS as u64) as usize;
        let client = dice.below(CLIENTS as u64) as usize;
        let stop = Duration::from_millis(dice.within(STOPS));
        let fault = match dice.below(24) {
            0..6 => Fault::KillServer(server),
            6..11 => Fault::KillClient(client),
            11..15 => Fault::StopServer(server, stop),
            15..17 => Fault::StopClient(client, stop),
            17..20 => Fault::Cut(server),
            number => match self.level {
                Level::Memory => Fault::Cut(server),
                Level::Durable if number < 22 => Fault::Rival(server),
                Level::Durable => Fault::FullDisk(server),
                // Seldom: while it is away nothing else can be learnt.
                Level::Shared | Level::Atomic if number == 20 => {
                    Fault::Database(*dice.pick(&[Blow::Fast, Blow::Immediate, Blow::Kill]))
                }
                Level::Shared | Level::Atomic => {
                    Fault::Database(*dice.pick(&[Blow::Freeze, Blow::Cut, Blow::Doubt, Blow::Doubt]))
                }
            },
        };
        (pause, fault)
    }
}

/// Where the next life of a server is to be killed, if it is: the point, and at which pass of it.
pub fn arm(dice: &mut Dice) -> Option<(&'static str, u64)> {
    let armed = dice.once_in(2);
    let (point, pass) = (*dice.pick(&KILL_POINTS), 1 + dice.below(1 << dice.clone().below(7)));
    armed.then_some((point, pass))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn faults(seed: u64, level: Level) -> Vec<(Duration, Fault)> {
        let mut weather = Weather::new(seed, level);
        (0..2000).map(|_| weather.next()).collect()
    }

    #[test]
    fn a_seed_decides_the_weather() {
        assert_eq!(faults(1, Level::Durable), faults(1, Level::Durable));
        assert_ne!(faults(1, Level::Durable), faults(2, Level::Durable));
    }

    #[test]
    fn every_place_and_every_kind_of_fault_has_its_turn() {
        for (level, kinds) in
            [(Level::Memory, 5), (Level::Durable, 7), (Level::Shared, 6), (Level::Atomic, 6)]
        {
            let faults = faults(3, level);
            let seen: HashSet<_> = faults.iter().map(|(_, fault)| std::mem::discriminant(fault)).collect();
            assert_eq!(seen.len(), kinds, "{level}");
            assert!((0..SERVERS).all(|n| faults.iter().any(|(_, fault)| *fault == Fault::KillServer(n))));
            assert!((0..CLIENTS).all(|n| faults.iter().any(|(_, fault)| *fault == Fault::KillClient(n))));
        }
    }

    #[test]
    fn every_kill_point_has_its_turn_and_some_lives_are_spared() {
        let mut dice = Dice::new(1, 1);
        let arms: Vec<_> = (0..1000).map(|_| arm(&mut dice)).collect();
        assert!(KILL_POINTS.iter().all(|point| arms.iter().flatten().any(|(armed, _)| armed == point)));
        assert!(arms.contains(&None));
        assert!(arms.iter().flatten().all(|(_, pass)| (1..=64).contains(pass)));
    }
}
