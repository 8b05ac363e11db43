//! A server process that is killed again and again, as `kill -9` does, and started anew at the same endpoint.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Result;

pub struct Unstable {
    endpoint: String,
    enough: oneshot::Sender<()>,
    kills: JoinHandle<Result<u32>>,
}

impl Unstable {
    /// Each of its lives is so long, from when its first transfer begins.
    pub async fn start(database: &str, life: Duration) -> Result<Unstable> {
        let (mut server, mut output, endpoint) = live("tcp://127.0.0.1:0", database).await?;
        let (enough, mut is_enough) = oneshot::channel();
        let (at, database) = (endpoint.clone(), database.to_owned());
        let kills = tokio::spawn(async move {
            for kills in 0.. {
                tokio::select! {
                    _ = &mut is_enough => return Ok(kills),
                    began = output.next_line() => began?,
                };
                tokio::select! {
                    _ = &mut is_enough => return Ok(kills),
                    () = tokio::time::sleep(life) => server.kill().await?,
                }
                (server, output, _) = live(&at, &database).await?;
            }
            unreachable!("there are more numbers than kills")
        });
        Ok(Unstable { endpoint, enough, kills })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends it; tells how often it was killed.
    pub async fn end(self) -> Result<u32> {
        let _ = self.enough.send(()); // it may have failed, and says why
        self.kills.await?
    }
}

/// Starts one life of the server; returns when it listens.
async fn live(endpoint: &str, database: &str) -> Result<(Child, Lines<BufReader<ChildStdout>>, String)> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["server", endpoint, database])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = process.stdout.take().ok_or("it has no output")?;
    let mut output = BufReader::new(output).lines();
    let line = output.next_line().await?.unwrap_or_default();
    let endpoint = line.strip_prefix("listening on ").ok_or_else(|| format!("the server said {line:?}"))?;
    Ok((process, output, endpoint.to_owned()))
}
