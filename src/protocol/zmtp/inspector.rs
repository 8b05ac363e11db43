//! What goes by after the handshake: frame lengths, message boundaries, and the commands that must not go on.

/// The longest PING: its name, a time to live, and a context of 16 bytes.
const COMMAND_LIMIT: usize = 5 + 2 + CONTEXT_LIMIT;
const CONTEXT_LIMIT: usize = 16;

/// What a frame takes beside its body, roughly: an entry in a list, and a share of the buffer that it is cut from.
const A_FRAME: u64 = 64;

const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;

/// What a peer may send at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the body of one frame.
    pub frame: u64,
    /// Frames in one message.
    pub frames: u32,
    /// Bytes in the bodies of one message's frames together.
    pub message: u64,
}

impl Limits {
    /// For what comes from our own side.
    pub const NONE: Limits = Limits { frame: u64::MAX, frames: u32::MAX, message: u64::MAX };
}

/// What a peer did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// Reserved bits are set in a frame's flags.
    #[error("a frame with reserved flags")]
    Flags,
    /// A frame longer than [`Limits::frame`].
    #[error("a frame that is too long")]
    Frame,
    /// More frames than [`Limits::frames`].
    #[error("a message of too many frames")]
    Frames,
    /// A message longer than [`Limits::message`].
    #[error("a message that is too long")]
    Message,
    /// A command other than PING and PONG, or one that does not parse.
    #[error("an unexpected command")]
    Command,
}

/// A command, taken out of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To be answered by [`pong`] with this context.
    Ping(Context),
    /// We never ask, so this answers nothing.
    Pong,
}

/// What a PING wants to be told again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    bytes: [u8; CONTEXT_LIMIT],
    length: usize,
}

/// What [`Inspector::inspect`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// So many bytes of the input belong to messages and may be relayed.
    pub pass: usize,
    /// So many of those are there when the last message ends that ends among them.
    pub boundary: Option<usize>,
    /// So many bytes after those belong to a command, and may not.
    pub skip: usize,
    /// The command that ends with the skipped bytes, if one does.
    pub command: Option<Command>,
}

/// Follows one direction of a connection from frame to frame. Keeps no bodies.
#[derive(Debug)]
pub struct Inspector {
    limits: Limits,
    state: State,
    /// Of the message that is going by.
    frames: u32,
    bytes: u64,
    more: bool,
    messages: u64,
    command: [u8; COMMAND_LIMIT],
    violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Flags,
    Length { flags: u8, missing: u8, length: u64 },
    Body { missing: u64 },
    Command { length: usize, missing: usize },
}

impl Inspector {
    /// Begins after a handshake.
    pub fn new(limits: Limits) -> Inspector {
        Inspector {
            limits,
            state: State::Flags,
            frames: 0,
            bytes: 0,
            more: false,
            messages: 0,
            command: [0; COMMAND_LIMIT],
            violation: None,
        }
    }

    /// Whole messages that went by.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether the next byte begins a message.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Flags) && !self.more
    }

    /// Bytes that whoever decodes the message that is going by has to hold for it: with the whole of a frame whose length was announced, and what each
    /// frame takes beside its body. None between messages.
    pub fn unfinished(&self) -> u64 {
        self.bytes.saturating_add(u64::from(self.frames) * A_FRAME)
    }

    /// Looks at `input` up to its end or the end of a command. Call it again with the rest: what is neither passed nor skipped.
    ///
    /// A frame's length is judged before its last byte is passed on, so what stands behind never learns of a length that breaks a limit.
    ///
    /// # Errors
    /// The connection is to be closed; so say all later calls too.
    pub fn inspect(&mut self, input: &[u8]) -> Result<Inspected, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let mut seen = Inspected::default();
        let done = self.walk(input, &mut seen);
        self.violation = done.err();
        done.map(|()| seen)
    }

    fn walk(&mut self, input: &[u8], seen: &mut Inspected) -> Result<(), Violation> {
        while seen.pass + seen.skip < input.len() {
            let at = seen.pass + seen.skip;
            match &mut self.state {
                State::Flags => {
                    let flags = input[at];
                    // Once a command begins, bytes are skipped until it ends and the call returns: pass and skip never alternate.
                    *(if flags & COMMAND == 0 { &mut seen.pass } else { &mut seen.skip }) += 1;
                    self.begin(flags)?;
                }
                State::Length { flags, missing, length } => {
                    *length = *length << 8 | u64::from(input[at]);
                    *missing -= 1;
                    let (flags, length, known) = (*flags, *length, *missing == 0);
                    *(if flags & COMMAND == 0 { &mut seen.pass } else { &mut seen.skip }) += 1;
                    if known {
                        self.measure(flags, length, seen)?;
                    }
                }
                State::Body { missing } => {
                    let piece = (input.len() - at).min(usize::try_from(*missing).unwrap_or(usize::MAX));
                    *missing -= piece as u64;
                    seen.pass += piece;
                    if *missing == 0 {
                        self.end_frame(seen);
                    }
                }
                State::Command { length, missing } => {
                    let start = *length - *missing;
                    let piece = (*missing).min(input.len() - at);
                    self.command[start..start + piece].copy_from_slice(&input[at..at + piece]);
                    *missing -= piece;
                    seen.skip += piece;
                    if *missing == 0 {
                        let command = parse(&self.command[..*length])?;
                        seen.command = Some(command);
                        self.state = State::Flags;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, flags: u8) -> Result<(), Violation> {
        if flags & !(MORE | LONG | COMMAND) != 0 || flags & (COMMAND | MORE) == COMMAND | MORE {
            return Err(Violation::Flags);
        }
        let missing = if flags & LONG == 0 { 1 } else { 8 };
        self.state = State::Length { flags, missing, length: 0 };
        Ok(())
    }

    fn measure(&mut self, flags: u8, length: u64, seen: &mut Inspected) -> Result<(), Violation> {
        if flags & COMMAND != 0 {
            let length = usize::try_from(length).ok().filter(|length| (1..=COMMAND_LIMIT).contains(length));
            let length = length.ok_or(Violation::Command)?;
            self.state = State::Command { length, missing: length };
            return Ok(());
        }
        if length > self.limits.frame {
            return Err(Violation::Frame);
        }
        self.frames = self.frames.saturating_add(1);
        if self.frames > self.limits.frames {
            return Err(Violation::Frames);
        }
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > self.limits.message {
            return Err(Violation::Message);
        }
        self.more = flags & MORE != 0;
        self.state = State::Body { missing: length };
        if length == 0 {
            self.end_frame(seen);
        }
        Ok(())
    }

    fn end_frame(&mut self, seen: &mut Inspected) {
        self.state = State::Flags;
        if !self.more {
            self.frames = 0;
            self.bytes = 0;
            self.messages += 1;
            seen.boundary = Some(seen.pass);
        }
    }
}

fn parse(body: &[u8]) -> Result<Command, Violation> {
    if body.starts_with(b"\x04PONG") {
        return Ok(Command::Pong);
    }
    let after = body.strip_prefix(b"\x04PING").ok_or(Violation::Command)?;
    let (_time_to_live, context) = after.split_at_checked(2).ok_or(Violation::Command)?;
    let mut bytes = [0; CONTEXT_LIMIT];
    bytes[..context.len()].copy_from_slice(context); // fits: COMMAND_LIMIT was kept
    Ok(Command::Ping(Context { bytes, length: context.len() }))
}

/// The frame that answers a PING.
pub fn pong(context: Context) -> Vec<u8> {
    let mut frame = vec![COMMAND, 5 + context.length as u8];
    frame.extend_from_slice(b"\x04PONG");
    frame.extend_from_slice(&context.bytes[..context.length]);
    frame
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            violation(&[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Some(Violation::Frame)
        );
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
        let said = [
            frame(MORE, 3),
            command(b"\x04PING\x00\x0aabc"),
            frame(0, 2),
            command(b"\x04PONGabc"),
            frame(0, 1),
        ]
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
        for body in
            [&b"\x04PANG"[..], b"\x04PING\x00", b"\x09SUBSCRIBEa", b"\x05READY", b"\x05ERROR\x00", b""]
        {
            assert_eq!(violation(&command(body)), Some(Violation::Command), "{body:?}");
        }
        let longest = [&b"\x04PING\x00\x00"[..], &[7; 16]].concat();
        assert_eq!(violation(&command(&longest)), None);
        assert_eq!(violation(&command(&[&longest[..], &[7]].concat())), Some(Violation::Command));
        assert_eq!(pong(Context { bytes: [7; 16], length: 16 })[1], 21);
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
    fn model(mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let (mut frames, mut total) = (0, 0);
        while let Some((&flags, rest)) = bytes.split_first() {
            if flags > 7 || flags & 5 == 5 {
                return Seen { violation: Some(Violation::Flags), ..seen };
            }
            let header = if flags & LONG == 0 { 1 } else { 8 };
            let whole_header = rest.split_at_checked(header);
            let length = whole_header
                .map(|(length, _)| length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
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
                (length > LIMITS.frame, Violation::Frame),
                (frames > LIMITS.frames, Violation::Frames),
                (total > LIMITS.message, Violation::Message),
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
        fn any_pieces_give_what_the_model_gives(bytes in prop_oneof![traffic(), prop::collection::vec(any::<u8>(), 0..200)], pieces in prop::collection::vec(1..40_usize, 0..100)) {
            let mut cut = Vec::new();
            let mut rest = &bytes[..];
            for piece in pieces {
                let (piece, after) = rest.split_at(piece.min(rest.len()));
                cut.push(piece);
                rest = after;
            }
            cut.push(rest);
            let (seen, expected) = (inspect(LIMITS, cut), model(&bytes));
            prop_assert_eq!(&seen.violation, &expected.violation);
            if expected.violation.is_none() {
                prop_assert_eq!(seen, expected);
            } else {
                // How far the bytes before a violation have come depends on the pieces, but never beyond them.
                prop_assert!(seen.messages <= expected.messages && seen.commands.len() <= expected.commands.len());
            }
        }
    }
}
