//! `sillage migrate`: moves a whole log from a data folder into a database, or back.

use std::path::{Path, PathBuf};

use clap::Args;
use sillage_store::event_store::journal::leaving::{Leaving, LeavingError};
use sillage_store::event_store::journal::{Folders, LogError, Progress, RealDisk};
use sillage_store::transfer::{Doing, Moved, migrate, migrate_back};
use uuid::Uuid;

use super::data::{Data, database_at, explained};
use super::progress::Teller;
use super::{Failure, wait_for};

#[derive(Args)]
pub(crate) struct Migrate {
    /// Where the log is: a data folder, or a database, as postgres://user:password@host:5432/name.
    #[arg(long, value_name = "DIR|URL", required_unless_present = "store")]
    from: Option<String>,
    /// Where it is moved to: the other of both.
    #[arg(long, value_name = "URL|DIR", required_unless_present = "store")]
    to: Option<String>,
    /// The database, if it is not named with --from or --to, which others on this machine can see.
    #[arg(long, value_name = "URL", env = "SILLAGE_STORE", hide_env_values = true)]
    store: Option<String>,
    /// The folder that old files of the log were moved to with `sillage archive`, if they were.
    #[arg(long, env = "SILLAGE_ARCHIVE", value_name = "DIR")]
    archive: Option<PathBuf>,
}

pub(crate) fn run(Migrate { from, to, store, archive }: Migrate) -> Result<(), Failure> {
    let [from, to] = [from, to].map(|named| named.or_else(|| store.clone()).unwrap_or_default());
    if from.contains("://") {
        return out_of_database(&from, Path::new(&to));
    }
    into_database(Path::new(&from), &to, archive.filter(|archive| !archive.as_os_str().is_empty()))
}

fn into_database(from: &Path, to: &str, archive: Option<PathBuf>) -> Result<(), Failure> {
    let database = database_at(to)?;
    let data = from.display();
    let folders = Folders::from(&Data { data: from.to_owned() }.journal()?).with_archive(archive);
    folders.check(&RealDisk).map_err(explained)?;
    let source = Leaving::open(folders, Uuid::new_v4().as_u128()).map_err(|error| match error {
        LeavingError::Log(LogError::Locked) => format!(
            "a server runs on {data}, and the log can be moved only without it: stop it, and try again"
        )
        .into(),
        LeavingError::Log(error) => explained(error),
        error => Failure::from(error),
    })?;
    let moving = migrate(source, &database, Uuid::new_v4().as_u128(), telling());
    let Moved { head, dropped, streams, commands } = wait_for(moving)??;
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

fn out_of_database(from: &str, to: &Path) -> Result<(), Failure> {
    let database = database_at(from)?;
    std::fs::create_dir_all(to)?;
    let ids = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128());
    let journal = to.join("journal");
    let Moved { head, streams, commands, .. } = wait_for(migrate_back(&database, &journal, ids, telling()))??;
    let data = to.display();
    println!(
        "The log is in {data}, and was checked there: {head} events, {streams} streams, {commands} commands."
    );
    println!("Its epoch is what it was, so clients go on with their numbers: `sillage serve --data {data}`.");
    println!("The log in the database {database} has begun another epoch, and is another log from now on.");
    Ok(())
}

/// Tells how far it is.
fn telling() -> impl FnMut(Doing, Progress) {
    let [mut copying, mut verifying] = ["copying", "verifying"].map(Teller::new);
    move |doing, progress| match doing {
        Doing::Copying => copying.tell(progress),
        Doing::Verifying => verifying.tell(progress),
    }
}
