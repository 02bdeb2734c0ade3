//! `sillage backup`: saves the log, also while the server runs.

use std::path::PathBuf;

use clap::Args;
use sillage_store::event_store::journal::backup::backup;

use super::Failure;
use super::data::Stored;
use super::progress::Teller;

#[derive(Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    stored: Stored,
    /// The folder that is made; it must not be there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(crate) fn run(Backup { stored, to }: Backup) -> Result<(), Failure> {
    let mut teller = Teller::new("checking the log");
    let manifest = backup(stored.whole()?, &to, |progress| teller.tell(progress))?;
    drop(teller);
    let (head, files, bytes) = (manifest.head, manifest.files.len(), manifest.bytes());
    println!("The log up to {}:{head} is in {}: {files} files, {bytes} bytes.", manifest.epoch, to.display());
    println!(
        "Not in it: the signing keys ({}/keys.json), which are backed up apart;",
        stored.data.data.display()
    );
    println!("the index and the views, which are built anew from the log.");
    Ok(())
}
