//! Which data folder a command is about, and where the rest of its log is.

use std::path::PathBuf;

use clap::Args;
use sillage_store::event_store::journal::{Folders, JournalOptions, LogError, RealDisk};
#[cfg(feature = "postgres")]
use sillage_store::event_store::postgres::Database;

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

/// The data folder and the archive, arguments of all commands that open or read a log.
#[derive(Args)]
pub(crate) struct Stored {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The folder that old files of the log were moved to with `sillage archive`, if they were.
    #[arg(long, env = "SILLAGE_ARCHIVE", value_name = "DIR")]
    archive: Option<PathBuf>,
}

impl Stored {
    /// The folders of the log, the first of which must be there.
    pub(crate) fn folders(&self) -> Result<Folders, Failure> {
        Ok(Folders::from(&self.data.journal()?).with_archive(self.archive()))
    }

    /// The same; all of the log must be in them.
    pub(crate) fn whole(&self) -> Result<Folders, Failure> {
        let folders = self.folders()?;
        folders.check(&RealDisk).map_err(explained)?;
        Ok(folders)
    }

    /// How the log is opened.
    pub(crate) fn options(&self) -> JournalOptions {
        JournalOptions { archive: self.archive(), ..JournalOptions::default() }
    }

    fn archive(&self) -> Option<PathBuf> {
        // An empty variable is one that is not set.
        self.archive.clone().filter(|archive| !archive.as_os_str().is_empty())
    }
}

/// The database at an address. What is wrong with it is said without repeating it, since it may hold a password.
#[cfg(feature = "postgres")]
pub(crate) fn database_at(url: &str) -> Result<Database, Failure> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        let wanted = "it must be the address of a PostgreSQL database, as postgres://user@host:5432/name";
        return Err(wanted.into());
    }
    Ok(url.parse()?)
}

/// What is wrong with the folders of a log, and what to do.
pub(crate) fn explained(error: LogError) -> Failure {
    match error {
        LogError::NoBeginning { .. } => format!("{error}; name it with --archive or SILLAGE_ARCHIVE").into(),
        LogError::Archive { .. } => format!("{error}; mount it, or correct --archive").into(),
        error => error.into(),
    }
}
