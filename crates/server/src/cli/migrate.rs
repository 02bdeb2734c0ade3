//! `sillage migrate`: moves a whole log from a data folder into a database, while no server runs.

use std::path::PathBuf;

use clap::Args;
use sillage_store::event_store::journal::leaving::{Leaving, LeavingError};
use sillage_store::event_store::journal::{Folders, LogError, RealDisk};
use sillage_store::transfer::{Doing, Moved, migrate};
use uuid::Uuid;

use super::Failure;
use super::data::{Data, database_at, explained};
use super::progress::Teller;

#[derive(Args)]
pub(crate) struct Migrate {
    /// The data folder of the server whose log is moved.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The database that it is moved into, as postgres://user:password@host:5432/name. Give the variable rather than the
    /// argument, which others on this machine can see.
    #[arg(long, value_name = "URL", env = "SILLAGE_STORE", hide_env_values = true)]
    to: String,
    /// The folder that old files of the log were moved to with `sillage archive`, if they were.
    #[arg(long, env = "SILLAGE_ARCHIVE", value_name = "DIR")]
    archive: Option<PathBuf>,
}

pub(crate) fn run(Migrate { from, to, archive }: Migrate) -> Result<(), Failure> {
    let database = database_at(&to)?;
    let archive = archive.filter(|archive| !archive.as_os_str().is_empty());
    let data = from.display();
    let folders = Folders::from(&Data { data: from.clone() }.journal()?).with_archive(archive);
    folders.check(&RealDisk).map_err(explained)?;
    let source = Leaving::open(folders, Uuid::new_v4().as_u128()).map_err(|error| match error {
        LeavingError::Log(LogError::Locked) => format!(
            "a server runs on {data}, and the log can be moved only without it: stop it, and try again"
        )
        .into(),
        LeavingError::Log(error) => explained(error),
        error => Failure::from(error),
    })?;
    let [mut copying, mut verifying] = ["copying", "verifying"].map(Teller::new);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let moving = migrate(source, &database, Uuid::new_v4().as_u128(), |doing, progress| match doing {
        Doing::Copying => copying.tell(progress),
        Doing::Verifying => verifying.tell(progress),
    });
    let Moved { head, dropped, streams, commands } = runtime.block_on(moving)?;
    drop([copying, verifying]);
    println!(
        "The log is in the database {database}, and was checked there: {head} events, {streams} streams,"
    );
    println!("{commands} commands. Its epoch is what it was, so clients go on with their numbers.");
    if dropped > 0 {
        println!("Of {dropped} events the contents were dropped before, and what stays of them was moved.");
    }
    println!(
        "Run nodes on it with `sillage serve --store`; with --data {data} one goes on with its keys and views."
    );
    println!(
        "The log in {data} stays where it is. It has begun another epoch, and is another log from now on."
    );
    Ok(())
}
