//! Which data folder a command is about, and where the rest of its log is.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use sillage_store::event_store::journal::{Folders, JournalOptions, LogError, RealDisk};
#[cfg(feature = "postgres")]
use sillage_store::event_store::postgres::Database;

use super::Failure;
use crate::Log;

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

/// Where the keys are, an argument of those who sign with them.
#[derive(Args)]
pub(crate) struct Keys {
    /// The file of the signing keys, made if it is not there; unless given, `keys.json` in the data folder. Nodes that
    /// share a log must have the same.
    #[arg(long, env = "SILLAGE_KEYS", value_name = "FILE")]
    keys: Option<OsString>,
}

impl Keys {
    /// The file, if one was named.
    pub(crate) fn file(self) -> Option<PathBuf> {
        // An empty variable is one that is not set.
        self.keys.filter(|file| !file.is_empty()).map(PathBuf::from)
    }
}

/// Where the log is if it is not in the data folder, an argument of those who can use one that is elsewhere.
#[derive(Args)]
pub(crate) struct Store {
    /// Where the log is, if it is not in the data folder: a PostgreSQL database, as
    /// postgres://user:password@host:5432/name. Give the variable rather than the argument, which others on this
    /// machine can see.
    #[arg(long, value_name = "URL", env = "SILLAGE_STORE", hide_env_values = true)]
    store: Option<String>,
}

impl Store {
    /// The log that it names. What is wrong with the address is said without repeating it, since it may hold a password.
    pub(crate) fn log(&self) -> Result<Log, Failure> {
        self.store.as_deref().filter(|url| !url.is_empty()).map_or(Ok(Log::Journal), log_at)
    }
}

#[cfg(feature = "postgres")]
fn log_at(url: &str) -> Result<Log, Failure> {
    Ok(Log::Postgres(Box::new(database_at(url)?)))
}

#[cfg(not(feature = "postgres"))]
fn log_at(_: &str) -> Result<Log, Failure> {
    Err("this program was built without the feature `postgres`".into())
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
