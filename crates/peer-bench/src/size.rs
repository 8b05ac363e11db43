//! How large a service is: the example server, stripped, if it has been built (`cargo build --release --example account_server`).

use std::path::Path;
use std::process::Command;

/// MiB of the binary without symbols, or `None` if it is not there or cannot be stripped.
pub fn of_account_server(target: &Path) -> Option<f64> {
    let binary = target.join("release/examples/account_server");
    let folder = tempfile::tempdir().ok()?;
    let stripped = folder.path().join("stripped");
    let done = Command::new("strip").arg("-o").arg(&stripped).arg(binary).output().ok()?;
    let bytes = done.status.success().then(|| std::fs::metadata(stripped).ok())??.len();
    Some(bytes as f64 / f64::from(1 << 20))
}
