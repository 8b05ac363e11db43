//! Whatever a stranger begins with, in whatever pieces: one verdict, which stands, and nothing taken beyond it. `cargo +nightly fuzz run handshake`
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfsame::protocol::zmtp::{Handshake, Refused, SocketType};
use selfsame_fuzz::pieces;

/// A greeting, the header of a command, and the longest READY.
const LONGEST: usize = 64 + 9 + 1024;

fn judge(shows: SocketType, pieces: &[&[u8]]) -> Result<(Option<SocketType>, usize), Refused> {
    let (mut handshake, mut total) = (Handshake::new(shows, b"us"), 0);
    for piece in pieces {
        let before = handshake.peer();
        match handshake.feed(piece) {
            Ok(taken) => {
                assert!(taken <= piece.len());
                assert!(before.is_none() || taken == 0, "after the end");
                assert!(
                    taken == piece.len() || handshake.peer().is_some(),
                    "what is not taken comes after the end"
                );
                total += taken;
            }
            Err(why) => {
                assert_eq!(handshake.feed(b"\xff"), Err(why), "a refusal stands");
                return Err(why);
            }
        }
        assert!(handshake.take_outgoing().len() <= 64 + 64);
    }
    assert!(total <= LONGEST);
    if let Some(peer) = handshake.peer() {
        assert!(shows.accepts(peer));
    }
    Ok((handshake.peer(), total))
}

fuzz_target!(|input: &[u8]| {
    let (pieces, bytes) = pieces(input);
    for shows in [SocketType::Router, SocketType::Dealer, SocketType::Pub, SocketType::Sub] {
        assert_eq!(judge(shows, &pieces), judge(shows, &[bytes]));
    }
});
