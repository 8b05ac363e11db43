//! Whatever a stranger sends after the handshake, in whatever pieces: one verdict, and what was let through is whole frames within the limits, without
//! commands. `cargo +nightly fuzz run inspector`
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfsame::protocol::zmtp::{Command, Inspector, Limits, Outward, Violation};
use selfsame_fuzz::pieces;

const LIMITS: Limits = Limits { frame: 300, frames: 4, message: 700 };

#[derive(Debug, Default, PartialEq)]
struct Seen {
    passed: Vec<u8>,
    commands: Vec<Command>,
    violation: Option<Violation>,
}

fn inspect(pieces: &[&[u8]]) -> (Seen, Inspector) {
    let (mut inspector, mut all) = (Inspector::new(LIMITS), Seen::default());
    for mut piece in pieces.iter().copied() {
        while !piece.is_empty() && all.violation.is_none() {
            match inspector.inspect(piece) {
                Ok(seen) => {
                    assert!(seen.pass + seen.skip > 0, "it stands still");
                    assert!(seen.boundary.is_none_or(|at| at <= seen.pass));
                    all.passed.extend_from_slice(&piece[..seen.pass]);
                    all.commands.extend(seen.command);
                    piece = &piece[seen.pass + seen.skip..];
                }
                Err(violation) => all.violation = Some(violation),
            }
        }
    }
    (all, inspector)
}

/// Reads frames off bytes that are all there; the last may be cut short. Returns how many bytes there are after the last whole message, and how many messages.
fn read(mut bytes: &[u8]) -> (usize, u64) {
    let (mut frames, mut total, mut messages, mut since) = (0, 0_u64, 0, bytes.len());
    loop {
        let header = match bytes.first() {
            Some(flags) => {
                if flags & 2 == 0 {
                    2
                } else {
                    9
                }
            }
            None => return (since, messages),
        };
        assert!(bytes[0] & !3 == 0, "a command, or reserved flags");
        let Some((head, rest)) = bytes.split_at_checked(header) else { return (since, messages) };
        let length = head[1..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        (frames, total) = (frames + 1, total + length);
        assert!(length <= LIMITS.frame && frames <= LIMITS.frames && total <= LIMITS.message);
        let Some((_, rest)) = rest.split_at_checked(length as usize) else { return (since, messages) };
        if head[0] & 1 == 0 {
            (frames, total, messages, since) = (0, 0, messages + 1, rest.len());
        }
        bytes = rest;
    }
}

fuzz_target!(|input: &[u8]| {
    let (pieces, bytes) = pieces(input);
    let (seen, inspector) = inspect(&pieces);
    let (whole, at_once) = inspect(&[bytes]);
    assert_eq!(seen.violation, whole.violation);
    if seen.violation.is_some() {
        // How far it came before the violation depends on the pieces: a call that fails passes nothing.
        assert!(seen.passed.starts_with(&whole.passed));
        return;
    }
    assert_eq!(seen, whole);
    let (rest, messages) = read(&seen.passed);
    assert_eq!((inspector.messages(), at_once.messages()), (messages, messages));
    // Nor is it at one within a command.
    assert!(rest == 0 || !inspector.at_boundary());
    assert!(inspector.unfinished() + 9 >= rest as u64);
    // The same bytes, going out: whatever was asked, nothing but an answer at a message's end is added.
    let (mut outward, mut said) = (Outward::default(), Vec::new());
    for piece in seen.passed.chunks(pieces.first().map_or(1, |piece| piece.len())) {
        seen.commands.iter().for_each(|command| {
            if let Command::Ping(context) = command {
                outward.ask(*context);
            }
        });
        let cut = outward.pass(piece).expect("it was let in");
        assert!(cut.first <= piece.len());
        said.extend_from_slice(&piece[..cut.first]);
        if cut.pong.is_some() {
            assert_eq!(read(&said).0, 0, "within a message");
        }
        said.extend_from_slice(&piece[cut.first..]);
    }
    assert_eq!(said, seen.passed);
    if rest > 0 {
        assert_eq!(outward.due(), None);
    }
});
