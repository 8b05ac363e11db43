//! A file that may be read but not written: what is written lands in memory. A damaged file is opened, repaired and read through it first, so that whatever
//! is wrong is found before a byte of the file has changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

/// Bytes of a page of the overlay: as the file's own pages are.
const PAGE: u64 = 4_096;

#[derive(Debug)]
pub(super) struct DryRun {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// The file's own length: beyond it there are zeros.
    backed: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl DryRun {
    pub fn new(file: File) -> io::Result<DryRun> {
        let length = file.metadata()?.len();
        Ok(DryRun { file, written: Mutex::new(Written { length, backed: length, pages: BTreeMap::new() }) })
    }

    fn page(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize];
        let start = number * PAGE;
        let there = written.backed.saturating_sub(start).min(PAGE) as usize;
        self.file.read_exact_at(&mut page[..there], start)?;
        Ok(page)
    }
}

/// The parts of `offset..offset + length` by page: its number, where in it, how much.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, end) = (offset, offset + length as u64);
    std::iter::from_fn(move || {
        let (number, within) = (at / PAGE, at % PAGE);
        let much = (PAGE - within).min(end.checked_sub(at).filter(|left| *left > 0)?);
        at += much;
        Some((number, within as usize, much as usize))
    })
}

impl StorageBackend for DryRun {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if written.pages.is_empty() && offset + out.len() as u64 <= written.backed {
            return self.file.read_exact_at(out, offset);
        }
        let mut filled = 0;
        for (number, within, much) in parts(offset, out.len()) {
            let page = self.page(&written, number)?;
            out[filled..filled + much].copy_from_slice(&page[within..within + much]);
            filled += much;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if length < written.length {
            written.backed = written.backed.min(length);
            written.pages.retain(|number, _| number * PAGE < length);
            if let Some(page) = written.pages.get_mut(&(length / PAGE)) {
                page[(length % PAGE) as usize..].fill(0);
            }
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        for (number, within, much) in parts(offset, data.len()) {
            let mut page = self.page(&written, number)?;
            page[within..within + much].copy_from_slice(&data[taken..taken + much]);
            written.pages.insert(number, page);
            taken += much;
        }
        Ok(())
    }
}
