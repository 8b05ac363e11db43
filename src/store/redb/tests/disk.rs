//! A disk that fails at a given step, and then keeps any part of what was not synced. Not a file: bytes in memory.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{BackendError, StorageBackend};

/// What a disk keeps or loses as one.
const SECTOR: usize = 512;

/// A handle: its clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is read.
    now: Vec<u8>,
    /// What is kept for certain.
    synced: Vec<u8>,
    since: Vec<Change>,
    /// Writes, changes of the length and syncs so far.
    asked: usize,
    fail_at: usize,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Sector(usize, Vec<u8>),
}

impl Disk {
    /// Fails at the step of this number, and at every later one.
    pub fn new(content: Vec<u8>, fail_at: usize) -> Self {
        let state = State { now: content.clone(), synced: content, since: Vec::new(), asked: 0, fail_at };
        Disk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under this lock")
    }

    pub fn asked(&self) -> usize {
        self.state().asked
    }

    pub fn has_failed(&self) -> bool {
        let state = self.state();
        state.asked > state.fail_at
    }

    pub fn fail_from_now_on(&self) {
        let mut state = self.state();
        state.fail_at = state.asked;
    }

    /// What may be found after a crash of the machine: what was synced, and of the rest any sectors, and any number of the changes of the length,
    /// from the first (a file system keeps those in order). Data beyond the length that is kept is not reachable.
    pub fn after_a_crash(&self, seed: u64) -> Vec<u8> {
        let mut dice = seed | 1;
        let mut roll = move || {
            // Xorshift (Marsaglia 2003).
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice
        };
        // Some crashes keep all, some nothing: the corners matter.
        let kept_of_four = roll() % 5;
        let state = self.state();
        let mut content = state.synced.clone();
        let mut lengths_are_kept = true;
        for change in &state.since {
            let kept = roll() % 4 < kept_of_four;
            match change {
                Change::Length(length) => {
                    lengths_are_kept &= kept;
                    if lengths_are_kept {
                        content.resize(*length, 0);
                    }
                }
                Change::Sector(at, data) if kept && at + data.len() <= content.len() => {
                    content[*at..at + data.len()].copy_from_slice(data);
                }
                Change::Sector(..) => {}
            }
        }
        content
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.asked += 1;
        match self.asked > self.fail_at {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = offset as usize;
        let source = state.now.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(source);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.now.resize(len as usize, 0);
        state.since.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let state = &mut *state;
        for change in state.since.drain(..) {
            match change {
                Change::Length(length) => state.synced.resize(length, 0),
                Change::Sector(at, data) => state.synced[at..at + data.len()].copy_from_slice(&data),
            }
        }
        Ok(())
    }

    /// A write that fails may have been done in part: its sectors count as written, and are lost or kept as others are.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let done = state.step();
        let mut at = offset as usize;
        let mut rest = data;
        while !rest.is_empty() {
            let (sector, left) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            state.since.push(Change::Sector(at, sector.to_vec()));
            (at, rest) = (at + sector.len(), left);
        }
        done?;
        let from = offset as usize;
        state.now[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
