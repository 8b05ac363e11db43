//! What the parts of a run agree on: settings, folders and file names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use selfsame::{Server, SetupError, Store, sabotage};
use selfsame_chaos::Result;
use selfsame_chaos::child::Arguments;

/// Servers, each with a relay before it.
pub const SERVERS: usize = 3;
/// Clients.
pub const CLIENTS: usize = 6;
/// A relay that drops messages is found out by waiting alone. Shorter than the slowest handlers, so that retries meet running calls.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// A server's memory of a silent session. Short, so that sessions of killed clients go during a run; longer than any call lasts, several times over.
const RETENTION: Duration = Duration::from_secs(60);

/// Binds a server to a port that the system chooses.
pub async fn bind(store: Store) -> std::result::Result<Server, SetupError> {
    Server::builder()
        .store(store)
        // One machine, one clock.
        .clock_error(Duration::ZERO)
        .concurrency(256)
        .handler_timeout(Duration::from_secs(10))
        .heartbeat(Duration::from_millis(500))
        .retention(RETENTION)
        .drain(Duration::from_secs(2))
        .bind("tcp://127.0.0.1:0")
        .await
}

/// The planted bug, if there is one.
pub fn bug(arguments: &Arguments) -> Result<Option<sabotage::Bug>> {
    arguments.find("bug").map(find_bug).transpose()
}

/// The bug of this name.
pub fn find_bug(name: &str) -> Result<sabotage::Bug> {
    let mut all = sabotage::Bug::ALL.iter().map(|(bug, _)| *bug);
    all.find(|bug| format!("{bug:?}") == name).ok_or_else(|| format!("no bug is named {name}").into())
}

/// All files of a folder whose names begin so, in order.
pub fn files(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
