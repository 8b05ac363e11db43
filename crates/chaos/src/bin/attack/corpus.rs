//! All attacks, by family.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::field::{Field, Outcome};
use crate::{crowd, entries, frames, greeting, publishing, replies, tls};

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What the victim's memory may grow by meanwhile, in MiB; each family says why.
    pub memory: u64,
    pub run: Run,
}

/// What it does on the field. It runs on a thread of its own.
pub type Run = fn(Rc<Field>) -> Pin<Box<dyn Future<Output = Outcome>>>;

/// All there are, or all that need no TLS.
pub fn all(secure: bool) -> Vec<Attack> {
    let families = [
        greeting::attacks(),
        frames::attacks(),
        entries::attacks(),
        replies::attacks(),
        publishing::attacks(),
        crowd::attacks(),
    ];
    let secure = secure.then(tls::attacks).into_iter();
    families.into_iter().chain(secure).flatten().collect()
}

/// An [`Attack`] whose code is `$run(field)`.
macro_rules! attack {
    ($name:literal, $run:path, $memory:expr, $about:literal) => {
        $crate::corpus::Attack {
            name: $name,
            about: $about,
            memory: $memory,
            run: |field| Box::pin(async move { $run(&field).await }),
        }
    };
}
pub(crate) use attack;
