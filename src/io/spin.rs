//! Spinning: what an IO thread does for a moment before it goes to sleep, since waking up is most of what a lone call costs.
//!
//! A thread that spins asks the system again and again whether there is something to do, and offers its core to others in between. Whether that pays
//! depends on what comes next, and that on what came last: a client that has just sent a call hears soon, one that has just had a reply may be
//! silent for long. So each [`Cause`] has a [`Score`] of its own. This is not a scheduler: tasks run as they would without it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::{spawn_local, yield_now};

/// Whether an IO thread spins before it sleeps.
///
/// Spinning saves the time that a sleeping thread takes to wake up, which is most of the time that a call takes if few are in flight; what it costs is
/// processor time. `docs/performance.md` has figures of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Spin {
    /// Sleeps at once.
    Off,
    /// Spins for up to 175 µs where that has lately been enough, and sleeps at once where it has not: an idle thread costs nothing, and one that hears
    /// something every few milliseconds next to nothing. For a store, while calls come that fast, up to 600 µs. The default.
    #[default]
    Adaptive,
    /// Never sleeps: takes a whole core for as long as it is there. For machines with cores to spare, and the shortest times.
    Always,
}

/// How long an adaptive thread spins in vain. A turn of the other side with a dozen calls takes some 100 µs, so with a window of 100 such clients had both sides
/// sleep between any two messages, at half the speed. With one of 200 or more, a client of a few hundred calls a second pays half as much again in processor time.
const WINDOW: Duration = Duration::from_micros(175);

/// The same for a store that was asked: an fsync of a good disk, or a statement of a database on the same machine, and what goes by until both threads run.
const STORE_WINDOW: Duration = Duration::from_micros(600);

/// What came so much later while the thread slept might have come within the window if it had not: so much goes by in waking up on either side.
const WAKING: Duration = Duration::from_micros(150);

/// What an IO thread last had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A peer said something.
    Heard,
    /// Another thread of this process wanted something: a call, an answer, an event to be sent.
    Asked,
    /// The store was asked for something.
    Store,
}

impl Cause {
    /// How long to spin in vain.
    fn window(self) -> Duration {
        match self {
            Cause::Heard | Cause::Asked => WINDOW,
            Cause::Store => STORE_WINDOW,
        }
    }
}

thread_local! {
    static SPINNER: Spinner = const { Spinner::new() };
}

/// Asks this IO thread to spin, until the guard is dropped. The most eager of all who ask decides.
pub fn request(spin: Spin) -> Request {
    SPINNER.with(|spinner| {
        spinner.requests[spin as usize].set(spinner.requests[spin as usize].get() + 1);
        if spinner.mode() != Spin::Off && !spinner.running.replace(true) {
            spawn_local(run());
        }
        spinner.wake();
    });
    Request(spin)
}

/// See [`request`].
pub struct Request(Spin);

impl Drop for Request {
    fn drop(&mut self) {
        // The thread's own data may have gone before its tasks do, when the thread ends.
        let _ = SPINNER.try_with(|spinner| {
            let requests = &spinner.requests[self.0 as usize];
            requests.set(requests.get() - 1);
        });
    }
}

/// Something came, for this cause: the thread may spin once it is done with it.
pub(crate) fn note(cause: Cause) {
    SPINNER.with(|spinner| {
        if spinner.running.get() {
            spinner.note(cause);
        }
    });
}

/// The thread's spinning, as the task that spins and those that note activity share it.
struct Spinner {
    /// By [`Spin`].
    requests: [Cell<usize>; 3],
    running: Cell<bool>,
    /// What came last, how much ever came, and since when the thread waits for more.
    cause: Cell<Cause>,
    noted: Cell<u64>,
    /// Of the first note after a sleep; `None` while the thread spins.
    asleep_since: Cell<Option<Instant>>,
    /// What a peer said last came while the thread slept. Then a store is not worth spinning for: its caller is none that goes on at once, and each of its
    /// calls would cost the time of two fsyncs.
    cold: Cell<bool>,
    /// By [`Cause`].
    scores: [Cell<Score>; 3],
    waker: RefCell<Option<Waker>>,
}

impl Spinner {
    const fn new() -> Spinner {
        Spinner {
            requests: [const { Cell::new(0) }; 3],
            running: Cell::new(false),
            cause: Cell::new(Cause::Heard),
            noted: Cell::new(0),
            asleep_since: Cell::new(None),
            cold: Cell::new(true),
            scores: [const { Cell::new(Score::NEW) }; 3],
            waker: RefCell::new(None),
        }
    }

    fn mode(&self) -> Spin {
        match &self.requests {
            [_, _, always] if always.get() > 0 => Spin::Always,
            [_, adaptive, _] if adaptive.get() > 0 => Spin::Adaptive,
            _ => Spin::Off,
        }
    }

    fn note(&self, cause: Cause) {
        self.noted.set(self.noted.get() + 1);
        let asleep_since = self.asleep_since.get();
        if let Some(since) = asleep_since {
            let now = Instant::now();
            let before = self.cause.get();
            self.score(before, |score| score.slept(now - since, before.window()));
            self.asleep_since.set(Some(now));
        }
        if cause == Cause::Heard {
            self.cold.set(asleep_since.is_some());
        }
        self.cause.set(cause);
        if self.pays() {
            self.wake();
        }
    }

    /// Whether spinning after what came last is worth a try.
    fn pays(&self) -> bool {
        match self.mode() {
            Spin::Off => false,
            Spin::Adaptive if self.cause.get() == Cause::Store && self.cold.get() => false,
            Spin::Adaptive => self.scores[self.cause.get() as usize].get().pays(),
            Spin::Always => true,
        }
    }

    fn score(&self, cause: Cause, how: impl FnOnce(&mut Score)) {
        let cell = &self.scores[cause as usize];
        let mut score = cell.get();
        how(&mut score);
        cell.set(score);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The task that spins. It ends with its thread.
async fn run() {
    loop {
        SPINNER.with(|spinner| spinner.asleep_since.set(Some(Instant::now())));
        let seen = SPINNER.with(|spinner| spinner.noted.get());
        poll_fn(|cx| {
            SPINNER.with(|spinner| {
                let came = spinner.noted.get() != seen;
                if spinner.mode() == Spin::Always || (came && spinner.pays()) {
                    return Poll::Ready(());
                }
                *spinner.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        SPINNER.with(|spinner| spinner.asleep_since.set(None));
        spin().await;
    }
}

/// Spins until nothing has come for the window of what came last, or that is not worth it.
async fn spin() {
    let (mut seen, mut cause) = SPINNER.with(|spinner| (spinner.noted.get(), spinner.cause.get()));
    let mut since = Instant::now();
    loop {
        // The runtime looks for what the system has to tell before it comes back here, and runs what is ready.
        yield_now().await;
        thread::yield_now();
        let goes_on = SPINNER.with(|spinner| {
            if spinner.noted.get() != seen {
                seen = spinner.noted.get();
                since = Instant::now();
                spinner.score(cause, Score::hit);
                cause = spinner.cause.get();
                return spinner.pays();
            }
            if since.elapsed() < cause.window() || spinner.mode() == Spin::Always {
                return true;
            }
            spinner.score(cause, Score::missed);
            false
        });
        if !goes_on {
            return;
        }
    }
}

/// How a thread without a runtime waits: a store's, for what its server asks next. It sleeps after [`WINDOW`] even where it is always to spin: the server's thread is
/// awake then, and that is enough.
#[cfg(any(feature = "redb", test))]
pub(crate) struct Waits {
    spins: bool,
    score: Score,
}

#[cfg(any(feature = "redb", test))]
impl Waits {
    pub fn new(spin: Spin) -> Waits {
        Waits { spins: spin != Spin::Off, score: Score::NEW }
    }

    /// Takes what comes from a source, which sleeps until something is there; before that it may be asked for a moment whether something is.
    pub fn take<S, T>(
        &mut self,
        from: &mut S,
        is_there: impl Fn(&S) -> bool,
        take: impl FnOnce(&mut S) -> T,
    ) -> T {
        let since = Instant::now();
        if !self.spins {
            return take(from);
        }
        if !self.score.pays() {
            let taken = take(from);
            self.score.slept(since.elapsed(), WINDOW);
            return taken;
        }
        while !is_there(from) {
            if since.elapsed() >= WINDOW {
                self.score.missed();
                return take(from);
            }
            thread::yield_now();
        }
        self.score.hit();
        take(from)
    }
}

/// How well spinning has paid after one [`Cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Score {
    /// Promising sleeps in a row.
    promising: u8,
    /// So many of them make a try.
    needed: u8,
}

impl Score {
    const NEW: Score = Score { promising: 0, needed: Score::FEW };
    /// After spinning paid: two are no accident.
    const FEW: u8 = 2;
    /// After it did not, again and again: a hundredth of the waits is tried.
    const MANY: u8 = 100;

    fn pays(self) -> bool {
        self.promising >= self.needed
    }

    /// The thread slept for so long before something came, and would have spun for the window.
    fn slept(&mut self, time: Duration, window: Duration) {
        self.promising = if time <= window + WAKING { self.promising.saturating_add(1) } else { 0 };
    }

    /// It spun, and something came.
    fn hit(&mut self) {
        *self = Score { promising: Score::FEW, needed: Score::FEW };
    }

    /// It spun in vain.
    fn missed(&mut self) {
        *self = Score { promising: 0, needed: self.needed.saturating_mul(2).min(Score::MANY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(90);
    const LATE: Duration = Duration::from_millis(2);

    fn after(score: Score, sleeps: &[Duration]) -> Score {
        sleeps.iter().fold(score, |mut score, sleep| {
            score.slept(*sleep, WINDOW);
            score
        })
    }

    #[test]
    fn spins_after_two_short_sleeps_in_a_row_and_not_after_long_ones() {
        assert!(!Score::NEW.pays());
        assert!(after(Score::NEW, &[SOON, SOON]).pays());
        assert!(!after(Score::NEW, &[SOON, LATE, SOON]).pays());
        assert!(!after(Score::NEW, &[LATE; 1000]).pays());
    }

    #[test]
    fn a_miss_makes_it_wait_twice_as_long_for_the_next_try_and_a_hit_mends_that() {
        let mut score = after(Score::NEW, &[SOON, SOON]);
        for needed in [4, 8, 16, 32, 64, 100, 100] {
            score.missed();
            assert!(!after(score, &vec![SOON; needed - 1]).pays());
            score = after(score, &vec![SOON; needed]);
            assert!(score.pays());
        }
        score.hit();
        assert!(score.pays());
        score.missed();
        assert!(after(score, &[SOON; 4]).pays());
    }

    #[test]
    fn a_store_is_spun_for_only_if_its_call_found_the_thread_awake() {
        let spinner = Spinner::new();
        spinner.requests[Spin::Adaptive as usize].set(1);
        spinner.score(Cause::Store, Score::hit);
        spinner.asleep_since.set(Some(Instant::now()));
        spinner.note(Cause::Heard);
        spinner.note(Cause::Store);
        assert!(!spinner.pays());
        spinner.asleep_since.set(None);
        spinner.note(Cause::Heard);
        spinner.note(Cause::Store);
        assert!(spinner.pays());
    }

    #[test]
    fn a_thread_without_a_runtime_looks_before_it_sleeps_once_that_would_have_paid() {
        let looks = Cell::new(0);
        let take = |waits: &mut Waits, there: bool| {
            let is_there = |_: &()| {
                looks.set(looks.get() + 1);
                there
            };
            waits.take(&mut (), is_there, |()| looks.take())
        };
        let mut off = Waits::new(Spin::Off);
        assert!((0..10).all(|_| take(&mut off, true) == 0));
        let mut waits = Waits::new(Spin::Adaptive);
        assert_eq!([take(&mut waits, true), take(&mut waits, true)], [0, 0], "two waits that were short");
        assert_eq!([take(&mut waits, true), take(&mut waits, true)], [1, 1]);
        assert!(take(&mut waits, false) > 1, "it gives up after a while");
        assert_eq!(take(&mut waits, true), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_asks_more_eagerly_decides_and_a_thread_that_nobody_asks_sleeps() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mode = || SPINNER.with(Spinner::mode);
                assert_eq!(mode(), Spin::Off);
                let off = request(Spin::Off);
                assert_eq!(mode(), Spin::Off);
                assert!(!SPINNER.with(|spinner| spinner.running.get()));
                let adaptive = request(Spin::Adaptive);
                let always = request(Spin::Always);
                assert_eq!(mode(), Spin::Always);
                drop(always);
                assert_eq!(mode(), Spin::Adaptive);
                drop(adaptive);
                assert_eq!(mode(), Spin::Off);
                drop(off);
            })
            .await;
    }
}
