//! How a store's file comes to be, and how it is opened: read and verified as a whole, its log included, before a byte of it is changed, then recovered, in one
//! transaction.
//! Not a repair of damage: a file that is not whole is refused, and stays as it is.
//!
//! A new file is made under another name and renamed when it is complete, so there is no half-made store, and an empty file is not taken for a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableTable, StorageBackend, WriteTransaction};

use super::codec::{self, Head};
use super::guard::Guard;
use super::log::{self, Log, Preface};
use super::tables::{Tables, is_closed};
use super::{CACHE, Failure, Settings, Writer, caught};
use crate::nonce;
use crate::protocol::store::{Intent, Kept, Opened, RecordId, StoredSession};
use crate::protocol::wire::{Answer, Refused};
use crate::protocol::{Incarnation, PrincipalId, Refusal, Registration};
use crate::sabotage::planted;

/// Opens the file, which is made if there is none.
pub(super) fn open_file(settings: &Settings, incarnation: Incarnation) -> Result<(Writer, Opened), Failure> {
    let path = &settings.path;
    if let Err(error) = fs::metadata(path) {
        match error.kind() {
            io::ErrorKind::NotFound => create(path, log::LENGTH)?,
            _ => return Err(error.into()),
        }
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() == 0 {
        return Err(Failure::Empty);
    }
    open(FileBackend::new(file)?, settings.rerun_unfinished, incarnation)
}

/// Makes the file of a new store, with preface and log of that length. If another process was faster, its file is the one.
pub(super) fn create(path: &Path, length: u32) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    // Private to its owner.
    let mut new = tempfile::Builder::new().prefix(".selfsame-new-").tempfile_in(&folder)?;
    // Zeros and not a hole: a write to the log allocates nothing, so it is fast, and has room on a full disk.
    new.write_all(&Preface::new(length).encode())?;
    let guard = Guard::new(FileBackend::new(new.reopen()?)?, length.into());
    guard.accept()?;
    let database = builder().create_with_backend(guard)?;
    let head = Head {
        store: crate::random::u128(),
        generation: crate::random::u64().max(1),
        born: nonce::wall_time(SystemTime::now()),
        ..Head::default()
    };
    let transaction = database.begin_write()?;
    Tables::open(&transaction, Incarnation(0))?.keep_head(&head)?;
    transaction.commit()?;
    drop(database);
    new.as_file().sync_all()?;
    match new.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error.into()),
    }
    // Else the name may be gone after a crash of the machine, and the records with it.
    Ok(File::open(folder)?.sync_all()?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Every page is read and its checksum compared; after a crash redb does so anyway.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// Opens the store in a file that is there.
pub(super) fn open(
    file: impl StorageBackend,
    rerun_unfinished: bool,
    incarnation: Incarnation,
) -> Result<(Writer, Opened), Failure> {
    let mut start = vec![0; file.len()?.min(log::SECTOR as u64) as usize];
    file.read(0, &mut start)?;
    let preface = Preface::decode(&start)?;
    if file.len()? <= preface.length.into() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let guard = Guard::new(file, preface.length.into());
    let database = match caught(|| Ok(builder().create_with_backend(guard.clone())?)) {
        Ok(database) => database,
        Err(failure) => {
            guard.reject();
            return Err(failure);
        }
    };
    let (transaction, content) = match caught(|| read(&database, &preface, &guard, incarnation)) {
        Ok(read) => read,
        Err(failure) => {
            // Before the database is dropped, which writes.
            guard.reject();
            return Err(failure);
        }
    };
    guard.accept()?;
    let opened =
        recover(transaction, content, rerun_unfinished || planted!(UnfinishedForgottenAtOpen), incarnation)?;
    let log = Log::new(guard, preface, opened.ordinal);
    Ok((Writer::new(database, log, incarnation), opened))
}

struct Content {
    head: Head,
    sessions: Vec<StoredSession>,
    ended: Vec<(Intent, Answer)>,
    unfinished: Vec<Intent>,
}

/// Gives the tables what only the log has, then reads and verifies all that they hold.
fn read(
    database: &Database,
    preface: &Preface,
    guard: &Guard,
    incarnation: Incarnation,
) -> Result<(WriteTransaction, Content), Failure> {
    let transaction = database.begin_write()?;
    let mut tables = Tables::open(&transaction, incarnation)?;
    let Head { ordinal, applied, .. } = tables.head()?;
    log::read(preface, guard, ordinal, applied, |row, value| tables.change(row, value))?;
    let mut content =
        Content { head: tables.head()?, sessions: Vec::new(), ended: Vec::new(), unfinished: Vec::new() };
    for row in tables.sessions.iter()? {
        let (registration, value) = row?;
        content.sessions.push(codec::decode_session(Registration(registration.value()), value.value())?);
    }
    for row in tables.sequenced.iter()? {
        let (key, value) = row?;
        let (registration, number) = key.value();
        content.take(RecordId::Sequenced(Registration(registration), number), value.value())?;
    }
    for row in tables.keyed.iter()? {
        let (key, value) = row?;
        let (principal, key) = key.value();
        content.take(RecordId::Keyed(PrincipalId(principal), key), value.value())?;
    }
    drop(tables);
    Ok((transaction, content))
}

impl Content {
    fn take(&mut self, id: RecordId, value: &[u8]) -> Result<(), Failure> {
        match codec::decode_record(id, value)? {
            (intent, Kept::Ended(answer)) => self.ended.push((intent, answer)),
            (intent, Kept::Running(_)) => self.unfinished.push(intent),
        }
        Ok(())
    }

    /// Whether anybody may still ask for the call. Sessions are in the order of their registrations, as the table has them.
    fn is_open(&self, intent: &Intent) -> bool {
        let RecordId::Sequenced(registration, number) = intent.record() else { return true };
        let at = self.sessions.binary_search_by_key(&registration, |session| session.registration);
        at.is_ok_and(|at| !is_closed(&self.sessions[at], number))
    }
}

/// Counts this incarnation, and ends what ran when the last one did. Durable before anybody is told.
fn recover(
    transaction: WriteTransaction,
    mut content: Content,
    rerun_unfinished: bool,
    incarnation: Incarnation,
) -> Result<Opened, Failure> {
    let unknown = Answer::Refused(Refused {
        refusal: Refusal::RecordedUnknown,
        ambiguous: true,
        retry_after: None,
        message: "the server stopped while the call ran; whether it had its effect is not known".into(),
    });
    let unfinished: Vec<(Intent, bool)> = std::mem::take(&mut content.unfinished)
        .into_iter()
        .map(|intent| (intent, !rerun_unfinished && content.is_open(&intent)))
        .collect();
    content.head.ordinal = content.head.ordinal.saturating_add(1);
    content.head.applied = 0;
    Tables::open(&transaction, incarnation)?.recover(&unfinished, &unknown, &content.head)?;
    transaction.commit()?;
    let Content { head, sessions, mut ended, .. } = content;
    let recorded = unfinished.into_iter().filter(|(_, keep)| *keep);
    ended.extend(recorded.map(|(intent, _)| (intent, unknown.clone())));
    let Head { store, generation, ordinal, born, floor, .. } = head;
    Ok(Opened { store, generation, ordinal, born, floor, sessions, records: ended })
}
