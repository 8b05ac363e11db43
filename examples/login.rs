//! Services compose as functions do: `login` calls `account` and `audit` within its own request, so a login that is tried again has one
//! effect below as well. All of them in one program, on sockets. `cargo run --example login`

#[path = "contracts/mod.rs"]
mod api;

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use api::account::account::{ChangePassword, Version};
use api::account::{Account, AccountClient, AccountServer};
use api::login::audit::Record;
use api::login::{Audit, AuditClient, AuditServer, LoginClient, LoginServer, login};
use selfsame::{Answer, Fault, Request, Server, SetupError};

