//! The file: its tables, how it is opened, and how a batch of operations becomes one transaction.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use super::codec::{Place, decode_record, decode_session, encode_record, encode_session};
use super::dry_run::DryRun;
use crate::nonce;
use crate::protocol::store::{Done, Found, Intent, Kept, Op, Opened, StoredSession, Ticket};
use crate::protocol::wire::{Answer, Refused};
use crate::protocol::{CallId, Refusal, Registration, WallTime};
use crate::sabotage::{kill_point, planted};

/// The version of the tables below.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u128> = TableDefinition::new("selfsame.meta");
const SESSIONS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("selfsame.sessions");
const SEQUENCED: TableDefinition<'_, (u128, u64), &[u8]> = TableDefinition::new("selfsame.sequenced");
const KEYED: TableDefinition<'_, (u64, u128), &[u8]> = TableDefinition::new("selfsame.keyed");

/// The file, open and locked.
pub(super) struct File {
    database: Database,
}

/// Opens or makes the file, after a dry run that finds damage before anything is written.
pub(super) fn database(path: &Path) -> Result<Database, String> {
    match fs::File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.len() > 0) => check(file)?,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{error}; is it a file that this process may read and write?")),
    }
    Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => ALREADY_OPEN.into(),
        error => {
            format!("{error}; is it a file that this process may read and write, in a folder that exists?")
        }
    })
}

const ALREADY_OPEN: &str = "another server has it open; a durable store has one owner: give each server a file of its own, or use a shared store";

/// Opens, repairs and reads the file without writing to it.
fn check(file: fs::File) -> Result<(), String> {
    // While another process writes the file, what is read here would be of two moments.
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(ALREADY_OPEN.into()),
        Err(fs::TryLockError::Error(error)) => return Err(error.to_string()),
    }
    let damaged = |why: String| {
        format!(
            "it is damaged, or not a store of this library: {why}. Nothing was changed; restore it from a copy, or move it away to begin anew"
        )
    };
    let dry = DryRun::new(file).map_err(|error| error.to_string())?;
    let found = super::caught(|| -> Result<(), String> {
        let mut builder = Database::builder();
        let database = builder
            .set_check_integrity_on_open(true)
            .create_with_backend(dry)
            .map_err(|error| error.to_string())?;
        let read = database.begin_read().map_err(|error| error.to_string())?;
        // A file that was made and not yet written by this library has no tables.
        let tables = read.list_tables().map_err(|error| error.to_string())?.count();
        if tables == 0 {
            return Ok(());
        }
        let mut content = Opened::default();
        read_all(
            &mut content,
            &read.open_table(META).map_err(|error| error.to_string())?,
            &read.open_table(SESSIONS).map_err(|error| error.to_string())?,
        )?;
        let sequenced = read.open_table(SEQUENCED).map_err(|error| error.to_string())?;
        let keyed = read.open_table(KEYED).map_err(|error| error.to_string())?;
        each_record(&sequenced, &keyed, |_, _, _| Ok(()))
    });
    found.and_then(|found| found).map_err(damaged)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A named number of the file.
fn number(meta: &impl ReadableTable<&'static str, u128>, name: &'static str) -> Result<u128, String> {
    let value = meta.get(name).map_err(text)?.ok_or_else(|| format!("it has no {name}"))?;
    Ok(value.value())
}

fn read_all(
    content: &mut Opened,
    meta: &impl ReadableTable<&'static str, u128>,
    sessions: &impl ReadableTable<u128, &'static [u8]>,
) -> Result<(), String> {
    let format = number(meta, "format")?;
    if format != u128::from(FORMAT) {
        return Err(format!(
            "it is of format {format}, and this version of the library reads format {FORMAT}"
        ));
    }
    let narrow = |name| Ok::<u64, String>(number(meta, name)? as u64);
    content.store = number(meta, "store")?;
    content.generation = narrow("generation")?;
    content.ordinal = narrow("ordinal")?;
    content.born = WallTime(narrow("born")?);
    content.floor = WallTime(narrow("floor")?);
    for entry in sessions.iter().map_err(text)? {
        let (registration, value) = entry.map_err(text)?;
        let registration = Registration(registration.value());
        let session = decode_session(registration, value.value())
            .map_err(|why| format!("the session {registration} cannot be read: {why}"))?;
        content.sessions.push(session);
    }
    Ok(())
}

fn each_record(
    sequenced: &impl ReadableTable<(u128, u64), &'static [u8]>,
    keyed: &impl ReadableTable<(u64, u128), &'static [u8]>,
    mut each: impl FnMut(Place, Intent, Kept) -> Result<(), String>,
) -> Result<(), String> {
    let damaged = |place: Place, why: &str| format!("the record {place:?} cannot be read: {why}");
    for entry in sequenced.iter().map_err(text)? {
        let (key, value) = entry.map_err(text)?;
        let (registration, number) = key.value();
        let place = Place::Sequenced(registration, number);
        let (intent, kept) = decode_record(place, value.value()).map_err(|why| damaged(place, why))?;
        each(place, intent, kept)?;
    }
    for entry in keyed.iter().map_err(text)? {
        let (key, value) = entry.map_err(text)?;
        let (principal, key) = key.value();
        let place = Place::Keyed(principal, key);
        let (intent, kept) = decode_record(place, value.value()).map_err(|why| damaged(place, why))?;
        each(place, intent, kept)?;
    }
    Ok(())
}

/// The answer of a call whose server died while it ran.
fn recorded_unknown() -> Answer {
    let (refusal, message) = (Refusal::RecordedUnknown, "the server stopped while the call ran".into());
    Answer::Refused(Refused { refusal, ambiguous: true, retry_after: None, message })
}

impl File {
    /// Reads all there is, after intents without completion have been settled and the new incarnation is counted, durably.
    pub fn open(database: Database, rerun_unfinished: bool) -> Result<(File, Opened), String> {
        let transaction = database.begin_write().map_err(text)?;
        let mut content = Opened::default();
        {
            let mut tables = Tables::open(&transaction)?;
            tables.begin()?;
            read_all(&mut content, &tables.meta, &tables.sessions)?;
            let mut unfinished = Vec::new();
            each_record(&tables.sequenced, &tables.keyed, |place, intent, kept| {
                match kept {
                    Kept::Ended(answer) => content.records.push((intent, answer)),
                    Kept::Running(_) => unfinished.push((place, intent)),
                }
                Ok(())
            })?;
            for (place, intent) in unfinished {
                if rerun_unfinished {
                    tables.remove(place)?;
                } else {
                    tables.put(place, &intent, Some(&recorded_unknown()))?;
                    content.records.push((intent, recorded_unknown()));
                }
            }
            content.ordinal += 1;
            tables.set("ordinal", content.ordinal.into())?;
        }
        transaction.commit().map_err(text)?;
        Ok((File { database }, content))
    }

    /// Does a batch in one transaction, and tells what became of it when it is durable.
    pub fn write(
        &mut self,
        batch: impl Iterator<Item = (Ticket, Op)>,
    ) -> Result<Vec<(Ticket, Done)>, String> {
        let mut transaction = self.database.begin_write().map_err(text)?;
        let mut results = Vec::new();
        let (mut lasting, mut claims, mut ends) = (false, false, false);
        {
            let mut tables = Tables::open(&transaction)?;
            for (ticket, op) in batch {
                lasting |= matches!(op, Op::Register { .. } | Op::Claim(_) | Op::Finish { .. });
                claims |= matches!(op, Op::Claim(_));
                ends |= matches!(op, Op::Finish { .. });
                results.push((ticket, tables.apply(op)?));
            }
        }
        if claims {
            kill_point!("intent-written");
        }
        if ends {
            kill_point!("completion-written");
        }
        if !lasting || planted!(SkippedFsync) {
            // What was closed or has expired may come back after a crash, and is then closed again. The next flush takes it along.
            transaction.set_durability(Durability::None).map_err(text)?;
        }
        transaction.commit().map_err(text)?;
        if claims {
            kill_point!("intent-synced");
        }
        if ends {
            kill_point!("completion-synced");
        }
        Ok(results)
    }
}

struct Tables<'t> {
    meta: Table<'t, &'static str, u128>,
    sessions: Table<'t, u128, &'static [u8]>,
    sequenced: Table<'t, (u128, u64), &'static [u8]>,
    keyed: Table<'t, (u64, u128), &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, String> {
        Ok(Tables {
            meta: transaction.open_table(META).map_err(text)?,
            sessions: transaction.open_table(SESSIONS).map_err(text)?,
            sequenced: transaction.open_table(SEQUENCED).map_err(text)?,
            keyed: transaction.open_table(KEYED).map_err(text)?,
        })
    }

    /// A file that is new gets its names.
    fn begin(&mut self) -> Result<(), String> {
        if self.meta.get("format").map_err(text)?.is_some() {
            return Ok(());
        }
        let born = nonce::wall_time(SystemTime::now());
        self.set("format", FORMAT.into())?;
        self.set("store", crate::random::u128())?;
        self.set("generation", crate::random::u64().max(1).into())?;
        self.set("ordinal", 0)?;
        self.set("born", born.0.into())?;
        self.set("floor", 0)
    }

    fn set(&mut self, name: &'static str, value: u128) -> Result<(), String> {
        self.meta.insert(name, value).map_err(text)?;
        Ok(())
    }

    fn put(&mut self, place: Place, intent: &Intent, answer: Option<&Answer>) -> Result<(), String> {
        let value = encode_record(place, intent, answer);
        match place {
            Place::Sequenced(registration, number) => {
                self.sequenced.insert((registration, number), &value[..]).map_err(text)?;
            }
            Place::Keyed(principal, key) => {
                self.keyed.insert((principal, key), &value[..]).map_err(text)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, place: Place) -> Result<(), String> {
        match place {
            Place::Sequenced(registration, number) => {
                self.sequenced.remove((registration, number)).map_err(text)?;
            }
            Place::Keyed(principal, key) => {
                self.keyed.remove((principal, key)).map_err(text)?;
            }
        }
        Ok(())
    }

    /// The record of a place.
    fn find(&self, place: Place) -> Result<Option<(Intent, Kept)>, String> {
        let value = match place {
            Place::Sequenced(registration, number) => self.sequenced.get((registration, number)),
            Place::Keyed(principal, key) => self.keyed.get((principal, key)),
        };
        let Some(value) = value.map_err(text)? else { return Ok(None) };
        let decoded = decode_record(place, value.value());
        Ok(Some(decoded.map_err(|why| format!("the record {place:?} cannot be read: {why}"))?))
    }

    fn apply(&mut self, op: Op) -> Result<Done, String> {
        match op {
            Op::Register { registration, principal } => {
                let session = StoredSession { registration, principal, below: 1, ranges: Vec::new() };
                let value = encode_session(&session);
                self.sessions.insert(registration.0, &value[..]).map_err(text)?;
            }
            Op::Claim(intent) => {
                let place = place(&intent);
                if let Some((found, state)) = self.find(place)? {
                    return Ok(Done::Found(Found { imprint: found.imprint, state }));
                }
                self.put(place, &intent, None)?;
                return Ok(Done::Claimed);
            }
            Op::Finish { intent, keep: Some(answer), .. } => {
                self.put(place(&intent), &intent, Some(&answer))?
            }
            Op::Finish { intent, keep: None, .. } => self.remove(place(&intent))?,
            Op::Close { registration, below, ranges } => return self.close(registration, below, ranges),
            Op::End(registration) => {
                self.sessions.remove(registration.0).map_err(text)?;
                self.delete_ended(registration, 0, u64::MAX)?;
            }
            Op::Expire(keys) => {
                let latest = keys.iter().map(|(_, _, expiry)| expiry.0).max().unwrap_or(0);
                let floor = number(&self.meta, "floor")?;
                self.set("floor", floor.max(latest.into()))?;
                for (principal, key, _) in keys {
                    self.remove(Place::Keyed(principal.0, key))?;
                }
            }
            // Of a store with a single owner nobody asks these: its owner's memory knows.
            Op::Resume { .. } | Op::Settle(_) | Op::Look { .. } | Op::Sweep => {
                return Ok(Done::NotDone("the store has a single owner".into()));
            }
        }
        Ok(Done::Stored)
    }

    fn close(
        &mut self,
        registration: Registration,
        below: u64,
        ranges: Vec<(u64, u64)>,
    ) -> Result<Done, String> {
        let session = match self.sessions.get(registration.0).map_err(text)? {
            Some(value) => decode_session(registration, value.value())
                .map_err(|why| format!("the session {registration} cannot be read: {why}"))?,
            None => return Ok(Done::Gone),
        };
        let below = below.max(session.below);
        for &(first, last) in std::iter::once(&(0, below - 1)).chain(&ranges) {
            self.delete_ended(registration, first, last)?;
        }
        let value = encode_session(&StoredSession { below, ranges, ..session });
        self.sessions.insert(registration.0, &value[..]).map_err(text)?;
        Ok(Done::Stored)
    }

    /// Deletes ended records of a session's numbers. Running ones stay: their end finds them.
    fn delete_ended(&mut self, registration: Registration, first: u64, last: u64) -> Result<(), String> {
        let mut ended = Vec::new();
        let numbers = (registration.0, first)..=(registration.0, last);
        for entry in self.sequenced.range(numbers).map_err(text)? {
            let (key, value) = entry.map_err(text)?;
            let (registration, number) = key.value();
            let place = Place::Sequenced(registration, number);
            if let Ok((_, Kept::Running(_))) = decode_record(place, value.value()) {
                continue;
            }
            ended.push(place);
        }
        ended.into_iter().try_for_each(|place| self.remove(place))
    }
}

fn place(intent: &Intent) -> Place {
    match intent.id {
        CallId::Sequenced(number) => Place::Sequenced(intent.registration.0, number),
        CallId::Keyed(key) => Place::Keyed(intent.principal.0, key.key),
    }
}
