//! Processes: this binary once more in another role, what parent and child say to each other, on which core each runs, and what each has used.
//!
//! Placement decides everything: two processes that share a core answer each other several times as fast, for a core that is awake wakes nobody. So a
//! server, and whatever belongs to it, is pinned to one core and the client to another.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Result;
use crate::memory::Occupied;
use crate::role::Sample;

/// What the parent says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// To a client: call.
    Drive { in_flight: usize, size: usize, millis: u64, pace: Option<u32>, lanes: usize, server: Vec<u32> },
    /// To a client: have so many connections, and tell what they take at both sides.
    Hold { connections: usize, burst: bool, server: Vec<u32> },
    /// To a publisher: publish.
    Publish(crate::events::Burst),
    /// To subscribers: whether all have heard something.
    Heard,
    /// To subscribers: count what came, after the event of this number has come or nothing comes any more.
    Settle { last: u64 },
}

/// What a child says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// It serves here, with these processes besides itself.
    Ready { endpoint: String, helpers: Vec<u32> },
    /// To [`Order::Drive`].
    Drove(Sample),
    /// To [`Order::Hold`].
    Holds(Occupied),
    /// To [`Order::Publish`].
    Published(crate::events::Published),
    /// To [`Order::Heard`].
    Heard(bool),
    /// To [`Order::Settle`].
    Settled(crate::events::Settled),
    /// It did not go, and the child is useless from now on.
    Failed(String),
}

/// The cores of servers and of clients.
#[derive(Clone, Debug, Serialize)]
pub struct Placement {
    /// Of servers, publishers and brokers.
    pub server: usize,
    /// Of clients and subscribers.
    pub client: usize,
}

impl Placement {
    /// The last two cores that this process may use: interrupts like the first.
    pub fn here() -> Result<Placement> {
        let allowed = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        match cores[..] {
            [.., server, client] => Ok(Placement { server, client }),
            _ => Err("client and server need a core each, and this process may use one only".into()),
        }
    }
}

/// From now on this thread, and all that it starts, run on this core.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A child; ended when it is dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: mpsc::Receiver<Said>,
}

impl Child {
    /// Starts one. To be called from the main thread: the kernel kills the child when the thread ends that started it.
    pub fn start(role: &str, arguments: &[String]) -> Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([role, &std::process::id().to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no standard output")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                let said =
                    serde_json::from_str(&line).unwrap_or_else(|_| Said::Failed(format!("it said {line:?}")));
                if tell.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Child { process, input, output: told })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it says next.
    ///
    /// # Errors
    /// If it says nothing for so long, has ended, or failed.
    pub fn hear(&self, patience: Duration) -> Result<Said> {
        match self.output.recv_timeout(patience) {
            Ok(Said::Failed(why)) => Err(why.into()),
            Ok(said) => Ok(said),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("it said nothing for {patience:?}").into()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("its process has ended".into()),
        }
    }

    /// Gives an order and waits for the answer.
    ///
    /// # Errors
    /// As [`hear`](Child::hear).
    pub fn ask(&mut self, order: &Order, patience: Duration) -> Result<Said> {
        let input = self.input.as_mut().ok_or("it was dismissed")?;
        writeln!(input, "{}", serde_json::to_string(order)?)?;
        self.hear(patience)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It ends when its input does; one that hangs is not waited for.
        self.input = None;
        let patience = Duration::from_secs(2);
        while let Ok(_last_words) = self.output.recv_timeout(patience) {}
        let _ = self.process.kill(); // it has ended, or has had its time
        let _ = self.process.wait();
    }
}

/// In a child, first thing: has the kernel kill it when its parent dies.
pub fn die_with(parent: &str) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent: i32 = parent.parse()?;
    match rustix::process::getppid().map(Pid::as_raw_nonzero) {
        Some(pid) if pid.get() == parent => Ok(()),
        _ => Err("the parent is gone".into()),
    }
}

/// In a child: what the parent orders. Ends when the parent has no more to say.
pub fn orders() -> UnboundedReceiver<Order> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    // A thread, not tokio's stdin: that one would keep the runtime from shutting down until a line arrives.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if tell.send(order).is_err() {
                return;
            }
        }
    });
    told
}

/// In a child: answers.
pub fn say(said: &Said) -> Result<()> {
    let mut line = serde_json::to_string(said)?;
    line.push('\n');
    let mut output = std::io::stdout().lock();
    output.write_all(line.as_bytes())?;
    Ok(output.flush()?)
}

/// CPU time that these processes have had, in nanoseconds: what the scheduler counts for each of their threads, user and kernel time alike.
pub fn cpu_time(processes: &[u32]) -> u64 {
    let threads = processes.iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok()).flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Begins anew to look for the peak of these processes' memory.
pub fn forget_peak(processes: &[u32]) {
    for id in processes {
        let _ = fs::write(format!("/proc/{id}/clear_refs"), "5"); // where this is not allowed, the peak is that of the whole life
    }
}

/// A line of `/proc/ID/status` in KiB, summed over these processes: `VmRSS` now, `VmHWM` at the peak.
pub fn memory(processes: &[u32], line: &str) -> u64 {
    let of_one = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
        value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    processes.iter().filter_map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory() {
        let this = [std::process::id()];
        assert!(cpu_time(&this) > 0);
        forget_peak(&this);
        assert!(memory(&this, "VmHWM") >= memory(&this, "VmRSS"));
        assert!(memory(&this, "VmRSS") > 100);
    }
}
