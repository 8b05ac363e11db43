//! The durable store: one file with a single owner. What waits while a flush is under way is the next transaction, so many calls share one fsync and none
//! waits for a timer.
//!
//! It keeps no order of its own and decides nothing: operations are done as they are asked. The file is read once, when it is opened; from then on the
//! server's memory knows all that is in it.

mod codec;
mod dry_run;
mod file;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::Link;
use crate::error::SetupError;
use crate::protocol::store::{Op, StoreEvent, Ticket};
use file::File;

/// How the file is used.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub path: PathBuf,
    /// An intent without a completion is removed when the file is opened, so that a retry runs it again.
    pub rerun_unfinished: bool,
}

/// Operations done in one transaction: far more than are ever open at 64 in flight, few enough that the first does not wait for long.
const BATCH: usize = 4_096;

/// Opens the file, or makes it, and starts the thread that writes it.
pub(crate) async fn open(options: Options) -> Result<Link, SetupError> {
    let path = options.path.clone();
    start(options, move || file::database(&path)).await
}

/// As [`open`], with storage of any kind.
async fn start(
    options: Options,
    database: impl FnOnce() -> Result<redb::Database, String> + Send + 'static,
) -> Result<Link, SetupError> {
    let failed = {
        let path = options.path.clone();
        move |why: String| SetupError::new(format!("open the store {}", path.display()), why)
    };
    let (ops, asked) = mpsc::unbounded_channel();
    let (say, events) = mpsc::unbounded_channel();
    let (open, is_open) = oneshot::channel();
    let thread = move || {
        // A file that is damaged in a way that nothing foresaw must not take the process along.
        let opened = caught(|| File::open(database()?, options.rerun_unfinished));
        let mut file = match opened.and_then(|opened| opened) {
            Ok((file, content)) => {
                let _ = say.send(StoreEvent::Opened(Box::new(content)));
                let _ = open.send(Ok(()));
                file
            }
            Err(why) => return drop(open.send(Err(why))),
        };
        serve(&mut file, asked, &say);
        // The lock is released before the last sender of events is dropped: whoever waits for that may open the file again.
        drop(file);
        drop(say);
    };
    std::thread::Builder::new()
        .name("selfsame-store".into())
        .spawn(thread)
        .map_err(|error| failed(error.to_string()))?;
    match is_open.await {
        Ok(Ok(())) => Ok(Link { ops, events }),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("its thread has ended".into())),
    }
}

/// Does what is asked until nobody asks any more, or something fails.
fn serve(
    file: &mut File,
    mut asked: mpsc::UnboundedReceiver<(Ticket, Op)>,
    say: &mpsc::UnboundedSender<StoreEvent>,
) {
    let mut batch = Vec::new();
    while asked.blocking_recv_many(&mut batch, BATCH) > 0 {
        match caught(|| file.write(batch.drain(..))).and_then(|written| written) {
            Ok(done) => {
                for (ticket, done) in done {
                    // A server that has ended wants no answer.
                    let _ = say.send(StoreEvent::Done(ticket, done));
                }
            }
            Err(why) => {
                // After a failed write or fsync nobody knows what is on the disk, and another fsync would not tell.
                let _ = say.send(StoreEvent::Stopped(why));
                return;
            }
        }
    }
}

fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("the file could not be handled: {}", text.unwrap_or("no message"))
    })
}
