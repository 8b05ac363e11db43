//! The floor: bytes over TCP, and back as they came. A length, a number and the payload are all that a message has; the server does not even look.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::load::{Load, Meter, Pipe, windowed};
use crate::peer::{Client, Doing, Peer, Ready, number_of};
use crate::rounds::Cell;

/// As large as the largest reads that pay.
const BUFFER: usize = 256 * 1024;

pub struct Raw;

impl Peer for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn about(&self) -> &'static str {
        "a bare echo of bytes over tokio's TCP: the floor"
    }

    fn takes_part(&self, _: &Cell) -> bool {
        true
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(listener.local_addr()?.to_string(), Vec::new());
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(async {
                    if let Err(error) = echo(stream).await {
                        eprintln!("raw: {error}");
                    }
                });
            }
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async {
            let stream = TcpStream::connect(endpoint).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(RawClient { stream, out: BytesMut::new(), read: BytesMut::new() }) as _)
        })
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

struct RawClient {
    stream: TcpStream,
    out: BytesMut,
    read: BytesMut,
}

impl Client for RawClient {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        Box::pin(async move { windowed(&load, self).await })
    }
}

impl Pipe for RawClient {
    fn submit(&mut self, number: u64, payload: &Bytes) -> Result<()> {
        self.out.put_u32_le(u32::try_from(8 + payload.len())?);
        self.out.put_u64_le(number);
        self.out.extend_from_slice(payload);
        Ok(())
    }

    async fn echoes(&mut self, numbers: &mut Vec<u64>) -> Result<()> {
        let (mut reader, mut writer) = self.stream.split();
        while numbers.is_empty() {
            self.read.reserve(BUFFER);
            let length = tokio::select! {
                biased;
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written?;
                    continue;
                }
                length = reader.read_buf(&mut self.read) => length?,
            };
            if length == 0 {
                return Err("the server has closed the connection".into());
            }
            while let Some(message) = next_message(&mut self.read) {
                numbers.push(number_of(&message)?);
            }
        }
        Ok(())
    }
}

fn next_message(read: &mut BytesMut) -> Option<BytesMut> {
    let length = u32::from_le_bytes(*read.first_chunk()?) as usize;
    if read.len() < 4 + length {
        return None;
    }
    read.advance(4);
    Some(read.split_to(length))
}
