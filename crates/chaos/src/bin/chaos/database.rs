//! The PostgreSQL of a run: started in a folder of its own, from Debian's package or whatever is on the path; stopped, frozen and cut off in all the ways in which it
//! can be. It listens on a Unix socket alone, behind a [`Pipe`] that servers connect to, and dies with this process.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use selfsame_chaos::Result;
use selfsame_chaos::pipe::Pipe;
use tokio::process::{Child, Command};

use crate::weather::Blow;

/// Starting, recovery included.
const START: Duration = Duration::from_secs(60);

/// How long it stays away, besides the time that it takes to stop and to start.
const AWAY: Duration = Duration::from_millis(300);
/// COMMITs in a row that nobody hears the end of.
const ORPHANS: u64 = 4;
/// How long servers talk to sessions that are frozen.
const ASKING: Duration = Duration::from_millis(100);
/// And how long those stay so after that.
const FROZEN: Duration = Duration::from_millis(1_200);

/// A database at work, or stopped.
pub struct Database {
    /// Holds data, socket and log.
    folder: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    /// PostgreSQL refuses to run as root: who runs it then.
    user: Option<(u32, u32)>,
    server: Option<Child>,
    /// What servers connect to.
    pipe: Pipe,
}

impl Database {
    /// Makes a database below `folder`, and starts it.
    ///
    /// # Errors
    /// If there is no PostgreSQL on this machine, or it does not start.
    pub async fn start(folder: &Path) -> Result<Database> {
        // Its user has to get there.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let folder = folder.join("database");
        std::fs::create_dir(&folder)?;
        let user = rustix::process::geteuid().is_root().then(other_user).transpose()?;
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group))?;
        }
        // PostgreSQL's name for the socket of its default port, which a folder of its own has but once.
        let pipe = Pipe::start(folder.join(".s.PGSQL.5432")).await?;
        let mut database = Database { folder, programs: programs()?, user, server: None, pipe };
        let mut initdb = database.command("initdb");
        initdb.args([
            "--auth=trust",
            "--username=selfsame",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "-D",
        ]);
        let made = initdb.arg(database.folder.join("data")).stdout(Stdio::null()).status().await?;
        if !made.success() {
            return Err(format!("initdb ended with {made}").into());
        }
        database.resume().await?;
        Ok(database)
    }

    /// Where servers connect.
    pub fn url(&self) -> String {
        format!("postgres://selfsame@{}/postgres?sslmode=disable&connect_timeout=2", self.pipe.address())
    }

    /// Strikes it. Afterwards it serves again.
    pub async fn strike(&mut self, blow: Blow) -> Result<()> {
        match blow {
            Blow::Fast => self.stop(Signal::INT).await?,
            Blow::Immediate => self.stop(Signal::QUIT).await?,
            Blow::Kill => self.stop(Signal::KILL).await?,
            Blow::Freeze => {
                let frozen = self.sessions();
                frozen.iter().for_each(|process| signal(*process, Signal::STOP));
                // What is asked now, commits among it, is read only when its session goes on; by then whoever has asked is cut off.
                tokio::time::sleep(ASKING).await;
                self.pipe.cut_all();
                tokio::time::sleep(FROZEN).await;
                frozen.iter().for_each(|process| signal(*process, Signal::CONT));
                return Ok(());
            }
            Blow::Cut => {
                self.pipe.cut_all();
                return Ok(());
            }
            Blow::Doubt => {
                self.pipe.orphan_commits(ORPHANS);
                return Ok(());
            }
        }
        tokio::time::sleep(AWAY).await;
        self.resume().await
    }

    async fn stop(&mut self, how: Signal) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            if let Some(pid) = pid(&server) {
                signal(pid, how);
            }
            server.wait().await?;
        }
        Ok(())
    }

    /// The processes that serve one connection each.
    fn sessions(&self) -> Vec<Pid> {
        let Some(server) = self.server.as_ref().and_then(pid) else { return Vec::new() };
        let server = server.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
        let is_session = |id: &&str| {
            let title = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&title).contains("[local]")
        };
        let children = children.unwrap_or_default();
        let sessions = children.split_whitespace().filter(is_session);
        sessions.filter_map(|id| id.parse().ok().and_then(Pid::from_raw)).collect()
    }

    /// Starts it, and waits until it answers.
    pub async fn resume(&mut self) -> Result<()> {
        tokio::time::timeout(START, async {
            loop {
                let ended = self.server.as_mut().map(Child::try_wait).transpose()?.flatten().is_some();
                if ended || self.server.is_none() {
                    // After a kill its last processes may be there for a moment, and it does not start beside them.
                    self.server = Some(self.launch()?);
                }
                if connect(&self.url()).await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap_or_else(|_| {
            Err(format!("PostgreSQL does not start; see {}", self.folder.join("log").display()).into())
        })
    }

    fn launch(&self) -> Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        for setting in
            ["listen_addresses=", "max_connections=200", "shared_buffers=32MB", "log_checkpoints=off"]
        {
            command.arg("-c").arg(setting);
        }
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?)
    }

    /// One of its programs, to be run by its user, and to die with this process.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((user, group)) = self.user {
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]);
        }
        // Ctrl-C is this process's business.
        command.arg("--").arg(self.programs.join(program)).current_dir(&self.folder).process_group(0);
        command
    }
}

fn pid(process: &Child) -> Option<Pid> {
    process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

fn signal(process: Pid, signal: Signal) {
    // It may have ended by itself: then there is nothing to strike.
    let _ = rustix::process::kill_process(process, signal);
}

/// A connection, whose other half runs until it is dropped.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The folder of PostgreSQL's programs: the latest of Debian's packages, or that of `pg_config`.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let latest = versions.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok()).max();
    if let Some(version) = latest {
        return Ok(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    }
    let asked = std::process::Command::new("pg_config").arg("--bindir").output();
    let asked = asked.map_err(|_| "there is no PostgreSQL here; on Debian: apt install postgresql")?;
    Ok(PathBuf::from(String::from_utf8(asked.stdout)?.trim()))
}

/// Debian's user for it, or nobody.
fn other_user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut words = line.split(':').skip(2);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).ok_or_else(|| "PostgreSQL refuses to run as root".into())
}
