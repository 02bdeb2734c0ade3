//! `sillage archive`: moves old files of the log to another folder, while the server is stopped.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sillage_kernel::{LogPosition, Position, Timestamp};
use sillage_store::event_store::journal::events::LogEvents;
use sillage_store::event_store::journal::{Folders, JournalOptions, JournalStore, LogError};
use sillage_store::{EventStore, clock};
use uuid::Uuid;

use super::data::{Data, explained};
use super::events::check_epoch;
use super::progress::Teller;
use super::{Failure, wait_for};

const SECONDS_OF_A_DAY: u64 = 24 * 3_600;

#[derive(Args)]
pub(crate) struct Archive {
    #[command(flatten)]
    data: Data,
    /// The folder that they are moved to, which is of this log alone; from then on every command has to be told of it.
    #[arg(long, env = "SILLAGE_ARCHIVE", value_name = "DIR")]
    archive: PathBuf,
    #[command(flatten)]
    old: Old,
}

/// Which files are old.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Old {
    /// Those that end before this position: a number, or epoch:position.
    #[arg(long, value_name = "POSITION")]
    before: Option<LogPosition>,
    /// Those whose events are all older than so many days.
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
}

pub(crate) fn run(Archive { data, archive, old }: Archive) -> Result<(), Failure> {
    let journal = data.journal()?;
    let folders = Folders::from(&journal).with_archive(Some(archive.clone()));
    let options = JournalOptions { archive: Some(archive.clone()), ..JournalOptions::default() };
    let opened = JournalStore::open(&journal, Uuid::new_v4().as_u128(), options);
    let (store, _) = opened.map_err(|error| match error {
        LogError::Locked => {
            let folder = data.data.display();
            format!(
                "a server runs on {folder}, and files can be moved only without it: stop it, and try again"
            )
        }
        error => format!("the log in {} cannot be opened: {}", data.data.display(), explained(error)),
    })?;
    let before = match old {
        Old { before: Some(before), .. } => {
            check_epoch(&store.epoch(), &before)?;
            before.position
        }
        Old { older_than, .. } => {
            let since = clock::now().as_micros() - age(older_than.unwrap_or_default());
            let first_kept = LogEvents::open(folders)?.first_since(Timestamp::from_micros(since))?;
            first_kept.unwrap_or(Position::new(u64::MAX))
        }
    };
    let mut teller = Teller::new("archiving");
    let moved = wait_for(async {
        let moved = store.archive(before, move |progress| teller.tell(progress)).await;
        store.close().await;
        moved
    })??;
    let to = archive.display();
    println!("{moved} files of the log were moved to {to}.");
    println!("Name it from now on: `sillage serve --archive {to}`, or SILLAGE_ARCHIVE for all commands.");
    Ok(())
}

/// So many days in microseconds.
fn age(days: u32) -> i64 {
    let age = Duration::from_secs(u64::from(days) * SECONDS_OF_A_DAY);
    i64::try_from(age.as_micros()).expect("four billion days are fewer microseconds than that")
}
