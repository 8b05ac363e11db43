//! Goal: the bytes that `docs/wire.md` shows are the bytes that travel. Method: each block of the document that begins with
//! ```` ```hex <name> ```` is compared with what the encoder makes of the same entry, and decoded.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::wire::{Answer, Call, Encoder, Entry, Hello, Limits, Reply, Welcome, decode};
use selfsame::protocol::{CallId, Incarnation, Level, Registration, RetryClass, Session, Stamp, WallTime};

const REGISTRATION: Registration = Registration(0x2122_2324_2526_2728_292a_2b2c_2d2e_2f30);
const INCARNATION: Incarnation = Incarnation(0x3132_3334_3536_3738);
const STAMP: Stamp = Stamp(0x4142_4344_4546_4748);

/// What the library sends for the blocks of the document, by their names.
fn examples() -> [(&'static str, Entry); 4] {
    let hello = Hello {
        id: 1,
        version: 1,
        session: Session(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        resume: None,
        acked_below: 1,
        contracts: Vec::new(),
    };
    let welcome = Welcome {
        hello: 1,
        version: 1,
        registration: REGISTRATION,
        incarnation: INCARNATION,
        stamp: STAMP,
        store: 0x5152_5354_5556_5758_595a_5b5c_5d5e_5f60,
        generation: 0x3132_3334_3536_3738,
        level: Level::Memory,
        ordinal: 0,
        retention: Duration::from_secs(600),
        window: 1024,
        heartbeat: Duration::from_secs(5),
        body_limit: 16 * 1024 * 1024,
        contracts: Vec::new(),
    };
    let call = Call {
        registration: REGISTRATION,
        incarnation: INCARNATION,
        first_stamp: STAMP,
        id: CallId::Sequenced(1),
        interface: 0xd8ac_8b2e_1a6f_3c57,
        method: 0,
        retry: RetryClass::Once,
        attempt: 1,
        time_left: Duration::from_secs(2),
        acked_below: 1,
        trace: None,
        issued: WallTime(1_790_000_000_000),
        metadata: Vec::new(),
        body: body(&[5 << 32, 2 << 48, 0x22_0000_0005, 0x3a_0000_0005, text("ann"), text("s3cret")]),
    };
    let reply = Reply {
        registration: REGISTRATION,
        id: CallId::Sequenced(1),
        attempt: 1,
        replayed: false,
        answer: Answer::Ok(body(&[2 << 32, 1 << 32, 2])),
    };
    [
        ("hello", Entry::Hello(hello)),
        ("welcome", Entry::Welcome(welcome)),
        ("call", Entry::Call(call)),
        ("reply", Entry::Reply(reply)),
    ]
}

/// A Cap'n Proto message, as its little-endian words.
fn body(words: &[u64]) -> Bytes {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn text(text: &str) -> u64 {
    text.bytes().rev().fold(0, |word, byte| word << 8 | u64::from(byte))
}

/// The frames of a block: `frame <number>` begins one; a line has an offset, eight bytes, and what they are.
fn documented(name: &str) -> Vec<Bytes> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire.md");
    let document = fs::read_to_string(path).expect("the document");
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let block = document.lines().skip_while(|line| *line != format!("```hex {name}")).skip(1);
    for line in block.take_while(|line| *line != "```") {
        if line.starts_with("frame ") {
            frames.push(Vec::new());
            continue;
        }
        let frame = frames.last_mut().expect("a block begins with `frame 0`");
        let offset = usize::from_str_radix(&line[..4], 16).expect("an offset");
        assert_eq!(offset, frame.len(), "{name}: {line}");
        let bytes = line[6..29].split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
        frame.extend(bytes);
    }
    frames.into_iter().map(Bytes::from).collect()
}

fn dump(frames: &[Bytes]) -> String {
    let mut dump = String::new();
    for (number, frame) in frames.iter().enumerate() {
        writeln!(dump, "frame {number}").expect("a string takes it");
        for (at, word) in frame.chunks(8).enumerate() {
            let bytes: Vec<_> = word.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(dump, "{:04x}  {}", at * 8, bytes.join(" ")).expect("a string takes it");
        }
    }
    dump
}

#[test]
fn the_documented_bytes_are_those_that_travel() {
    let limits = Limits::default();
    for (name, entry) in examples() {
        let mut encoder = Encoder::new(limits);
        encoder.push(entry.clone()).expect("within the limits");
        let sent = encoder.finish();
        let documented = documented(name);
        assert!(sent == documented, "docs/wire.md, block {name}, should be\n{}", dump(&sent));
        let decoded = decode(&documented, &limits).expect("a valid message");
        assert_eq!(decoded.entries, [Ok(entry)]);
    }
}

#[test]
fn the_documented_limits_are_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire.md");
    let document = fs::read_to_string(path).expect("the document");
    let limits = Limits::default();
    for (what, limit) in [
        ("header", limits.header as usize),
        ("one body", limits.body as usize),
        ("entries of a message", limits.entries),
        ("frames of a message, the header included", limits.frames),
        ("metadata of a call, names and values together", limits.metadata_bytes),
        ("names of metadata of a call", limits.metadata_count),
        ("a text for people", limits.text),
    ] {
        let row = format!("| {what} | {limit} |");
        assert!(document.contains(&row), "docs/wire.md should have the row {row}");
    }
}
