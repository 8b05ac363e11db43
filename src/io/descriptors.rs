//! How many connections a process has descriptors for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a connection takes: the stranger's socket, and both ends of the inner one.
const A_CONNECTION: u64 = 3;

/// Left for all else in the process: files, databases, connections that go out.
const RESERVE: u64 = 128;

/// Where the system sets no limit at all.
const UNLIMITED: u64 = 1 << 20;

/// How many connections there may be at once. Raises the soft limit to the hard one first, as it is a relic of `select`, and at its usual 1,024 some 300
/// connections would be all.
pub(crate) fn connections_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(UNLIMITED).min(UNLIMITED);
    let soft = limit.current.unwrap_or(UNLIMITED);
    let raised = soft < hard
        && setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: limit.maximum }).is_ok();
    let descriptors = if raised { hard } else { soft };
    // However few there are, some connections must do.
    usize::try_from(descriptors.saturating_sub(RESERVE) / A_CONNECTION).unwrap_or(usize::MAX).max(16)
}
