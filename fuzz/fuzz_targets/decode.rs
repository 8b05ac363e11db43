//! Whatever frames arrive: no panic, and no body outside the limits. `cargo +nightly fuzz run decode`
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfsame::protocol::wire::{Answer, Entry, Limits, decode};
use selfsame_fuzz::frames;

fuzz_target!(|input: &[u8]| {
    let limits = Limits { body: 64, entries: 100, ..Limits::default() };
    let Ok(decoded) = decode(&frames(input), &limits) else { return };
    assert!(decoded.entries.len() + decoded.skipped <= limits.entries);
    for entry in &decoded.entries {
        let body = match entry {
            Ok(Entry::Call(call)) => &call.body,
            Ok(Entry::Event(event)) => &event.body,
            Ok(Entry::Reply(reply)) => match &reply.answer {
                Answer::Ok(body) | Answer::Declined { body, .. } => body,
                Answer::Failed(_) | Answer::Refused(_) => continue,
            },
            Ok(_) => continue,
            Err(bad) => {
                let _ = bad.answer();
                continue;
            }
        };
        assert!(body.len() <= limits.body as usize);
        assert!(body.is_empty() || body.as_ptr().addr().is_multiple_of(8));
    }
});
