//! What was decoded from whatever frames can be encoded, and decodes to the same. `cargo +nightly fuzz run roundtrip`
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use selfsame::protocol::wire::{Encoder, Entry, Limits, decode};
use selfsame_fuzz::frames;

fn good(frames: &[Bytes]) -> Vec<Entry> {
    decode(frames, &Limits::default())
        .map_or(Vec::new(), |decoded| decoded.entries.into_iter().filter_map(Result::ok).collect())
}

fuzz_target!(|input: &[u8]| {
    let mut encoder = Encoder::new(Limits::default());
    for entry in good(&frames(input)) {
        // A decoded text may have grown beyond the limit where it was no UTF-8, and is cut again: so compare from here on.
        if encoder.push(entry).is_err() {
            break;
        }
    }
    let once = good(&encoder.finish());
    for entry in &once {
        encoder.push(entry.clone()).expect("it was encoded before");
    }
    assert_eq!(good(&encoder.finish()), once);
});
