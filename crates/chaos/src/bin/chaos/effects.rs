//! Where effects go, as durable as the store's promise needs: a line of a log, which survives the process; or a row of the same database transaction as the
//! call's record.

use std::path::{Path, PathBuf};

use selfsame::Context;
use selfsame_chaos::child::Arguments;
use selfsame_chaos::log::{Effect, Log};
use selfsame_chaos::{Result, log};

use crate::database;
use crate::places;
use crate::store::Level;

/// The effects of one life of a server.
pub struct Effects {
    log: Log,
    level: Level,
}

/// Without a key, so that a second effect would show.
const TABLE: &str = "CREATE SCHEMA chaos; CREATE TABLE chaos.effects (line text NOT NULL)";

/// The methods that run once.
const ONCE: [&str; 3] = ["Ledger.add", "Ledger.addAndNote", "Notes.note"];

impl Effects {
    pub fn open(arguments: &Arguments) -> Result<Effects> {
        let folder: PathBuf = arguments.get("folder")?;
        let (place, life): (usize, u64) = (arguments.get("place")?, arguments.get("life")?);
        let log = Log::open(&folder.join(format!("effects-{place}.{life}.log")))?;
        Ok(Effects { log, level: arguments.get("store")? })
    }

    /// Has the effect.
    pub async fn happen(&self, call: &Context, effect: Effect) -> Result<()> {
        // Methods without a record have no transaction to be part of.
        if self.level == Level::Atomic && ONCE.contains(&call.method()) {
            let line = effect.to_string();
            call.transaction()?.execute("INSERT INTO chaos.effects VALUES ($1)", &[&line]).await?;
            return Ok(());
        }
        Ok(self.log.add(effect)?)
    }
}

/// Makes room for effects in a database.
pub async fn prepare(url: &str) -> Result<()> {
    Ok(database::connect(url).await?.batch_execute(TABLE).await?)
}

/// All effects of a run.
pub async fn all(folder: &Path, database: Option<&str>) -> Result<Vec<Effect>> {
    let mut effects = Vec::new();
    for path in places::files(folder, "effects-")? {
        effects.extend(log::read::<Effect>(&path)?);
    }
    if let Some(url) = database {
        for row in database::connect(url).await?.query("SELECT line FROM chaos.effects", &[]).await? {
            effects.push(row.get::<_, String>(0).parse()?);
        }
    }
    Ok(effects)
}
