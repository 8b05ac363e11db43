//! Greeting and READY: who is there, and may it stay?

use super::SocketType;

/// The length of a greeting.
const GREETING: usize = 64;

/// The longest READY that we read, in bytes. An identity is at most 255, so an honest READY has some 300; the rest leaves room for
/// properties of an application's own.
const READY_LIMIT: usize = 1024;

const SHORT_COMMAND: u8 = 0x04;
const LONG_COMMAND: u8 = 0x06;

/// Our half of a handshake under mechanism NULL: bytes in, bytes out, and in the end the peer's socket type.
///
/// The peer's identity and other properties are read over: connections are told apart by the numbers that the gate gives them.
#[derive(Debug)]
pub struct Handshake {
    shows: SocketType,
    identity: Vec<u8>,
    state: State,
    /// What has come of the part that is being read; never longer than [`READY_LIMIT`].
    received: Vec<u8>,
    outgoing: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Header,
    LongHeader,
    Ready(usize),
    Done(SocketType),
    Refused(Refused),
}

/// Why a peer was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The first bytes are no greeting: some other protocol.
    #[error("not a ZMTP greeting")]
    NoGreeting,
    /// The first byte is one of TLS.
    #[error(
        "it speaks TLS, and this side does not: is one of them to be a tls:// endpoint, or the other not?"
    )]
    Tls,
    /// A ZMTP major version below 3.
    #[error("ZMTP version {0} is not spoken here, only 3 and later")]
    Version(u8),
    /// A security mechanism other than NULL.
    #[error("a security mechanism other than NULL")]
    Mechanism,
    /// What follows the greeting is no command, or does not parse.
    #[error("the greeting is not followed by a well-formed READY")]
    NoReady,
    /// The peer sent ERROR: it turned us away.
    #[error("the peer turned us away")]
    ByPeer,
    /// The READY is longer than any honest one.
    #[error("the READY is too long")]
    TooLong,
    /// A socket type that does not go with ours.
    #[error("a peer of the wrong socket type")]
    SocketType(Option<SocketType>),
}

impl Handshake {
    /// Begins one. `shows` is the socket type to show; `identity` may be empty and is at most 255 bytes.
    pub fn new(shows: SocketType, identity: &[u8]) -> Handshake {
        debug_assert!(identity.len() <= 255);
        let mut greeting = [0; GREETING];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        Handshake {
            shows,
            identity: identity.to_vec(),
            state: State::Greeting,
            received: Vec::new(),
            outgoing: greeting.to_vec(),
        }
    }

    /// What is to be sent now. Empty if nothing is.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// The peer's socket type, once the handshake is done.
    pub fn peer(&self) -> Option<SocketType> {
        match self.state {
            State::Done(peer) => Some(peer),
            _ => None,
        }
    }

    /// Takes bytes of the peer and returns how many of them belong to the handshake. After it is [done](Handshake::peer) none do.
    ///
    /// # Errors
    /// The peer is to be turned away; so say all later calls too.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let mut taken = 0;
        loop {
            let wanted = match self.state {
                State::Greeting => GREETING,
                State::Header => 2,
                State::LongHeader => 9,
                State::Ready(length) => length,
                State::Done(_) => return Ok(taken),
                State::Refused(why) => return Err(why),
            };
            let piece = (wanted - self.received.len()).min(input.len() - taken);
            self.received.extend_from_slice(&input[taken..taken + piece]);
            taken += piece;
            let complete = self.received.len() == wanted;
            match self.advance(complete) {
                Ok(state) => self.state = state,
                Err(why) => {
                    self.state = State::Refused(why);
                    self.received = Vec::new();
                }
            }
            if !complete && !matches!(self.state, State::Refused(_)) {
                return Ok(taken);
            }
        }
    }

    fn advance(&mut self, complete: bool) -> Result<State, Refused> {
        match self.state {
            State::Greeting => {
                check_greeting(&self.received)?;
                if complete {
                    self.received.clear();
                    self.outgoing = ready(self.shows, &self.identity);
                    return Ok(State::Header);
                }
            }
            State::Header => match self.received.first() {
                None | Some(&LONG_COMMAND | &SHORT_COMMAND) if !complete => {}
                Some(&LONG_COMMAND) => return Ok(State::LongHeader),
                Some(&SHORT_COMMAND) => {
                    let length = usize::from(self.received[1]);
                    self.received.clear();
                    return Ok(State::Ready(length));
                }
                _ => return Err(Refused::NoReady),
            },
            State::LongHeader if complete => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.received[1..9]);
                self.received.clear();
                return match usize::try_from(u64::from_be_bytes(length)) {
                    Ok(length) if length <= READY_LIMIT => Ok(State::Ready(length)),
                    _ => Err(Refused::TooLong),
                };
            }
            State::Ready(_) if complete => {
                let body = std::mem::take(&mut self.received);
                let peer = peer_type(&body)?;
                return match peer {
                    Some(peer) if self.shows.accepts(peer) => Ok(State::Done(peer)),
                    _ => Err(Refused::SocketType(peer)),
                };
            }
            _ => {}
        }
        Ok(self.state)
    }
}

/// The types of the first record that TLS sends: of a server that was not spoken to in TLS, and of a client.
const TLS_ALERT: u8 = 21;
const TLS_HANDSHAKE: u8 = 22;

/// Checks what has come of a greeting, so that another protocol is told by its first byte.
fn check_greeting(received: &[u8]) -> Result<(), Refused> {
    let at = |index: usize| received.get(index).copied();
    if let Some(TLS_ALERT | TLS_HANDSHAKE) = at(0) {
        return Err(Refused::Tls);
    }
    if at(0).is_some_and(|byte| byte != 0xff) || at(9).is_some_and(|byte| byte != 0x7f) {
        return Err(Refused::NoGreeting);
    }
    if let Some(major) = at(10).filter(|major| *major < 3) {
        return Err(Refused::Version(major));
    }
    let mut null = [0; 20];
    null[..4].copy_from_slice(b"NULL");
    let mechanism = received.get(12..).unwrap_or_default();
    if mechanism.iter().zip(null).any(|(byte, wanted)| *byte != wanted) {
        return Err(Refused::Mechanism);
    }
    Ok(())
}

fn ready(shows: SocketType, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    let mut property = |name: &[u8], value: &[u8]| {
        body.push(name.len() as u8);
        body.extend_from_slice(name);
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value);
    };
    property(b"Socket-Type", shows.name().as_bytes());
    if !identity.is_empty() {
        property(b"Identity", identity);
    }
    let mut frame = match u8::try_from(body.len()) {
        Ok(length) => vec![SHORT_COMMAND, length],
        Err(_) => {
            let mut header = vec![LONG_COMMAND];
            header.extend_from_slice(&(body.len() as u64).to_be_bytes());
            header
        }
    };
    frame.append(&mut body);
    frame
}

/// Reads a READY and returns its socket type, if it names one that we know. Property names are case-insensitive.
fn peer_type(body: &[u8]) -> Result<Option<SocketType>, Refused> {
    let (name, mut rest) = short_string(body).ok_or(Refused::NoReady)?;
    match name {
        b"READY" => {}
        b"ERROR" => return Err(Refused::ByPeer),
        _ => return Err(Refused::NoReady),
    }
    let mut kind: Option<&[u8]> = None;
    while !rest.is_empty() {
        let (name, after) =
            short_string(rest).filter(|(name, _)| !name.is_empty()).ok_or(Refused::NoReady)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or(Refused::NoReady)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Refused::NoReady)?;
        let (value, after) = after.split_at_checked(length).ok_or(Refused::NoReady)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") && kind.replace(value).is_some() {
            return Err(Refused::NoReady); // two types: which one would the next reader believe?
        }
        rest = after;
    }
    Ok(kind.and_then(SocketType::from_name))
}

fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut greeting = Handshake::new(SocketType::Dealer, b"").take_outgoing();
        change(&mut greeting);
        greeting
    }

    fn command(body: &[u8]) -> Vec<u8> {
        [&[SHORT_COMMAND, body.len() as u8], body].concat()
    }

    /// What a router makes of this, all at once.
    fn judge(input: &[u8]) -> Result<(Option<SocketType>, usize), Refused> {
        let mut handshake = Handshake::new(SocketType::Router, b"");
        handshake.feed(input).map(|taken| (handshake.peer(), taken))
    }

    fn judge_ready(body: &[u8]) -> Result<Option<SocketType>, Refused> {
        judge(&[greeting(|_| ()), command(body)].concat()).map(|(peer, _)| peer)
    }

    #[test]
    fn two_of_ours_agree_whatever_the_identity() {
        for length in [0, 1, 8, 200, 255] {
            let mut dealer = Handshake::new(SocketType::Dealer, &vec![7; length]);
            let mut router = Handshake::new(SocketType::Router, b"");
            for _ in 0..2 {
                let (there, back) = (dealer.take_outgoing(), router.take_outgoing());
                assert_eq!(router.feed(&there), Ok(there.len()));
                assert_eq!(dealer.feed(&back), Ok(back.len()));
            }
            assert_eq!((dealer.peer(), router.peer()), (Some(SocketType::Router), Some(SocketType::Dealer)));
        }
    }

    #[test]
    fn takes_nothing_beyond_the_ready() {
        let shaken = [greeting(|_| ()), ready(SocketType::Req, b"me")].concat();
        let said = [&shaken[..], &[0, 5], b"hello"].concat();
        assert_eq!(judge(&said), Ok((Some(SocketType::Req), shaken.len())));
    }

    #[test]
    fn says_ready_only_after_a_good_greeting() {
        let mut handshake = Handshake::new(SocketType::Router, b"");
        assert_eq!(handshake.take_outgoing().len(), GREETING);
        let greeting = greeting(|_| ());
        handshake.feed(&greeting[..63]).unwrap();
        assert!(handshake.take_outgoing().is_empty());
        handshake.feed(&greeting[63..]).unwrap();
        assert_eq!(handshake.take_outgoing(), ready(SocketType::Router, b""));
    }

    #[test]
    fn takes_a_later_minor_or_major_version_and_any_signature_length() {
        let newer = greeting(|greeting| {
            greeting[1..9].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]); // as libzmq does
            greeting[10..12].copy_from_slice(&[4, 1]);
        });
        assert_eq!(judge(&newer), Ok((None, GREETING)));
    }

    #[test]
    fn refuses_greetings_that_are_none_as_soon_as_they_show() {
        assert_eq!(judge(b"G"), Err(Refused::NoGreeting));
        assert_eq!(judge(&[TLS_HANDSHAKE, 3, 1]), Err(Refused::Tls));
        assert_eq!(judge(&[TLS_ALERT]), Err(Refused::Tls));
        assert_eq!(judge(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7e]), Err(Refused::NoGreeting));
        assert_eq!(judge(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1]), Err(Refused::Version(1)));
        let plain = greeting(|greeting| greeting[12..17].copy_from_slice(b"PLAIN"));
        assert_eq!(judge(&plain[..13]), Err(Refused::Mechanism));
        assert_eq!(judge(&greeting(|greeting| greeting[16] = b'X')), Err(Refused::Mechanism));
        assert_eq!(judge(&greeting(|greeting| greeting[31] = 1)), Err(Refused::Mechanism));
    }

    #[test]
    fn refuses_what_is_no_ready() {
        let after = |bytes: &[u8]| judge(&[&greeting(|_| ())[..], bytes].concat());
        assert_eq!(after(&[0]), Err(Refused::NoReady)); // a message
        assert_eq!(after(&[5]), Err(Refused::NoReady)); // a command that goes on
        assert_eq!(after(&[SHORT_COMMAND, 0]), Err(Refused::NoReady));
        assert_eq!(after(&[LONG_COMMAND, 0, 0, 1, 0, 0, 0, 0, 0]), Err(Refused::TooLong));
        assert_eq!(after(&[LONG_COMMAND, 0, 0, 0, 0, 0, 0, 4, 1]), Err(Refused::TooLong));
        assert_eq!(after(&[LONG_COMMAND, 0, 0, 0, 0, 0, 0, 4, 0]).map(|(peer, _)| peer), Ok(None));
        for body in [
            &b"\x05REDDY"[..],
            b"\x06READY",
            b"\x05READY\x00\x00\x00\x00\x00",
            b"\x05READY\x01a\x00\x00\x00",
            b"\x05READY\x01a\x00\x00\x00\x02b",
        ] {
            assert_eq!(judge_ready(body), Err(Refused::NoReady), "{body:?}");
        }
        assert_eq!(judge_ready(b"\x05ERROR\x06denied"), Err(Refused::ByPeer));
    }

    #[test]
    fn wants_one_socket_type_that_goes_with_ours() {
        assert_eq!(
            judge_ready(b"\x05READY\x0bsOCKET-tYPE\x00\x00\x00\x06DEALER"),
            Ok(Some(SocketType::Dealer))
        );
        assert_eq!(judge_ready(b"\x05READY"), Err(Refused::SocketType(None)));
        assert_eq!(
            judge_ready(b"\x05READY\x0bSocket-Type\x00\x00\x00\x06dealer"),
            Err(Refused::SocketType(None))
        );
        assert_eq!(
            judge_ready(b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"),
            Err(Refused::SocketType(Some(SocketType::Sub)))
        );
        let twice = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x0bSocket-TYPE\x00\x00\x00\x03REQ";
        assert_eq!(judge_ready(twice), Err(Refused::NoReady));
    }

    #[test]
    fn a_refusal_stands() {
        let mut handshake = Handshake::new(SocketType::Router, b"");
        assert_eq!(handshake.feed(b"x"), Err(Refused::NoGreeting));
        assert_eq!(handshake.feed(&greeting(|_| ())), Err(Refused::NoGreeting));
        assert_eq!(handshake.peer(), None);
    }

    /// A handshake, with a byte or two of it changed.
    fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
        let good = [greeting(|_| ()), ready(SocketType::Dealer, &[1; 40]), b"\0\x05hello".to_vec()].concat();
        prop::collection::vec((0..good.len(), any::<u8>()), 0..3).prop_map(move |changes| {
            let mut bytes = good.clone();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_pieces_give_one_verdict(
            bytes in prop_oneof![nearly_good(), prop::collection::vec(any::<u8>(), 0..200)],
            pieces in prop::collection::vec(1..20_usize, 0..200),
        ) {
            let whole = judge(&bytes);
            let mut handshake = Handshake::new(SocketType::Router, b"");
            let (mut rest, mut total, mut refused) = (&bytes[..], 0, None);
            for piece in pieces.into_iter().chain([bytes.len()]) {
                let (piece, after) = rest.split_at(piece.min(rest.len()));
                match handshake.feed(piece) {
                    Ok(taken) => total += taken,
                    Err(why) => refused = Some(why),
                }
                rest = after;
                prop_assert!(handshake.received.len() <= READY_LIMIT);
            }
            match whole {
                Ok(verdict) => prop_assert_eq!((refused, (handshake.peer(), total)), (None, verdict)),
                Err(why) => prop_assert_eq!(refused, Some(why)),
            }
        }
    }
}
