//! `sillage restore`: takes a backup back into an empty data folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use sillage_store::event_store::journal::backup::restore;
use uuid::Uuid;

use super::Failure;
use super::data::Data;
use super::epoch::what_is_paused;
use super::progress::Teller;

#[derive(Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    data: Data,
    /// The folder that `sillage backup` has made.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

pub(crate) fn run(Restore { data: Data { data }, from }: Restore) -> Result<(), Failure> {
    require_empty(&data)?;
    std::fs::create_dir_all(&data)?;
    let mut teller = Teller::new("checking the log");
    let id = Uuid::new_v4().as_u128();
    let (manifest, epoch) = restore(&from, &data.join("journal"), id, |progress| teller.tell(progress))?;
    drop(teller);
    let (head, made_at) = (manifest.head, manifest.made_at);
    println!("{} holds the log up to position {head}, as it was at {made_at}.", data.display());
    println!("Its epoch is {epoch} from now on, and was {}.", manifest.epoch);
    if !data.join("keys.json").exists() {
        println!("Put keys.json there from your own copy, or tokens that were given out hold no longer.");
    }
    println!("{}", what_is_paused());
    Ok(())
}

/// Refuses a folder that holds more than keys.
fn require_empty(data: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name != "keys.json" {
            let (name, data) = (name.display(), data.display());
            let problem =
                format!("{data} is not empty, it holds {name}: name another folder, or remove that");
            return Err(problem.into());
        }
    }
    Ok(())
}
