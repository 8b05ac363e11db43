//! What a run is like: drawn from its seed. Each fault is on or off in a run, and more or less frequent (swarm testing, Groce et al. 2012): a run
//! with all of them hides what only shows when some are missing.

use std::time::Duration;

use selfsame::protocol::Level;
use selfsame::protocol::call::Config;
use selfsame::protocol::dedup::Limits;
use selfsame::protocol::retry::Allowance;

use crate::dice::Dice;

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Where records live.
    pub level: Level,
    /// Servers of the service in front.
    pub replicas: usize,
    /// Client processes.
    pub clients: usize,
    /// How long faults happen.
    pub trouble: Duration,
    /// Mean time between calls of one client.
    pub pace: Duration,
    /// Of the servers' tables.
    pub limits: Limits,
    /// Of the clients.
    pub client: Config,
    /// Handlers at once in one server.
    pub concurrency: usize,
    /// Calls that wait for a handler.
    pub queue: usize,
    /// A handler that takes longer is dropped.
    pub handler_timeout: Duration,
    /// A second service, called by the handlers of the first.
    pub nested: bool,
    /// Of a hundred calls, those under a key.
    pub keyed: u64,
    /// Of a hundred calls, those that only count.
    pub counting: u64,
    /// Of a hundred handlers, those that take seconds.
    pub slow_handlers: u64,
    /// Of a hundred handlers, those that do not simply reply.
    pub contrary: u64,
    /// Much is held back, and released late.
    pub haunted: bool,
    /// Processes often stand still, if replicas share a store.
    pub sleepy: bool,
    /// What goes wrong.
    pub faults: Faults,
}

/// What goes wrong. Rates are of a thousand; intervals are means, none: never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Entries lost.
    pub drop: u64,
    /// Entries delivered twice.
    pub duplicate: u64,
    /// Entries that overtake others.
    pub reorder: u64,
    /// Entries that take seconds.
    pub delay: u64,
    /// Entries held and released on whatever connection there is then.
    pub hold: u64,
    /// One direction between a client and a server, or both, goes dead for a while.
    pub partition: Option<Duration>,
    /// A connection is reset.
    pub reset: Option<Duration>,
    /// A client dies, and comes back with what it had saved.
    pub client_crash: Option<Duration>,
    /// A client is copied with its session.
    pub fork: Option<Duration>,
    /// A server dies.
    pub server_crash: Option<Duration>,
    /// A server dies between two steps of an operation of its store.
    pub crash_at_step: u64,
    /// A server says goodbye and ends.
    pub drain: Option<Duration>,
    /// A process stands still, longer than leases and heartbeats last.
    pub pause: Option<Duration>,
    /// A wall clock steps, by so much at most.
    pub clock: Option<(Duration, Duration)>,
    /// Operations of a store that take long.
    pub slow_store: u64,
    /// Operations of a store that fail.
    pub not_done: u64,
    /// Operations of a store that end in doubt.
    pub in_doubt: u64,
    /// A server cannot reach its database for a while.
    pub cut_store: Option<Duration>,
    /// The database is restarted.
    pub restart_store: Option<Duration>,
    /// A disk fills, or a sync fails.
    pub broken_disk: Option<Duration>,
    /// The store is lost, and an empty one takes its place.
    pub lost_store: Option<Duration>,
    /// The store is put back to an earlier state.
    pub restored_store: Option<Duration>,
    /// Calls that a server says it has no room for.
    pub shed: u64,
}

impl Profile {
    /// The profile of a seed, at a level if one is wanted.
    pub fn draw(dice: &mut Dice, level: Option<Level>) -> Self {
        let drawn = [Level::Memory, Level::Durable, Level::Shared, Level::Atomic][dice.below(4) as usize];
        let level = level.unwrap_or(drawn);
        let several = level.is_shared();
        let limits = draw_limits(dice);
        let client = Config {
            attempts: [1, 3, 5, 5][dice.below(4) as usize],
            attempt_timeout: dice.ms(300, 1000),
            window: dice.between(8, 32) as usize,
            budget: Allowance { percent: 20, per_second: dice.between(2, 20) as u32 },
            ..Config::default()
        };
        let mut profile = Profile {
            level,
            replicas: if several { dice.between(2, 3) as usize } else { 1 },
            clients: dice.between(2, 4) as usize,
            trouble: dice.ms(12_000, 24_000),
            pace: dice.ms(80, 240),
            limits,
            client,
            concurrency: dice.between(1, 8) as usize,
            queue: dice.between(4, 24) as usize,
            handler_timeout: dice.ms(1_500, 6_000),
            nested: dice.percent(35),
            keyed: [0, 15, 40][dice.below(3) as usize],
            counting: [0, 10, 30][dice.below(3) as usize],
            slow_handlers: [1, 4, 15][dice.below(3) as usize],
            contrary: [10, 25, 40][dice.below(3) as usize],
            haunted: dice.percent(12),
            sleepy: dice.percent(40),
            faults: Faults::draw(dice, level),
        };
        profile.reconcile();
        profile
    }

    /// Nothing that its bounds keep away lasts beyond healing.
    pub fn is_roomy(&self) -> bool {
        // Where replicas share a store, what only the cache knows to be stale is not answered: a copied client waits until its deadline.
        let copied = self.replicas > 1 && self.faults.fork.is_some();
        // A client that tries but once is told No when the one handler is busy with calls that their callers have given up.
        let patient = self.client.attempts > 1;
        patient
            && self.limits.keyed > 1_000
            && self.limits.keyed_validity > Duration::from_secs(3600)
            && !copied
    }

    /// What is promised only under conditions is not tried without them.
    fn reconcile(&mut self) {
        let faults = &mut self.faults;
        if faults.restored_store.is_some() {
            // A store that went back in time has forgotten keyed records; that it had them cannot be known.
            self.keyed = 0;
            self.nested = false;
        }
        if self.haunted {
            // What was said long ago is said again, to servers that have forgotten it.
            self.limits.retention = Duration::from_millis(2_500);
            (faults.hold, faults.duplicate) = (faults.hold.max(150), faults.duplicate.max(250));
            (faults.reset, faults.client_crash) =
                (Some(Duration::from_secs(1)), Some(Duration::from_secs(3)));
        }
        if self.sleepy && self.level == Level::Shared {
            // Owners stand still while they run calls, and others take these for lost.
            faults.pause = Some(Duration::from_millis(1_200));
            self.slow_handlers = self.slow_handlers.max(25);
            self.keyed = self.keyed.max(if faults.restored_store.is_some() { 0 } else { 40 });
        }
        if faults.fork.is_some() {
            // Copies that call alike, and acknowledge late, are the hardest to tell apart.
            self.counting = 50;
            self.client.ack_delay = Duration::from_millis(200);
        }
        let loses_store = self.level == Level::Memory || faults.lost_store.is_some();
        if let Some((_, most)) = &mut faults.clock
            && loses_store
        {
            // Whether a key is older than the store is judged by clocks, within the error that is allowed for.
            *most = (*most).min(self.limits.clock_error - Duration::from_millis(50));
        }
    }
}

fn draw_limits(dice: &mut Dice) -> Limits {
    Limits {
        retention: dice.ms(2_500, 10_000),
        unused_retention: dice.ms(2_000, 6_000),
        window: dice.between(8, 48) as u32,
        joins: dice.between(3, 6) as usize,
        reply_bytes: 128,
        session_bytes: if dice.percent(30) { 1_500 } else { 1 << 20 },
        sessions: if dice.percent(20) { 12 } else { 1_000 },
        keyed: if dice.percent(20) { 24 } else { 10_000 },
        keyed_validity: Duration::from_secs(if dice.percent(10) { 20 } else { 3 * 3600 }),
        ..Limits::default()
    }
}

impl Faults {
    fn draw(dice: &mut Dice, level: Level) -> Self {
        if dice.percent(3) {
            return Faults::default();
        }
        let much = dice.between(1, 4);
        let rate =
            |dice: &mut Dice, most: u64| if dice.percent(55) { dice.between(1, most) * much / 2 } else { 0 };
        let now_and_then = |dice: &mut Dice, percent: u64, low: u64, high: u64| {
            dice.percent(percent).then(|| dice.ms(low, high) * 2 / u32::try_from(much).unwrap_or(1))
        };
        let database = level.is_shared();
        let durable = level == Level::Durable;
        let only = |which: bool, interval: Option<Duration>| interval.filter(|_| which);
        let far = [300, 5_000, 3_600_000][dice.below(3) as usize];
        Faults {
            drop: rate(dice, 40),
            duplicate: rate(dice, 60),
            reorder: rate(dice, 100),
            delay: rate(dice, 40),
            hold: rate(dice, 40),
            partition: now_and_then(dice, 40, 2_000, 8_000),
            reset: now_and_then(dice, 60, 500, 4_000),
            client_crash: now_and_then(dice, 35, 3_000, 10_000),
            fork: now_and_then(dice, 30, 4_000, 12_000),
            server_crash: now_and_then(dice, 50, 2_500, 9_000),
            crash_at_step: if level != Level::Memory && dice.percent(40) { dice.between(1, 2) } else { 0 },
            drain: now_and_then(dice, 25, 4_000, 10_000),
            pause: now_and_then(dice, 35, 2_000, 8_000),
            clock: dice.percent(40).then(|| (dice.ms(1_500, 5_000), Duration::from_millis(far))),
            slow_store: rate(dice, 50),
            not_done: if database { rate(dice, 40) } else { 0 },
            in_doubt: if database { rate(dice, 40) } else { 0 },
            cut_store: only(database, now_and_then(dice, 35, 3_000, 9_000)),
            restart_store: only(database, now_and_then(dice, 35, 4_000, 10_000)),
            broken_disk: only(durable, now_and_then(dice, 30, 5_000, 10_000)),
            lost_store: only(level != Level::Memory, now_and_then(dice, 15, 6_000, 14_000)),
            restored_store: only(database, now_and_then(dice, 15, 6_000, 14_000)),
            shed: rate(dice, 100),
        }
    }
}
