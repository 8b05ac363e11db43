//! What an honest ZMTP 3 peer says before its first message, and how it frames one: for tests and attackers that write their bytes by hand. It keeps no rule:
//! a frame says what it is told to say.

/// A frame's flag: more frames of its message follow.
pub const MORE: u8 = 0b001;
/// A frame's flag: its length takes eight bytes.
pub const LONG: u8 = 0b010;
/// A frame's flag: it is a command.
pub const COMMAND: u8 = 0b100;

/// The 64 bytes that begin a connection.
pub fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[8] = 1;
    greeting[9] = 0x7f;
    greeting[10..12].copy_from_slice(&[3, 1]); // as libzmq 4.3 does
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// The command that follows it.
pub fn ready(kind: &str, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&(kind.len() as u32).to_be_bytes());
    body.extend_from_slice(kind.as_bytes());
    body.extend_from_slice(b"\x08Identity");
    body.extend_from_slice(&(identity.len() as u32).to_be_bytes());
    body.extend_from_slice(identity);
    frame(COMMAND, &body)
}

/// A frame, in its short form if that can be.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(length) => [&[flags, length], body].concat(),
        Err(_) => [&long_header(flags, body.len() as u64)[..], body].concat(),
    }
}

/// The beginning of a frame that says it has so many bytes, in the long form.
pub fn long_header(flags: u8, length: u64) -> [u8; 9] {
    let mut header = [flags | LONG, 0, 0, 0, 0, 0, 0, 0, 0];
    header[1..].copy_from_slice(&length.to_be_bytes());
    header
}
