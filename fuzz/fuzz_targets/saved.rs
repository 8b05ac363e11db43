//! Whatever was found where a call was saved: no panic; and what is a call is saved as the same again. `cargo +nightly fuzz run saved`
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfsame::protocol::wire::{decode_saved, encode_saved};

fuzz_target!(|input: &[u8]| {
    if let Ok(call) = decode_saved(input) {
        assert_eq!(decode_saved(&encode_saved(&call)), Ok(call));
    }
});
