//! A private PostgreSQL server for tests: in a temporary folder, on a socket in there and a loopback port of its own, gone when it is dropped. Not for
//! data that anybody wants back.
//!
//! It is the PostgreSQL of the system's packages (`apt-get install postgresql`). Where there is none, [`Server::start`] panics and says so: a test that
//! is skipped proves nothing. PostgreSQL refuses to run as root, so there it runs as the user `postgres`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// How long anything here may take before it counts as failed: a slow machine under load needs some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A server that runs, or was stopped and can be started again.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    postmaster: Option<Child>,
    paused: bool,
}

impl Server {
    /// Makes a database cluster and starts it.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("selfsame-pg-").tempdir().expect("a temporary folder");
        // The user that runs the server writes in here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("an own folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|taken| taken.local_addr())
            .expect("a free port")
            .port();
        let mut server = Server { folder, programs, port, postmaster: None, paused: false };
        let made = server
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(server.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.resume_service();
        server
    }

    /// Where a client finds it: on its Unix socket.
    pub fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgresql:///postgres?host={folder}&port={}&user=postgres", self.port)
    }

    /// Where a client finds it: on its loopback port.
    pub fn tcp_url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, if it does not run.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn resume_service(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.postmaster.is_none() {
                self.postmaster = Some(self.spawn());
            }
            if self.is_ready() {
                return;
            }
            // After a kill it may find remains of its former life that are just about to go: then it ends, and is started again.
            if self.postmaster.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
                self.postmaster = None;
            }
            assert!(Instant::now() < until, "PostgreSQL does not start; its log: {}", self.log());
            thread::sleep(LOOK);
        }
    }

    /// Ends it as an administrator would: connections are cut, transactions rolled back.
    pub fn stop(&mut self) {
        self.unpause();
        if let Some(mut postmaster) = self.postmaster.take() {
            signal(postmaster.id(), Signal::INT);
            let _ = postmaster.wait();
        }
    }

    /// Stops it and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.resume_service();
    }

    /// Kills all its processes at once.
    pub fn kill9(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            for process in self.processes(postmaster.id()) {
                signal(process, Signal::KILL);
            }
            let _ = postmaster.wait();
        }
        self.paused = false;
    }

    /// Stops all its processes where they are, until [`unpause`](Server::unpause): the network stays up, nobody answers.
    pub fn pause(&mut self) {
        self.paused = true;
        if let Some(postmaster) = &self.postmaster {
            for process in self.processes(postmaster.id()) {
                signal(process, Signal::STOP);
            }
        }
    }

    /// Lets them go on.
    pub fn unpause(&mut self) {
        if std::mem::take(&mut self.paused)
            && let Some(postmaster) = &self.postmaster
        {
            for process in self.processes(postmaster.id()) {
                signal(process, Signal::CONT);
            }
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("a log file");
        self.command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"])
            .arg("-p")
            .arg(self.port.to_string())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres runs")
    }

    fn is_ready(&self) -> bool {
        let asked = self
            .command("pg_isready")
            .arg("-q")
            .arg("-h")
            .arg(self.folder.path())
            .arg("-p")
            .arg(self.port.to_string())
            .status();
        asked.is_ok_and(|status| status.success())
    }

    /// A program of PostgreSQL, as a user that may run it.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// The postmaster and its children, which are all its descendants.
    fn processes(&self, postmaster: u32) -> Vec<u32> {
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(postmaster)
            .chain(children.split_whitespace().filter_map(|id| id.parse().ok()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn signal(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(process, signal);
    }
}

/// Where PostgreSQL's programs are: of the latest version that is installed.
fn programs() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> =
        std::env::split_paths(&on_path).filter(|folder| has_programs(folder)).collect();
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, folder)| has_programs(folder))
        .collect();
    debian.sort();
    found.extend(debian.into_iter().rev().map(|(_, folder)| folder));
    found.into_iter().next().expect(
        "these tests need PostgreSQL 14 or later: on Debian and Ubuntu `apt-get install postgresql`, on Fedora `dnf install postgresql-server`",
    )
}

fn has_programs(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_isready"].iter().all(|program| folder.join(program).is_file())
}
