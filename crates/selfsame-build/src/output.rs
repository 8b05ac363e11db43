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

/// Whether a file lies in a package that Cargo has unpacked, whose files are not ours to change: a registry's, a vendored one, or one of
/// another's repository, whose mark is at the repository's root.
pub(crate) fn is_unpacked(path: &Path) -> bool {
    const MARKS: [&str; 3] = [".cargo-ok", ".cargo-checksum.json", ".cargo_vcs_info.json"];
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().any(|folder| MARKS.iter().any(|mark| folder.join(mark).is_file()))
}

/// Fails if a package came without its generated code.
pub(crate) fn present(path: &Path) -> Result<(), Error> {
    if path.is_file() {
        return Ok(());
    }
    let why = "it was generated, but is missing in this package: its author has to commit it, and may not exclude it";
    Err(Error::Input { path: path.to_owned(), why: why.to_owned() })
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
