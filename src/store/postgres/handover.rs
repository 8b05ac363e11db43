//! Something that a handler may use until its call ends, and that is taken from it then, once no use is under way. Not what it is: in the store it is the connection
//! with the call's transaction.

use std::ops::Deref;

use crate::sabotage::planted;
use crate::sync::tasks::{Mutex, MutexGuard};
use crate::sync::threads::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Handover<T> {
    /// None: it was taken.
    lent: Mutex<Option<T>>,
    /// The call has ended: nothing further may use it, even if it waits already.
    over: AtomicBool,
}

/// One use of it. It holds something: only [`lock`](Handover::lock) makes one.
pub(super) struct InUse<'a, T>(MutexGuard<'a, Option<T>>);

impl<T> Deref for InUse<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("locked while it is there")
    }
}

impl<T> Handover<T> {
    pub fn new(lent: T) -> Self {
        Handover { lent: Mutex::new(Some(lent)), over: AtomicBool::new(false) }
    }

    /// For one use, when those before it have ended. None: the call has ended.
    pub async fn lock(&self) -> Option<InUse<'_, T>> {
        if planted!(OverAskedBeforeWaiting) && self.is_over() {
            return None;
        }
        let lent = self.lent.lock().await;
        // Asked while the lock is held: whoever ends the call says so first, and then waits for the lock.
        if !planted!(OverAskedBeforeWaiting) && self.is_over() {
            return None;
        }
        lent.is_some().then_some(InUse(lent))
    }

    /// The call has ended: no use begins from now on.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Takes it, once it is not in use. None: somebody has taken it before.
    pub async fn take(&self) -> Option<T> {
        self.lent.lock().await.take()
    }
}
