//! What stands between redb and the file. It keeps the file's first part, preface and log, apart from redb, whose own begins behind that. While a store is being opened nothing is written: what redb would write to repair the file is held in memory until
//! all content has been read and found whole, so a damaged file stays as it was. And after the first write or sync that failed nothing is done any
//! more: a later sync may say that all is well although pages were lost (Rebello et al., USENIX ATC 2020, "Can applications recover from fsync failures?").
//!
//! It is not a cache: what is held is a handful of pages, since redb repairs in a few writes.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// A backend that can be put on trial. A handle: its clones are the same backend.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Box<dyn StorageBackend>,
    /// Where redb's part begins.
    start: u64,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
enum Phase {
    /// Not written yet.
    Trial(Vec<Change>),
    Open,
    /// Nothing is done any more.
    Failed,
}

#[derive(Debug)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
    Sync,
}

impl Guard {
    /// On trial. redb's part begins at `start`.
    pub fn new(file: impl StorageBackend, start: u64) -> Self {
        let phase = Mutex::new(Phase::Trial(Vec::new()));
        Guard(Arc::new(Inner { file: Box::new(file), start, phase }))
    }

    /// Reads in front of redb's part.
    pub fn read_log(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read(offset, out)
    }

    /// Writes in front of redb's part, and syncs.
    pub fn write_log(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        debug_assert!(offset + data.len() as u64 <= self.0.start, "the log ends where redb begins");
        self.change(|| Change::Write(offset, data.to_vec()), || self.0.file.write(offset, data))?;
        self.sync_data()
    }

    /// Where in the file a place of redb's is.
    fn place(&self, offset: u64) -> io::Result<u64> {
        offset.checked_add(self.0.start).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The content is whole: writes what was held, in the order in which it was asked for, and everything at once from now on.
    pub fn accept(&self) -> io::Result<()> {
        let mut phase = self.phase();
        let Phase::Trial(changes) = std::mem::replace(&mut *phase, Phase::Failed) else {
            return Err(io::Error::other("it was decided before"));
        };
        for change in changes {
            match change {
                Change::Length(length) => self.0.file.set_len(length)?,
                Change::Write(offset, data) => self.0.file.write(offset, &data)?,
                Change::Sync => self.0.file.sync_data()?,
            }
        }
        *phase = Phase::Open;
        Ok(())
    }

    /// The content is not whole: nothing is written, now or later.
    pub fn reject(&self) {
        *self.phase() = Phase::Failed;
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a change, or holds it.
    fn change(
        &self,
        change: impl FnOnce() -> Change,
        now: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut phase = self.phase();
        match &mut *phase {
            Phase::Trial(changes) => {
                changes.push(change());
                Ok(())
            }
            Phase::Open => {
                let done = now();
                if done.is_err() {
                    *phase = Phase::Failed;
                }
                done
            }
            Phase::Failed => Err(failed()),
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("an earlier write or sync has failed, so nothing more is written")
}

/// The length after the changes.
fn length_after(file: u64, changes: &[Change]) -> u64 {
    changes.iter().fold(file, |length, change| match change {
        Change::Length(length) => *length,
        Change::Write(offset, data) => length.max(offset.saturating_add(data.len() as u64)),
        Change::Sync => length,
    })
}

/// Reads the file as it would be after the changes.
fn read_after(file: &dyn StorageBackend, changes: &[Change], offset: u64, out: &mut [u8]) -> io::Result<()> {
    let in_file = file.len()?;
    let end = offset.saturating_add(out.len() as u64);
    if end > length_after(in_file, changes) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    out.fill(0);
    let there = in_file.clamp(offset, end) - offset;
    // Fits: it is within `out`.
    file.read(offset, &mut out[..there as usize])?;
    for change in changes {
        match change {
            Change::Length(length) => {
                let kept = (*length).clamp(offset, end) - offset;
                out[kept as usize..].fill(0);
            }
            Change::Write(at, data) => {
                let (from, to) = (offset.max(*at), end.min(at.saturating_add(data.len() as u64)));
                if from < to {
                    let source = &data[(from - at) as usize..(to - at) as usize];
                    out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
                }
            }
            Change::Sync => {}
        }
    }
    Ok(())
}

impl StorageBackend for Guard {
    fn len(&self) -> io::Result<u64> {
        let file = self.0.file.len()?;
        let length = match &*self.phase() {
            Phase::Trial(changes) => length_after(file, changes),
            _ => file,
        };
        Ok(length.saturating_sub(self.0.start))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = self.place(offset)?;
        // Reads need no lock once nothing is held.
        match &*self.phase() {
            Phase::Trial(changes) => return read_after(&*self.0.file, changes, offset, out),
            Phase::Failed => return Err(failed()),
            Phase::Open => {}
        }
        self.0.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = self.place(len)?;
        self.change(|| Change::Length(len), || self.0.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|| Change::Sync, || self.0.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = self.place(offset)?;
        self.change(|| Change::Write(offset, data.to_vec()), || self.0.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
