//! The log in front of the tables: what a batch changes is written here, in one piece, and synced; the tables get it in bulk, and more seldom. A commit of redb
//! writes some ten pages all over the file, and takes as long as three syncs of one; an entry here is a page or two that the file has already.
//!
//! It is not a second copy of the store: its entries are void as soon as a commit of the tables that has them is durable, and then it is written from its
//! beginning again. Between two commits of the tables it holds at most [`ROWS`] rows, and at most what fits into its part of the file.
//!
//! The file:
//!
//! | offset | bytes |
//! | --- | --- |
//! | 0 | preface: magic 8, version 2, length of preface and log 4, secret 16, XXH3 of these 8; zeros up to 512 |
//! | 512 | the log: entries, each beginning at a multiple of 512 |
//! | as the preface says | the database of redb |
//!
//! An entry: checksum 8, number 8, length 4, then its rows: `h`, `r`, `s` or `k`, the key, 1 and length 4 and the value, or 0 if the row goes. The checksum is XXH3 over
//! the secret, the store's ordinal, and what follows. So an entry of an earlier life of the server is none, and nobody can make one, within a reply say, who
//! does not know the secret, which is never told.
//!
//! Entries are numbered from 1 in each life, and the head of the store says up to which number its tables have them. One at most is not synced at any time.
//! So of the later ones those that are whole follow one another, and a torn one is the last. If there is a gap, bits were flipped.

use std::collections::BTreeMap;
use std::io;

use xxhash_rust::xxh3::Xxh3Default;

use super::Failure;
use super::codec::{Broken, MAGIC, Reader, Row, VERSION};
use super::guard::Guard;
use crate::protocol::store::RecordId;
use crate::protocol::{PrincipalId, Registration};

/// Of preface and log in a new file. 512 KiB: a thousand entries of one call each, so that alone a call pays a thousandth of a commit of the tables; an entry
/// that does not fit is committed to them at once.
pub(super) const LENGTH: u32 = 512 * 1024;

/// Rows in the log after which the tables get them. 1,024: if each is on a page of its own, writing those keeps callers waiting for some 20 ms.
const ROWS: usize = 1024;

/// What a disk writes as one.
pub(super) const SECTOR: usize = 512;

const HEADER: usize = 20;

/// The beginning of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preface {
    /// Of preface and log, in bytes. A multiple of 4,096, which are redb's pages.
    pub length: u32,
    secret: u128,
}

impl Preface {
    pub fn new(length: u32) -> Self {
        Preface { length, secret: crate::random::u128() }
    }

    /// With the log, which is empty.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(self.length.to_le_bytes());
        out.extend(self.secret.to_le_bytes());
        out.extend(xxhash_rust::xxh3::xxh3_64(&out).to_le_bytes());
        out.resize(self.length as usize, 0);
        out
    }

    /// Of the beginning of a file, so many bytes of it as there are.
    pub fn decode(start: &[u8]) -> Result<Self, Failure> {
        const SEALED: usize = 30;
        if !start.starts_with(&MAGIC) {
            return Err(Failure::NotAStore);
        }
        let broken = || Broken::Checksum("the beginning of the file".into());
        let (sealed, checksum) = start.split_at_checked(SEALED).ok_or_else(broken)?;
        if !checksum.starts_with(&xxhash_rust::xxh3::xxh3_64(sealed).to_le_bytes()) {
            return Err(broken().into());
        }
        let mut reader = Reader(&sealed[MAGIC.len()..]);
        match reader.u16() {
            Some(VERSION) => {}
            Some(other) => return Err(Broken::Version(other).into()),
            None => return Err(broken().into()),
        }
        let (Some(length), Some(secret)) = (reader.u32(), reader.u128()) else { return Err(broken().into()) };
        match length.is_multiple_of(4096) && length > 0 {
            true => Ok(Preface { length, secret }),
            false => Err(Broken::Content("the beginning of the file".into()).into()),
        }
    }

    fn checksum(&self, ordinal: u64, sealed: &[u8]) -> [u8; 8] {
        let mut hash = Xxh3Default::new();
        hash.update(&self.secret.to_le_bytes());
        hash.update(&ordinal.to_le_bytes());
        hash.update(sealed);
        hash.digest().to_le_bytes()
    }
}

/// Rows that were changed, as the log has them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    bytes: Vec<u8>,
    rows: usize,
}

impl Changes {
    pub fn put(&mut self, row: Row, value: &[u8]) {
        self.key(row);
        self.bytes.push(1);
        // A reply is shorter than a frame, which is shorter than 4 GiB.
        self.bytes.extend((value.len() as u32).to_le_bytes());
        self.bytes.extend(value);
    }

    pub fn remove(&mut self, row: Row) {
        self.key(row);
        self.bytes.push(0);
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Nothing that may wait should wait any longer.
    pub fn are_many(&self) -> bool {
        self.rows >= ROWS
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
    }

    fn key(&mut self, row: Row) {
        self.rows += 1;
        match row {
            Row::Head => self.bytes.push(b'h'),
            Row::Session(registration) => {
                self.bytes.push(b'r');
                self.bytes.extend(registration.0.to_le_bytes());
            }
            Row::Record(RecordId::Sequenced(registration, number)) => {
                self.bytes.push(b's');
                self.bytes.extend(registration.0.to_le_bytes());
                self.bytes.extend(number.to_le_bytes());
            }
            Row::Record(RecordId::Keyed(principal, key)) => {
                self.bytes.push(b'k');
                self.bytes.extend(principal.0.to_le_bytes());
                self.bytes.extend(key.to_le_bytes());
            }
        }
    }
}

/// One changed row of an entry: which, and its value, or none if it goes.
fn change<'a>(reader: &mut Reader<'a>) -> Option<(Row, Option<&'a [u8]>)> {
    let row = match reader.u8()? {
        b'h' => Row::Head,
        b'r' => Row::Session(Registration(reader.u128()?)),
        b's' => Row::Record(RecordId::Sequenced(Registration(reader.u128()?), reader.u64()?)),
        b'k' => Row::Record(RecordId::Keyed(PrincipalId(reader.u64()?), reader.u128()?)),
        _ => return None,
    };
    let value = match reader.flag()? {
        false => None,
        true => {
            let length = reader.u32()?;
            Some(reader.bytes(length as usize)?)
        }
    };
    Some((row, value))
}

/// What the entries say that are later than `applied`, in their order.
pub(super) fn read(
    preface: &Preface,
    guard: &Guard,
    ordinal: u64,
    applied: u64,
    mut each: impl FnMut(Row, Option<&[u8]>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut log = vec![0; preface.length as usize - SECTOR];
    guard.read_log(SECTOR as u64, &mut log)?;
    let found = (0..log.len()).step_by(SECTOR).filter_map(|at| entry(preface, ordinal, &log[at..]));
    let entries: BTreeMap<u64, &[u8]> = found.filter(|(number, _)| *number > applied).collect();
    for (expected, (number, rows)) in (applied + 1..).zip(entries) {
        if number != expected {
            return Err(Broken::Gap(expected).into());
        }
        let mut reader = Reader(rows);
        while !reader.is_empty() {
            let senseless = || Broken::Content(format!("entry {number} of the log"));
            let (row, value) = change(&mut reader).ok_or_else(senseless)?;
            each(row, value)?;
        }
    }
    Ok(())
}

/// The entry that begins here, if one does: its number and its rows.
fn entry<'a>(preface: &Preface, ordinal: u64, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (checksum, sealed) = bytes.split_first_chunk::<8>()?;
    let mut reader = Reader(sealed);
    let (number, length) = (reader.u64()?, reader.u32()? as usize);
    let rows = reader.bytes(length)?;
    let is_one = length > 0 && *checksum == preface.checksum(ordinal, &sealed[..HEADER - 8 + length]);
    is_one.then_some((number, rows))
}

/// The log of a store that is open.
#[derive(Debug)]
pub(super) struct Log {
    guard: Guard,
    preface: Preface,
    ordinal: u64,
    /// Of the last entry.
    number: u64,
    /// Where the next one begins.
    at: usize,
    /// In the entries since the beginning.
    rows: usize,
    /// Of the entry under way; kept for its memory.
    buffer: Vec<u8>,
}

impl Log {
    /// Of a life that has written nothing yet.
    pub fn new(guard: Guard, preface: Preface, ordinal: u64) -> Self {
        Log { guard, preface, ordinal, number: 0, at: SECTOR, rows: 0, buffer: Vec::new() }
    }

    /// The number of the last entry.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Writes an entry and syncs it. False: there is no room, and nothing was done.
    pub fn append(&mut self, changes: &Changes) -> io::Result<bool> {
        let length = (HEADER + changes.bytes.len()).next_multiple_of(SECTOR);
        if self.rows >= ROWS || length > self.preface.length as usize - self.at {
            return Ok(false);
        }
        self.buffer.clear();
        self.buffer.extend([0; 8]);
        self.buffer.extend((self.number + 1).to_le_bytes());
        self.buffer.extend((changes.bytes.len() as u32).to_le_bytes());
        self.buffer.extend(&changes.bytes);
        let checksum = self.preface.checksum(self.ordinal, &self.buffer[8..]);
        self.buffer[..8].copy_from_slice(&checksum);
        self.buffer.resize(length, 0);
        self.guard.write_log(self.at as u64, &self.buffer)?;
        self.number += 1;
        self.at += length;
        self.rows += changes.rows;
        Ok(true)
    }

    /// It is time for the tables to get what is in it.
    pub fn is_full(&self) -> bool {
        let length = self.preface.length as usize;
        self.rows >= ROWS || length - self.at < length / 8
    }

    /// The tables have all of it, durably.
    pub fn begin_again(&mut self) {
        self.at = SECTOR;
        self.rows = 0;
    }
}
