//! Which data folder a command is about.

use std::path::PathBuf;

use clap::Args;

use super::Failure;

/// The data folder, an argument that all commands share.
#[derive(Args)]
pub(crate) struct Data {
    /// The data folder of the server, where it keeps everything.
    #[arg(long, default_value = "./data", env = "SILLAGE_DATA", value_name = "DIR")]
    pub(crate) data: PathBuf,
}

impl Data {
    /// The folder of the log in it, which must be there.
    pub(crate) fn journal(&self) -> Result<PathBuf, Failure> {
        let journal = self.data.join("journal");
        if journal.is_dir() {
            return Ok(journal);
        }
        let folder = self.data.display();
        Err(format!("there is no log in {folder}: name the data folder of the server with --data").into())
    }
}
