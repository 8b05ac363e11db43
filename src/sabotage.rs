//! Planted bugs and kill points, for the programme that tests the tests. Compiled only under the feature `sabotage`, which no service turns on.
//!
//! A planted bug breaks one rule of the guarantee; the simulator and the chaos run have to find each (`selfsame-sim --planted-bugs`). A kill point ends the
//! process, as `kill -9` would, when it is passed for the n-th time.
//!
//! Where the feature is off, `planted!` is `false`, and `kill_point!` and `visit!` are nothing.

#[cfg(feature = "sabotage")]
pub use switched_on::{Bug, Visits, is_planted, kill_at, pass, plant, reached, visits};

/// Whether this bug is planted.
#[cfg(feature = "sabotage")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::sabotage::is_planted($crate::sabotage::Bug::$bug)
    };
}

/// Whether this bug is planted: no.
#[cfg(not(feature = "sabotage"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// A place at which a chaos run may end the process.
#[cfg(feature = "sabotage")]
macro_rules! kill_point {
    ($name:literal) => {
        $crate::sabotage::pass($name)
    };
}

/// A place at which a chaos run may end the process: not in this build.
#[cfg(not(feature = "sabotage"))]
macro_rules! kill_point {
    ($name:literal) => {{}};
}

/// A place or a transition that a run of the simulator should reach: which part, and what, as for `format!`.
#[cfg(feature = "sabotage")]
macro_rules! visit {
    ($part:literal, $($what:tt)+) => {
        $crate::sabotage::reached($part, || format!($($what)+))
    };
}

/// A place or a transition that a run of the simulator should reach: not counted in this build.
#[cfg(not(feature = "sabotage"))]
macro_rules! visit {
    ($part:literal, $($what:tt)+) => {};
}

pub(crate) use {kill_point, planted, visit};

#[cfg(feature = "sabotage")]
mod switched_on {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    macro_rules! bugs {
        ($($(#[doc = $doc:literal])+ $bug:ident,)+) => {
            /// A rule that can be broken on purpose.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub enum Bug {
                $($(#[doc = $doc])+ $bug,)+
            }

            impl Bug {
                /// All of them, each with what it does.
                pub const ALL: &'static [(Bug, &'static str)] = &[$((Bug::$bug, concat!($($doc),+)),)+];
            }
        };
    }

    bugs! {
        /// The durable store says that something is durable before it is.
        SkippedFsync,
        /// PostgreSQL: a claim looks at the session before it inserts its record, not after.
        CheckBeforeInsert,
        /// PostgreSQL: what is in doubt is looked up, not waited for; and what is not seen is told not to have run.
        SettleBySelect,
        /// PostgreSQL: an answer is kept whoever has the record now.
        FinishWithoutSwap,
        /// PostgreSQL: a call whose owner's lease has expired runs again, unasked.
        ExpiredLeaseRunsAgain,
        /// PostgreSQL: an expired keyed record is deleted, and the floor stays where it is.
        ExpireWithoutFloor,
        /// PostgreSQL, atomic: a claim is committed at once, and not with what its handler does.
        ClaimCommitsAlone,
        /// A retry of a running call runs it again.
        RetryRunsAgain,
        /// A retry of a call that has ended runs it again.
        ReplayRunsAgain,
        /// A call that names another incarnation of the server is taken.
        IncarnationIgnored,
        /// An overloaded server refuses before it looks whether the call has run.
        RefusalBeforeLookUp,
        /// A keyed nonce that has expired is taken for a new one.
        ExpiredMeansNew,
        /// The parameters of a call are not compared with those of its record.
        MismatchReplays,
        /// The welcome under which a call was first sent is not compared with its record's.
        StampNotCompared,
        /// A refusal leaves no mark, so a copy of the refused attempt may run.
        NoMarkAfterRefusal,
        /// A call that may not be sent again leaves no mark when it is let in.
        NeverNotMarked,
        /// A late acknowledgement takes the watermark down again.
        WatermarkFalls,
        /// An acknowledgement also forgets the lowest call that is open, though it runs.
        RunningCollected,
        /// An acknowledgement counts for all sessions.
        AckOfAnotherSession,
        /// Of the attempts that wait for one run only the first is answered.
        JoinFirstOnly,
        /// A handler's failure is not recorded, so the next attempt runs.
        FaultNotRecorded,
        /// A reply too large to keep leaves no tombstone, so the next attempt runs.
        TombstoneForgotten,
        /// A hello creates the registration that it names.
        OldHelloRevives,
        /// A cancellation frees the number of a call that runs.
        CancelFreesNumber,
        /// The reply is sent when the store is asked to keep it, not when it has.
        ReplyBeforeCommit,
        /// An operation in doubt is taken for one that had no effect, and told so.
        InDoubtIsNotDone,
        /// An operation in doubt is taken for done.
        InDoubtIsDone,
        /// A caller is told No although an attempt may have run.
        NoAlthoughUnsettled,
        /// An attempt that was refused is sent again under its number.
        AttemptReused,
        /// The refusal of one attempt settles the earlier ones as well.
        SettlesEarlierToo,
        /// An attempt on a connection that is gone is taken for not executed.
        LostIsNotExecuted,
        /// A keyed call that an earlier life may have sent is taken for new.
        KeyedBeginsSettled,
        /// A client takes a store of another generation for the one that it knew.
        GenerationIgnored,
        /// A client gives the number of a closed call to the next.
        NumberReused,
        /// A handler that runs again derives another nonce for the call that it makes.
        DerivedNonceDiffers,
        /// A call that had begun when the server died is forgotten when its store is opened.
        UnfinishedForgottenAtOpen,
        /// A record that was closed is deleted before the watermark that has passed it is committed.
        DeletionWithoutWatermark,
        /// Between threads: a key is looked for and put in under two locks, so a request makes the same call twice.
        DerivedTwice,
        /// Between threads: a caller who is turned away holds a place meanwhile, so another is turned away for it.
        PlaceCountedFirst,
        /// Between threads: a call that was concluded and then cancelled gives its place back twice.
        PlaceGivenBackTwice,
        /// Between threads: of those whose calls have ended one is woken before it can find the others, whom it is to wake.
        OneWokenEarly,
        /// Between threads: a publisher that shuts down takes an empty queue for all there is to send.
        QueueTakenForAll,
        /// Between threads: a subscription's reader looks, and leaves its waker under a second lock.
        ReaderRegistersLate,
        /// Between threads: whoever waits for a subscription to stand forgets the progress that came while it looked.
        ProgressMarkedLate,
        /// Between threads: what comes for a subscription that was dropped is kept.
        EndedInboxFills,
        /// Between threads: a statement asks whether its call has ended before it waits for the statements before it.
        OverAskedBeforeWaiting,
        /// Between threads: a handler's task that is dropped does not say so.
        DroppedHandlerSilent,
        /// Between threads: an answer after the time-out is taken for a handler that ends, and gives a place back twice.
        LateAnswerCounts,
    }

    /// 0 is none, else the index in `Bug::ALL` plus one.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Plants a bug in this process, or digs it out again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::SeqCst);
    }

    /// Whether this bug is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as usize + 1
    }

    /// Counts by part and what was reached there.
    pub type Visits = BTreeMap<(&'static str, String), u64>;

    thread_local! {
        /// None as long as nobody asks: what is attacked and killed has other things to do.
        static VISITS: RefCell<Option<Visits>> = const { RefCell::new(None) };
    }

    /// This was reached once more, by this thread.
    pub fn reached(part: &'static str, what: impl FnOnce() -> String) {
        VISITS.with_borrow_mut(|visits| {
            if let Some(visits) = visits {
                *visits.entry((part, what())).or_default() += 1;
            }
        });
    }

    /// What this thread has reached since it was last asked; it is counted from the first time on.
    pub fn visits() -> Visits {
        VISITS.replace(Some(BTreeMap::new())).unwrap_or_default()
    }

    static ARMED: AtomicBool = AtomicBool::new(false);
    static KILL: Mutex<Option<(String, u64)>> = Mutex::new(None);

    /// Ends this process at the n-th pass of the named point, counted from 1.
    pub fn kill_at(point: impl Into<String>, pass: u64) {
        *KILL.lock().expect("nothing panics under this lock") = Some((point.into(), pass.max(1)));
        ARMED.store(true, Ordering::SeqCst);
    }

    /// Passes a kill point.
    pub fn pass(point: &str) {
        if !ARMED.load(Ordering::Relaxed) {
            return;
        }
        let mut kill = KILL.lock().expect("nothing panics under this lock");
        let Some((armed, left)) = kill.as_mut().filter(|(armed, _)| armed == point) else { return };
        *left -= 1;
        if *left == 0 {
            tracing::info!(point = armed.as_str(), "killed");
            // Nothing is flushed, dropped or said: as a kill would have it.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
