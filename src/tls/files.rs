//! PEM files, and what is made of them for as long as they stay as they are.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The longest PEM file that is read: all the roots of a browser are a quarter of it.
const LIMIT: u64 = 1 << 20;

/// A file that is of no use, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(crate) struct Unusable {
    path: PathBuf,
    why: String,
    /// It may be of use yet, as it is: this process could not open it just now.
    for_now: bool,
}

impl Unusable {
    pub fn new(path: &Path, why: impl fmt::Display) -> Unusable {
        Unusable { path: path.to_owned(), why: why.to_string(), for_now: false }
    }

    fn unread(path: &Path, error: &io::Error) -> Unusable {
        let passes = !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
        Unusable { for_now: passes, ..Unusable::new(path, format!("it cannot be read: {error}")) }
    }
}

/// What is made of some files.
pub(crate) trait Source {
    type Made;

    fn paths(&self) -> Vec<PathBuf>;

    fn make(&self) -> Result<Self::Made, Unusable>;

    /// Hears of every time that changed files were read: whether they were usable.
    fn told(&self, usable: bool);
}

/// What the files of a source say, as long as they say something usable.
pub(crate) struct Live<S: Source> {
    source: S,
    state: Mutex<State<S::Made>>,
}

struct State<T> {
    /// As the files were when they were last read, usable or not.
    stamps: Vec<Option<Stamp>>,
    made: Arc<T>,
    /// They could not be read last time, and are not tried again before.
    rests_until: Option<Instant>,
}

/// How long files that could not be read rest.
const REST: Duration = Duration::from_secs(1);

/// What tells a file from another, or from itself when it was written to. The change time cannot be set back by a copy that keeps times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<S: Source> Live<S> {
    pub fn open(source: S) -> Result<Live<S>, Unusable> {
        let stamps = stamps(&source); // before the files are read: what changes meanwhile is seen next time
        let made = Arc::new(source.make()?);
        Ok(Live { source, state: Mutex::new(State { stamps, made, rests_until: None }) })
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    /// What the files say now; if that is of no use, what they said before. To be asked for every connection: it costs a few microseconds.
    pub fn current(&self) -> Arc<S::Made> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.source);
        let rests = state.rests_until.is_some_and(|until| Instant::now() < until);
        if stamps != state.stamps && !rests {
            state.rests_until = None;
            let before = std::mem::replace(&mut state.stamps, stamps);
            match self.source.make() {
                Ok(made) => {
                    state.made = Arc::new(made);
                    tracing::info!("certificates were read anew; new connections use them");
                    self.source.told(true);
                }
                Err(error) => {
                    if error.for_now {
                        state.stamps = before; // as if nobody had looked
                        state.rests_until = Some(Instant::now() + REST);
                    }
                    tracing::error!(%error, "changed certificates are of no use; those before stay in use");
                    self.source.told(false);
                }
            }
        }
        state.made.clone()
    }
}

fn stamps(source: &impl Source) -> Vec<Option<Stamp>> {
    source.paths().iter().map(|path| fs::metadata(path).ok().as_ref().map(Stamp::of)).collect()
}

impl Stamp {
    fn of(found: &fs::Metadata) -> Stamp {
        Stamp {
            place: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// All certificates in a file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| Unusable::new(path, format!("it is damaged: {error}")))?;
    if found.is_empty() {
        return Err(Unusable::new(path, "there is no certificate in it; it must be PEM"));
    }
    Ok(found)
}

pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => {
                "there is no private key in it; it must be PEM, and not encrypted".into()
            }
            error => format!("it is damaged: {error}"),
        };
        Unusable::new(path, why)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let cannot = |error: io::Error| Unusable::unread(path, &error);
    // Looked at first: to open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(Unusable::new(path, "it is not a file"));
    }
    let mut text = Vec::new();
    File::open(path).map_err(cannot)?.take(LIMIT + 1).read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > LIMIT {
        return Err(Unusable::new(path, format!("it is longer than {LIMIT} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Counted {
        file: PathBuf,
        reads: Cell<u32>,
        unread: Cell<bool>,
    }

    impl Source for Counted {
        type Made = u32;

        fn paths(&self) -> Vec<PathBuf> {
            vec![self.file.clone()]
        }

        fn make(&self) -> Result<u32, Unusable> {
            self.reads.set(self.reads.get() + 1);
            match self.unread.get() {
                true => Err(Unusable::unread(&self.file, &io::Error::other("too many open files"))),
                false => Ok(self.reads.get()),
            }
        }

        fn told(&self, _: bool) {}
    }

    #[test]
    fn a_changed_file_that_cannot_be_read_for_now_is_read_later() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "before").unwrap();
        let live = Live::open(Counted { file: file.clone(), reads: Cell::new(0), unread: Cell::new(false) })
            .unwrap();
        fs::write(&file, "changed since").unwrap();
        live.source.unread.set(true);
        assert_eq!((*live.current(), *live.current()), (1, 1));
        assert_eq!(live.source.reads.get(), 2, "it rests");
        live.source.unread.set(false);
        live.state.lock().unwrap().rests_until = Some(Instant::now());
        assert_eq!((*live.current(), *live.current()), (3, 3));
    }
}
