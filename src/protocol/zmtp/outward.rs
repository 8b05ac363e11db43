//! What goes to a stranger, and where between it an answer to its PING has its place.

use super::inspector::{Context, Inspector, Limits, Violation, pong};

/// Follows the outgoing direction of a connection, and keeps the PING that is to be answered: within a message no command may stand.
///
/// There is one place for a PING: who asks twice before it is answered gets one answer, to the newest.
#[derive(Debug)]
pub struct Outward {
    inspector: Inspector,
    ping: Option<Context>,
}

/// How bytes that go out are to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// So many of them first.
    pub first: usize,
    /// Then this, then the rest.
    pub pong: Option<Vec<u8>>,
}

impl Default for Outward {
    fn default() -> Self {
        Outward { inspector: Inspector::new(Limits::NONE), ping: None }
    }
}

impl Outward {
    /// A PING came.
    pub fn ask(&mut self, context: Context) {
        self.ping = Some(context);
    }

    /// The answer that is due, if the last bytes that went out ended a message.
    pub fn due(&mut self) -> Option<Vec<u8>> {
        self.inspector.at_boundary().then(|| self.ping.take()).flatten().map(pong)
    }

    /// These go out next.
    ///
    /// # Errors
    /// They are no messages, or among them is a command, which our own side never sends.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Cut, Violation> {
        let seen = self.inspector.inspect(bytes)?;
        if seen.skip > 0 {
            return Err(Violation::Command);
        }
        let Some(first) = seen.boundary else { return Ok(Cut { first: bytes.len(), pong: None }) };
        Ok(Cut { first, pong: self.ping.take().map(pong) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::zmtp::Command;
    use proptest::prelude::*;

    fn frame(more: bool, length: usize) -> Vec<u8> {
        match u8::try_from(length) {
            Ok(short) => [&[u8::from(more), short], &vec![b'.'; length][..]].concat(),
            Err(_) => {
                [&[u8::from(more) | 2], &(length as u64).to_be_bytes()[..], &vec![b'.'; length]].concat()
            }
        }
    }

    fn context(number: u8) -> Context {
        let mut inspector = Inspector::new(Limits::NONE);
        let ping = [&[4, 8], &b"\x04PING\0\0"[..], &[number]].concat();
        match inspector.inspect(&ping).unwrap().command {
            Some(Command::Ping(context)) => context,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_waits_for_the_end_of_the_message() {
        let mut outward = Outward::default();
        outward.ask(context(7));
        assert_eq!(outward.due(), Some(pong(context(7))));
        assert_eq!(outward.due(), None, "once");
        let message = [frame(true, 3), frame(false, 4), frame(true, 1)].concat();
        assert_eq!(outward.pass(&message[..6]), Ok(Cut { first: 6, pong: None }));
        outward.ask(context(8));
        outward.ask(context(9));
        assert_eq!(outward.due(), None);
        assert_eq!(outward.pass(&message[6..]), Ok(Cut { first: 5, pong: Some(pong(context(9))) }));
        outward.ask(context(1));
        assert_eq!(outward.due(), None);
        assert_eq!(outward.pass(&frame(false, 0)), Ok(Cut { first: 2, pong: Some(pong(context(1))) }));
    }

    #[test]
    fn a_command_of_our_own_side_is_a_fault() {
        assert_eq!(Outward::default().pass(b"\x04\x05\x04PONG"), Err(Violation::Command));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u8),
        Look,
        Pass(usize),
    }

    /// Takes the messages of a byte stream apart, and the commands between them. The model: it has all bytes at hand.
    fn read(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut messages, mut contexts, mut within) = (Vec::new(), Vec::new(), false);
        while let Some(&flags) = bytes.first() {
            let (header, length) = match flags & 2 {
                0 => (2, usize::from(bytes[1])),
                _ => (9, u64::from_be_bytes(bytes[1..9].try_into().unwrap()) as usize),
            };
            let (frame, rest) = bytes.split_at(header + length);
            bytes = rest;
            if flags & 4 != 0 {
                assert!(!within, "a command within a message");
                assert_eq!(&frame[..7], b"\x04\x06\x04PONG");
                contexts.push(frame[7]);
            } else {
                messages.extend_from_slice(frame);
                within = flags & 1 != 0;
            }
        }
        (messages, contexts)
    }

    proptest! {
        #[test]
        fn answers_stand_between_messages_and_change_nothing_else(
            shape in prop::collection::vec((any::<bool>(), prop_oneof![0..9_usize, 250..260_usize]), 0..20),
            steps in prop::collection::vec(prop_oneof![any::<u8>().prop_map(Step::Ask), Just(Step::Look), (1..40_usize).prop_map(Step::Pass)], 0..60),
        ) {
            let mut said: Vec<u8> = shape.iter().flat_map(|(more, length)| frame(*more, *length)).collect();
            said.extend(frame(false, 1)); // so that the last message ends
            let (mut outward, mut rest, mut wire, mut asked) = (Outward::default(), &said[..], Vec::new(), Vec::new());
            for step in steps.into_iter().chain([Step::Pass(usize::MAX), Step::Look]) {
                match step {
                    Step::Ask(number) => {
                        asked.push(number);
                        outward.ask(context(number));
                    }
                    Step::Look => wire.extend(outward.due().into_iter().flatten()),
                    Step::Pass(most) => {
                        let (piece, after) = rest.split_at(most.min(rest.len()));
                        let cut = outward.pass(piece).unwrap();
                        wire.extend_from_slice(&piece[..cut.first]);
                        wire.extend(cut.pong.into_iter().flatten());
                        wire.extend_from_slice(&piece[cut.first..]);
                        rest = after;
                    }
                }
            }
            let (messages, answered) = read(&wire);
            prop_assert!(messages == said);
            prop_assert_eq!(answered.last(), asked.last(), "the newest is answered in the end");
            let mut left = asked.iter();
            prop_assert!(answered.iter().all(|answer| left.any(|asked| asked == answer)), "{:?} of {:?}", answered, asked);
        }
    }
}
