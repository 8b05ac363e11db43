//! A keeper: sees to it that one place, a server's or a client's, is occupied by one life after another; strikes it as it is told, and judges how each life ended.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use selfsame_chaos::Result;
use selfsame_chaos::child::{Arguments, Child, Happened};
use selfsame_relay::Dice;
use selfsame_relay::Relay;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::server::{NOT_STARTED, STOPPED};
use crate::tally::{self, Counts, Tally};
use crate::weather;

/// What a keeper does to its place.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Kill,
    Stop(Duration),
    /// Much of the store's file cannot be written any more.
    FullDisk,
    /// From now on lives are spared: no kill point is armed, and the next life follows at once. A server begins a new one.
    Heal,
    /// The last life ends in good order.
    Dismiss,
}

/// How a place is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// Which life, from 1.
    pub life: u64,
    /// A server: it listens. A client: it has nothing more to ask.
    pub ready: bool,
    /// There are no more faults, and it knows: a server listens in a life that met none, a client has heard of it.
    pub heals: bool,
    /// A client: it had a reply.
    pub answered: bool,
    /// A client: calls of which it is still unknown what became of them.
    pub unknown: u64,
}

/// What a place is for.
#[derive(Clone, Debug)]
pub enum Role {
    /// Serves behind this relay, with a store in this file if it has one of its own.
    Server {
        relay: Relay,
        file: Option<PathBuf>,
    },
    Client,
}

impl Role {
    fn name(&self) -> &'static str {
        match self {
            Role::Server { .. } => "server",
            Role::Client => "client",
        }
    }
}

/// Sees to one place.
pub struct Keeper {
    pub role: Role,
    pub place: usize,
    /// What every life is told.
    pub arguments: Arguments,
    pub folder: PathBuf,
    pub dice: Dice,
    pub tally: Tally,
    pub doing: watch::Sender<Doing>,
    /// No more faults.
    pub healing: bool,
}

/// One life, as its keeper knows it.
struct Life {
    child: Child,
    number: u64,
    /// The kill point that it will die at, if it comes to that.
    armed: Option<&'static str>,
    killed: bool,
    full_disk: bool,
    dismissed: bool,
    continues: Option<Instant>,
    counts: Counts,
    /// The last lines of what it wrote to its standard error are in this file.
    errors: PathBuf,
}

/// Whether the place is to be occupied again.
enum After {
    Next,
    Done,
}

/// Lives that may end in a row without having been ready, after the faults are over.
const FALSE_STARTS: u32 = 50;

impl Keeper {
    /// Keeps the place until it is dismissed.
    ///
    /// # Errors
    /// If no process can be started, or none stays alive although there are no faults any more.
    pub async fn keep(mut self, mut orders: mpsc::UnboundedReceiver<Order>) -> Result<()> {
        let mut false_starts = 0;
        for number in 1.. {
            let life = self.start(number)?;
            if number > 1 {
                self.tally.lock().restarts += 1;
            }
            if let After::Done = self.watch(life, &mut orders).await? {
                return Ok(());
            }
            let was_ready = self.doing.borrow().ready;
            self.doing.send_modify(|doing| doing.ready = false);
            false_starts = if self.healing && !was_ready { false_starts + 1 } else { 0 };
            if false_starts > FALSE_STARTS {
                let (role, place) = (self.role.name(), self.place);
                return Err(format!("{role} {place} does not start any more; see its .err file").into());
            }
            // A supervisor takes its time; once there are no faults any more, it takes little.
            let pause = if self.healing { 100 } else { self.dice.below(600) };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    fn start(&mut self, number: u64) -> Result<Life> {
        let armed = match self.role {
            Role::Server { .. } if !self.healing => weather::arm(&mut self.dice),
            _ => None,
        };
        let (role, place) = (self.role.name(), self.place);
        let mut arguments =
            self.arguments.clone().with("place", place).with("life", number).with("seed", self.dice.bits());
        if let Some((point, pass)) = armed {
            arguments = arguments.with("kill", format!("{point}:{pass}"));
        }
        let errors = self.folder.join(format!("{role}-{place}.{number}.err"));
        let child = Child::start(role, &arguments, &errors)?;
        self.doing.send_replace(Doing { life: number, ..Doing::default() });
        Ok(Life {
            child,
            number,
            armed: armed.map(|(point, _)| point),
            killed: false,
            full_disk: false,
            dismissed: false,
            continues: None,
            counts: Counts::new(),
            errors,
        })
    }

    /// One life, to its end.
    async fn watch(&mut self, mut life: Life, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<After> {
        let mut memory = tokio::time::interval(Duration::from_millis(500));
        if self.healing {
            life.child.tell("heal").await;
        }
        let status = loop {
            let continues = life.continues;
            let resume = async move {
                match continues {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                happened = life.child.happened() => match happened? {
                    Happened::Said(line) => self.heard(&mut life, &line),
                    Happened::Ended(status) => break status,
                },
                order = orders.recv() => self.obey(&mut life, order.unwrap_or(Order::Dismiss)).await,
                () = resume => {
                    life.child.signal(Signal::CONT);
                    life.continues = None;
                }
                _ = memory.tick() => {
                    if let Some(bytes) = life.child.resident() {
                        self.tally.lock().resident(self.role.name(), bytes);
                    }
                }
            }
        };
        if let Role::Server { relay, .. } = &self.role {
            relay.point_at(None);
        }
        self.judge(&life, status);
        Ok(if life.dismissed { After::Done } else { After::Next })
    }

    fn heard(&mut self, life: &mut Life, line: &str) {
        match (line.split_once(' '), &self.role) {
            (None, Role::Client) if line == "answered" => {
                self.doing.send_modify(|doing| doing.answered = true);
            }
            (None, Role::Client) if line == "heals" => {
                self.doing.send_modify(|doing| doing.heals = true);
            }
            (Some(("counts", counts)), _) => life.counts = tally::parse_counts(counts),
            (Some(("listening", endpoint)), Role::Server { relay, .. }) => {
                let address = endpoint.trim_start_matches("tcp://").parse().ok();
                if address.is_none() {
                    self.tally.violation(format!("a server listens on {endpoint:?}"));
                }
                relay.point_at(address);
                let heals = self.healing && !life.killed;
                self.doing.send_modify(|doing| {
                    doing.ready = true;
                    doing.heals = heals;
                });
            }
            (Some(("healed", unknown)), Role::Client) => {
                let unknown = unknown.parse().unwrap_or(u64::MAX);
                self.doing.send_modify(|doing| {
                    doing.ready = true;
                    doing.unknown = unknown;
                });
            }
            _ => self.tally.violation(format!("{} {} said {line:?}", self.role.name(), self.place)),
        }
    }

    async fn obey(&mut self, life: &mut Life, order: Order) {
        match order {
            // One that stands still is to go on, past its lease: a dead one could not show what it does then.
            Order::Kill if life.continues.is_some() => {}
            Order::Kill => {
                life.killed = true;
                life.child.signal(Signal::KILL);
            }
            Order::Stop(duration) => {
                self.tally.lock().stops += 1;
                life.continues = Some(Instant::now() + duration);
                life.child.signal(Signal::STOP);
            }
            Order::FullDisk => {
                if let Role::Server { file: Some(file), .. } = &self.role {
                    let size = std::fs::metadata(file).map_or(0, |file| file.len());
                    life.full_disk = true;
                    // Some of what is to be overwritten lies beyond, as if the file had holes and the disk no room to fill them.
                    life.child.limit_files(self.dice.within(size / 4..size));
                }
            }
            Order::Heal => {
                self.healing = true;
                life.child.signal(Signal::CONT);
                life.continues = None;
                match self.role {
                    // This one may have a kill point armed, or a full disk.
                    Role::Server { .. } => {
                        life.killed = true;
                        life.child.signal(Signal::KILL);
                    }
                    Role::Client => life.child.tell("heal").await,
                }
            }
            Order::Dismiss => {
                life.dismissed = true;
                life.child.dismiss();
            }
        }
    }

    /// Was this a proper end?
    fn judge(&mut self, life: &Life, status: ExitStatus) {
        let (role, place, number) = (self.role.name(), self.place, life.number);
        let is_server = matches!(self.role, Role::Server { .. });
        let mut totals = self.tally.lock();
        tally::add(if is_server { &mut totals.servers } else { &mut totals.clients }, &life.counts);
        if panicked(&life.errors) {
            totals
                .violations
                .push(format!("life {number} of {role} {place} panicked; see {}", life.errors.display()));
        }
        let is_kill = status.signal() == Some(Signal::KILL.as_raw());
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match (life.armed, code) {
            _ if is_kill && life.killed && is_server => {
                *totals.server_kills.entry("at random".into()).or_default() += 1;
            }
            _ if is_kill && life.killed => totals.client_kills += 1,
            (Some(point), _) if is_kill => *totals.server_kills.entry(point.into()).or_default() += 1,
            (_, Some(0)) if life.dismissed => {}
            (_, Some(NOT_STARTED)) if is_server && self.said_why(life) => totals.not_started += 1,
            (_, Some(STOPPED)) if is_server && self.said_why(life) && life.full_disk => {
                totals.full_disks += 1
            }
            (_, Some(STOPPED)) if is_server && self.said_why(life) => totals.stopped_stores += 1,
            _ => {
                drop(totals);
                let last = last_lines(&life.errors);
                self.tally.violation(format!(
                    "life {number} of {role} {place} ended by itself, with {status}: {last}"
                ));
            }
        }
    }

    fn said_why(&self, life: &Life) -> bool {
        !last_lines(&life.errors).is_empty()
    }
}

fn panicked(errors: &std::path::Path) -> bool {
    std::fs::read(errors).is_ok_and(|text| String::from_utf8_lossy(&text).contains("panicked at"))
}

/// The end of what a life wrote to its standard error.
fn last_lines(errors: &std::path::Path) -> String {
    let text = std::fs::read(errors).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: VecDeque<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
