//! Threads that make the same call within one request at once.

use shuttle::thread;

use crate::sync::threads::Arc;

#[path = "../../../src/derived.rs"]
mod shared;

use shared::Derived;

/// One of them makes it.
pub(crate) fn one_claims() {
    let derived = Arc::new(Derived::default());
    let claims = || {
        let derived = derived.clone();
        thread::spawn(move || derived.claim(7))
    };
    let threads = [claims(), claims()];
    let other = derived.claim(8);
    let made = threads.map(|thread| thread.join().expect("no panic"));
    assert_eq!(made.iter().filter(|&&made| made).count(), 1, "one of the equal calls is made");
    assert!(other, "and the one that differs");
}
