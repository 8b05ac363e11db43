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
    longest_frame: u64,
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
            longest_frame: 0,
            command: [0; COMMAND_LIMIT],
            violation: None,
        }
    }

    /// Whole messages that went by.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of the longest frame so far, from when its length was announced on.
    pub fn longest_frame(&self) -> u64 {
        self.longest_frame
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
        self.longest_frame = self.longest_frame.max(length);
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
mod tests;
