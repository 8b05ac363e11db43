//! The message types, which capnpc prints.

use std::collections::HashMap;
use std::fs;

use capnp::serialize;
use capnpc::codegen::CodeGenerationCommand;

use super::CODEGEN;
use crate::normalise::{Normalised, stem};

/// capnpc's text for every file and interface, in lines.
pub(crate) struct Messages(HashMap<u64, Vec<String>>);

impl Messages {
    /// Lets capnpc print a normalised request. It may panic on what it does not foresee; whoever calls this contains that.
    ///
    /// # Errors
    /// capnpc's own, and those of the temporary folder that it writes to.
    pub fn print(normalised: &Normalised) -> capnp::Result<Self> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let request = serialize::write_message_to_words(&normalised.message);
        CodeGenerationCommand::new()
            .output_directory(folder.path())
            .capnp_root(&format!("{CODEGEN}::capnp"))
            .crates_provide_map(normalised.provided.iter().cloned().collect())
            .run(&request[..])?;
        let mut messages = HashMap::new();
        for unit in &normalised.units {
            let path = folder.path().join(format!("{}_capnp.rs", stem(*unit)));
            let text = fs::read_to_string(&path).map_err(failed)?;
            // Its header ends with an empty line; ours replaces it.
            let lines =
                text.lines().skip_while(|line| !line.is_empty()).map(|line| line.trim_end().to_owned());
            let mut lines: Vec<String> = lines.collect();
            if lines.iter().all(String::is_empty) {
                lines.clear();
            }
            messages.insert(*unit, lines);
        }
        Ok(Messages(messages))
    }

    /// The lines for a file or an interface.
    pub fn of(&self, unit: u64) -> &[String] {
        self.0.get(&unit).map_or(&[], Vec::as_slice)
    }
}

fn failed(error: std::io::Error) -> capnp::Error {
    capnp::Error::failed(error.to_string())
}
