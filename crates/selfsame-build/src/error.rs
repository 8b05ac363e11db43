//! What can go wrong, in words that say where, what, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Why no code was generated.
///
/// `Debug` prints the same text as `Display`, so that `fn main() -> Result<(), selfsame_build::Error>` in a `build.rs` reads well.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The schema compiler is not installed.
    #[error(
        "the Cap'n Proto schema compiler `{tool}` was not found; selfsame-build needs it to read contracts.\n\
         Install it:\n  Debian, Ubuntu: apt-get install capnproto\n  Fedora:         dnf install capnproto\n  \
         macOS:          brew install capnp\n\
         or name the tool's path with Config::capnp, or commit the generated code with Config::checked_in."
    )]
    CompilerMissing {
        /// What was to be run.
        tool: PathBuf,
    },
    /// The schema compiler could not be run, or refused the schemas; its own words say where and why.
    #[error("`{tool} compile` failed:\n{words}")]
    Compiler {
        /// What was run.
        tool: PathBuf,
        /// What it printed.
        words: String,
    },
    /// The contracts say what cannot work. All such places are listed.
    #[error("{}", Listed(.0))]
    Refused(Vec<Refusal>),
    /// The committed code is not what the contracts generate (only when checking, see [`Config::check`](crate::Config::check)).
    #[error(
        "{path} is not what the contracts generate: build once without SELFSAME_CHECK, and commit the file"
    )]
    Stale {
        /// The committed file.
        path: PathBuf,
    },
    /// Nothing was found to compile, or to use in its stead.
    #[error("{path}: {why}")]
    Input {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is nowhere to write to.
    #[error(
        "OUT_DIR is not set: call this from a build.rs, or name a folder with Config::out_dir or Config::checked_in"
    )]
    NoOutDir,
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// A defect of selfsame-build or of capnpc: no contract should lead here.
    #[error(
        "selfsame-build failed on {files}: {why}\nThis is a defect; please report it together with these files."
    )]
    Defect {
        /// The files that were compiled.
        files: String,
        /// What happened.
        why: String,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Error::Io { path: path.into(), error }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One thing in a contract that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The schema file.
    pub file: String,
    /// The declaration in it, as `Interface.method` or `Struct.field`; empty if the file as a whole is meant.
    pub item: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { file, item, wrong, remedy } = self;
        write!(f, "{file}: ")?;
        if !item.is_empty() {
            write!(f, "{item}: ")?;
        }
        write!(f, "{wrong}; {remedy}")
    }
}

struct Listed<'a>(&'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
