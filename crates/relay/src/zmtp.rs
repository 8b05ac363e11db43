//! As much of ZMTP 3 as a relay needs: where greeting, handshake and messages begin and end. Bytes stay as they came.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::honest::{COMMAND, LONG, MORE};

const GREETING: usize = 64;
/// Far more than either side ever sends.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Passes on the greeting and the first command, READY: all that the NULL handshake has in one direction.
pub async fn handshake(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    // In pieces, as it comes: libzmq sends the rest of its greeting only when it has seen the beginning of the other's.
    let (mut greeting, mut left) = ([0; GREETING], GREETING);
    while left > 0 {
        let count = from.read(&mut greeting[..left]).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&greeting[..count]).await?;
        left -= count;
    }
    let ready = message(from).await?;
    if !is_command(&ready) {
        return Err(io::Error::new(ErrorKind::InvalidData, "a message before the handshake was over"));
    }
    to.write_all(&ready).await
}

/// Reads a whole message of one or more frames, or one command.
pub async fn message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while frame(from, &mut bytes).await? & MORE != 0 {}
    Ok(bytes)
}

/// Whether what [`message`] read is a command: the sockets' own business.
pub fn is_command(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & COMMAND != 0)
}

/// Appends the next frame to `bytes`, and returns its flags.
async fn frame(from: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<u8> {
    let flags = from.read_u8().await?;
    bytes.push(flags);
    let length = if flags & LONG != 0 {
        let length = from.read_u64().await?;
        bytes.extend(length.to_be_bytes());
        length
    } else {
        let length = from.read_u8().await?;
        bytes.push(length);
        u64::from(length)
    };
    if length > LONGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let start = bytes.len();
    bytes.resize(start + length as usize, 0);
    from.read_exact(&mut bytes[start..]).await?;
    Ok(flags)
}
