//! Single rules first. Then any traffic, in any pieces, beside a plain model that has all bytes at hand; and each limit at its border.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { frame: 300, frames: 4, message: 700 };

fn frame(flags: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) => [vec![flags, short], vec![b'.'; length]].concat(),
        Err(_) => [&[flags | LONG], &(length as u64).to_be_bytes()[..], &vec![b'.'; length]].concat(),
    }
}

fn command(body: &[u8]) -> Vec<u8> {
    [&[COMMAND, body.len() as u8], body].concat()
}

/// All that an inspector lets through, in the pieces that it is given, with the commands that it took out.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    passed: Vec<u8>,
    commands: Vec<Command>,
    messages: u64,
    boundary: Option<usize>,
    violation: Option<Violation>,
}

fn inspect<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut inspector = Inspector::new(limits);
    let mut all = Seen::default();
    for mut piece in pieces {
        while !piece.is_empty() && all.violation.is_none() {
            match inspector.inspect(piece) {
                Ok(seen) => {
                    assert!(seen.pass + seen.skip > 0, "it stands still");
                    all.boundary = seen.boundary.map(|at| all.passed.len() + at).or(all.boundary);
                    all.passed.extend_from_slice(&piece[..seen.pass]);
                    all.commands.extend(seen.command);
                    piece = &piece[seen.pass + seen.skip..];
                }
                Err(violation) => all.violation = Some(violation),
            }
        }
    }
    all.messages = inspector.messages();
    all
}

fn violation(bytes: &[u8]) -> Option<Violation> {
    inspect(LIMITS, [bytes]).violation
}

#[test]
fn keeps_each_limit_to_the_byte() {
    assert_eq!(violation(&frame(0, 300)), None);
    assert_eq!(violation(&frame(0, 301)), Some(Violation::Frame));
    assert_eq!(violation(&[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(Violation::Frame));
    assert_eq!(violation(&frame(MORE, 0).repeat(4)), None);
    assert_eq!(violation(&frame(MORE, 0).repeat(5)), Some(Violation::Frames));
    assert_eq!(violation(&frame(0, 0).repeat(50)), None);
    assert_eq!(violation(&[frame(MORE, 300), frame(MORE, 300), frame(0, 100)].concat()), None);
    assert_eq!(
        violation(&[frame(MORE, 300), frame(MORE, 300), frame(0, 101)].concat()),
        Some(Violation::Message)
    );
}

#[test]
fn a_violation_is_seen_before_the_last_byte_of_the_length_is_passed_on() {
    let header = [LONG, 0, 0, 1, 0, 0, 0, 0, 0];
    let mut inspector = Inspector::new(LIMITS);
    assert_eq!(inspector.inspect(&header[..8]).map(|seen| seen.pass), Ok(8));
    assert_eq!(inspector.inspect(&header[8..]), Err(Violation::Frame));
    assert_eq!(inspector.inspect(b"more"), Err(Violation::Frame));
}

#[test]
fn refuses_flags_that_mean_nothing() {
    for flags in (8..=255).chain([COMMAND | MORE, COMMAND | MORE | LONG]) {
        assert_eq!(violation(&[flags]), Some(Violation::Flags), "{flags}");
    }
}

#[test]
fn takes_out_pings_and_pongs_even_within_a_message() {
    let said =
        [frame(MORE, 3), command(b"\x04PING\x00\x0aabc"), frame(0, 2), command(b"\x04PONGabc"), frame(0, 1)]
            .concat();
    let seen = inspect(LIMITS, [&said[..]]);
    assert_eq!(seen.passed, [frame(MORE, 3), frame(0, 2), frame(0, 1)].concat());
    assert_eq!((seen.messages, seen.violation), (2, None));
    let Some(Command::Ping(context)) = seen.commands.first().copied() else { panic!("{seen:?}") };
    assert_eq!(pong(context), command(b"\x04PONGabc"));
    assert_eq!(seen.commands[1..], [Command::Pong]);
}

#[test]
fn refuses_other_commands_and_long_ones() {
    for body in [&b"\x04PANG"[..], b"\x04PING\x00", b"\x09SUBSCRIBEa", b"\x05READY", b"\x05ERROR\x00", b""] {
        assert_eq!(violation(&command(body)), Some(Violation::Command), "{body:?}");
    }
    let longest = [&b"\x04PING\x00\x00"[..], &[7; 16]].concat();
    assert_eq!(violation(&command(&longest)), None);
    assert_eq!(violation(&command(&[&longest[..], &[7]].concat())), Some(Violation::Command));
    assert_eq!(pong(Context { bytes: [7; 16], length: 16 })[1], 21);
}

#[test]
fn the_longest_frame_is_known_from_its_announcement_on_and_stays_so() {
    let mut inspector = Inspector::new(LIMITS);
    inspector.inspect(&[frame(MORE, 300), frame(0, 20)].concat()).unwrap();
    assert_eq!(inspector.longest_frame(), 300);
    let mut lengthless = Inspector::new(Limits::NONE);
    lengthless.inspect(&[&frame(0, 20)[..], &[LONG, 0, 0, 0, 0, 1, 0, 0, 0]].concat()).unwrap();
    assert_eq!(lengthless.longest_frame(), 1 << 24);
    inspector.inspect(&command(b"\x04PONG")).unwrap();
    assert_eq!(inspector.longest_frame(), 300);
}

#[test]
fn a_frame_is_unfinished_in_full_from_its_announcement_on() {
    let mut inspector = Inspector::new(Limits::NONE);
    inspector.inspect(&[LONG | MORE, 0, 0, 0, 0, 1, 0, 0]).unwrap();
    assert_eq!(inspector.unfinished(), 0);
    inspector.inspect(&[0]).unwrap();
    assert_eq!(inspector.unfinished(), (1 << 24) + A_FRAME);
    inspector.inspect(&vec![0; 1 << 24]).unwrap();
    inspector.inspect(&[MORE, 0]).unwrap();
    assert_eq!(inspector.unfinished(), (1 << 24) + 2 * A_FRAME);
    inspector.inspect(&[0, 0]).unwrap();
    assert_eq!(inspector.unfinished(), 0);
}

#[test]
fn knows_where_the_last_whole_message_ends() {
    let mut inspector = Inspector::new(LIMITS);
    assert!(inspector.at_boundary());
    let seen = inspector.inspect(&[frame(0, 3), frame(MORE, 2)].concat()).unwrap();
    assert_eq!((seen.pass, seen.boundary), (9, Some(5)));
    assert!(!inspector.at_boundary());
    let seen = inspector.inspect(&frame(0, 0)).unwrap();
    assert_eq!(seen.boundary, Some(2));
    assert!(inspector.at_boundary());
}

/// The model: it has all bytes at hand, and takes frame after frame off them.
fn model(limits: Limits, mut bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let (mut frames, mut total) = (0, 0);
    while let Some((&flags, rest)) = bytes.split_first() {
        if flags > 7 || flags & 5 == 5 {
            return Seen { violation: Some(Violation::Flags), ..seen };
        }
        let header = if flags & LONG == 0 { 1 } else { 8 };
        let whole_header = rest.split_at_checked(header);
        let length =
            whole_header.map(|(length, _)| length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let body = |length| whole_header.and_then(|(_, rest)| rest.get(..usize::try_from(length).ok()?));
        if flags & COMMAND != 0 {
            let Some(length) = length else { return seen };
            if !(1..=COMMAND_LIMIT as u64).contains(&length) {
                return Seen { violation: Some(Violation::Command), ..seen };
            }
            let Some(body) = body(length) else { return seen };
            match parse(body) {
                Ok(command) => seen.commands.push(command),
                Err(violation) => return Seen { violation: Some(violation), ..seen },
            }
            bytes = &bytes[1 + header + body.len()..];
            continue;
        }
        let Some(length) = length else {
            seen.passed.extend_from_slice(bytes);
            return seen;
        };
        (frames, total) = (frames + 1, u64::saturating_add(total, length));
        let broken = [
            (length > limits.frame, Violation::Frame),
            (frames > limits.frames, Violation::Frames),
            (total > limits.message, Violation::Message),
        ];
        if let Some((_, violation)) = broken.into_iter().find(|(is, _)| *is) {
            return Seen { violation: Some(violation), ..seen };
        }
        let Some(body) = body(length) else {
            seen.passed.extend_from_slice(bytes);
            return seen;
        };
        let end = 1 + header + body.len();
        seen.passed.extend_from_slice(&bytes[..end]);
        bytes = &bytes[end..];
        if flags & MORE == 0 {
            (frames, total) = (0, 0);
            seen.messages += 1;
            seen.boundary = Some(seen.passed.len());
        }
    }
    seen
}

/// Limits as they come: any may be the one that strikes first.
fn limits() -> impl Strategy<Value = Limits> {
    let few = (0..310_u64, 1..6_u32, 0..800_u64);
    let few = few.prop_map(|(frame, frames, message)| Limits { frame, frames, message });
    prop_oneof![4 => Just(LIMITS), 4 => few, 1 => Just(Limits::NONE)]
}

fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => (any::<bool>(), 0..20_usize).prop_map(|(more, length)| frame(u8::from(more), length)),
        4 => (any::<bool>(), 250..302_usize).prop_map(|(more, length)| frame(u8::from(more), length)),
        2 => prop::collection::vec(any::<u8>(), 0..18).prop_map(|context| command(&[b"\x04PING\x00\x00", &context[..]].concat())),
        1 => Just(command(b"\x04PONG")),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_pieces_give_what_the_model_gives(
        limits in limits(),
        bytes in prop_oneof![traffic(), prop::collection::vec(any::<u8>(), 0..200)],
        pieces in prop::collection::vec(1..40_usize, 0..100),
    ) {
        let mut cut = Vec::new();
        let mut rest = &bytes[..];
        for piece in pieces {
            let (piece, after) = rest.split_at(piece.min(rest.len()));
            cut.push(piece);
            rest = after;
        }
        cut.push(rest);
        let (seen, expected) = (inspect(limits, cut), model(limits, &bytes));
        prop_assert_eq!(&seen.violation, &expected.violation);
        if expected.violation.is_none() {
            prop_assert_eq!(seen, expected);
        } else {
            // How far the bytes before a violation have come depends on the pieces, but never beyond them.
            prop_assert!(seen.messages <= expected.messages && seen.commands.len() <= expected.commands.len());
        }
    }

    #[test]
    fn each_limit_is_kept_at_one_less_at_itself_and_not_at_one_more(
        limits in (1..600_u64, 1..9_u32, 1..2000_u64).prop_map(|(frame, frames, message)| Limits { frame, frames, message }),
        off in -1..=1_i64,
        which in 0..3,
    ) {
        let near = |limit: u64| limit.saturating_add_signed(off);
        // A message of which this one thing is near its limit, and all else within.
        let lengths: Vec<u64> = match which {
            0 => vec![near(limits.frame)],
            1 => vec![0; near(limits.frames.into()) as usize],
            _ => {
                let (total, whole) = (near(limits.message), limits.frame);
                (0..total.div_ceil(whole)).map(|at| whole.min(total - at * whole)).collect()
            }
        };
        let count = lengths.len();
        let said: Vec<u8> = lengths.iter().zip(1..).flat_map(|(length, at)| frame(if at < count { MORE } else { 0 }, *length as usize)).collect();
        let broken = [
            (lengths.iter().any(|length| *length > limits.frame), Violation::Frame),
            (count > limits.frames as usize, Violation::Frames),
            (lengths.iter().sum::<u64>() > limits.message, Violation::Message),
        ];
        // Judged byte by byte and at once. Of two limits that one message breaks, either may be named.
        for seen in [inspect(limits, [&said[..]]), inspect(limits, said.chunks(1))] {
            match seen.violation {
                None => {
                    prop_assert!(broken.iter().all(|(is, _)| !is), "{:?}", lengths);
                    prop_assert_eq!(&seen.passed, &said);
                }
                Some(violation) => prop_assert!(broken.contains(&(true, violation)), "{:?}: {:?}", violation, lengths),
            }
        }
    }

    #[test]
    fn what_is_unfinished_is_what_its_decoder_has_to_hold(bytes in traffic(), end in 0..2000_usize) {
        let mut inspector = Inspector::new(Limits::NONE);
        let mut rest = &bytes[..end.min(bytes.len())];
        while !rest.is_empty() {
            let Ok(seen) = inspector.inspect(rest) else { return Ok(()) };
            rest = &rest[seen.pass + seen.skip..];
        }
        let seen = model(Limits::NONE, &bytes[..end.min(bytes.len())]);
        let held = seen.passed.len() - seen.boundary.unwrap_or(0);
        // But for a header that has not all come.
        prop_assert!(inspector.unfinished() + 9 >= held as u64);
        if inspector.at_boundary() {
            prop_assert_eq!(inspector.unfinished(), 0);
        }
    }
}
