//! Services compose as functions do: `login` calls `account` and `audit` within its own request, so that a login which is tried again has
//! one effect below. `cargo run --example login` runs all three, and a client.

#[path = "contracts/mod.rs"]
mod api;

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use api::login::audit::Record;
use api::login::login::Enter;
use api::login::{Audit, AuditClient, AuditServer, Login, LoginClient, LoginServer};
use selfsame::{Answer, Fault, Request, Server};
