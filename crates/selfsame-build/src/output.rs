//! Files that are touched only when their content changes: so neither Cargo nor an editor sees a change where there is none.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::Error;

/// Writes a file, unless it holds this text already.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    if is_current(path, text)? {
        return Ok(());
    }
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|error| Error::io(path, error))
}

/// Fails if a committed file does not hold this text.
pub(crate) fn check(path: &Path, text: &str) -> Result<(), Error> {
    if is_current(path, text)? { Ok(()) } else { Err(Error::Stale { path: path.to_owned() }) }
}

fn is_current(path: &Path, text: &str) -> Result<bool, Error> {
    match fs::read(path) {
        // A checkout may have turned line ends into the system's own.
        Ok(bytes) => Ok(bytes == text.as_bytes()
            || String::from_utf8(bytes).is_ok_and(|old| old.replace("\r\n", "\n") == text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
    }
}
