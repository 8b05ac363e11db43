//! A client that may die at any moment: what it is about to ask for is in a file before it asks, so its next life asks for the same and not for more.

use std::error::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use selfsame::{Call, Channel};

use crate::api::account::AccountClient;
use crate::api::account::account::ChangePassword;

/// Changes ann's password: the change that the file holds, if an earlier life has left one there.
pub async fn run(endpoint: &str, saved: &Path) -> Result<(), Box<dyn Error>> {
    let channel = Channel::connect(endpoint).await?;
    let call = match fs::read(saved) {
        Ok(bytes) => Call::<ChangePassword>::from_bytes(&channel, &bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut call = AccountClient::new(channel).change_password(|mut p| {
                p.set_user("ann");
                p.set_password("correct horse");
            });
            save(saved, &call.to_bytes()?)?;
            call
        }
        Err(error) => return Err(error.into()),
    };
    let reply = call.deadline(Duration::from_secs(20)).await?;
    println!("ann's password is at version {}", reply.get()?.get_version());
    // Here an ordinary client would remove the file; this one dies before it can.
    Ok(())
}

/// All of it or nothing is in the file, also after a power cut.
fn save(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
