//! The memory that another process occupies, and its peak in a time.

use std::fs;
use std::time::Duration;

use selfsame_chaos::Result;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Between two looks, where the kernel does not keep the peak for us.
const LOOK: Duration = Duration::from_millis(10);

/// A watch over a process's memory.
pub struct Memory {
    pid: i32,
    before: u64,
    /// Whether the kernel was told to begin its own record anew.
    reset: bool,
    end: oneshot::Sender<()>,
    looking: JoinHandle<u64>,
}

impl Memory {
    /// Begins one.
    pub fn watch(pid: i32) -> Memory {
        // 5: the peak becomes what it is now.
        let reset = fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok();
        let before = read(pid, "VmRSS:").unwrap_or_default();
        let (end, mut ended) = oneshot::channel();
        let looking = tokio::spawn(async move {
            let mut peak = before;
            while tokio::time::timeout(LOOK, &mut ended).await.is_err() {
                peak = peak.max(read(pid, "VmRSS:").unwrap_or_default());
            }
            peak
        });
        Memory { pid, before, reset, end, looking }
    }

    /// Ends it: the peak, and by how much it was above the beginning, in MiB.
    ///
    /// # Errors
    /// If the process cannot be looked at.
    pub async fn end(self) -> Result<(u64, u64)> {
        let _ = self.end.send(());
        let seen = self.looking.await?;
        let kept = if self.reset { read(self.pid, "VmHWM:").unwrap_or_default() } else { 0 };
        let peak = seen.max(kept);
        if self.before == 0 || peak == 0 {
            return Err("the victim's memory cannot be looked at".into());
        }
        Ok((peak >> 10, (peak - self.before) >> 10))
    }
}

/// A line of the process's status, in KiB.
fn read(pid: i32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|found| found.strip_prefix(line))?;
    value.split_whitespace().next()?.parse().ok()
}
