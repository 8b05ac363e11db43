//! Every model holds, and none of them is blind: each finds the bugs that are planted for it. Few schedules here; `selfsame-threads` plays many.

use selfsame_threads::campaign;

/// One test: a bug is planted in the whole process.
#[test]
fn models_hold_and_find_their_bugs() {
    assert!(campaign::play_all(500, 1), "see the table");
    assert!(campaign::plant_all(2_000, 1), "see the table");
}
