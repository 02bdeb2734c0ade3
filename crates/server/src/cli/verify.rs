//! `sillage verify`: whether a log is what it was when it was written.

use std::collections::BTreeSet;

use clap::Args;
use sillage_store::event_store::journal::verify::{Concern, Verified, verify};
#[cfg(feature = "postgres")]
use sillage_store::event_store::postgres::Database;

use super::Failure;
use super::data::{Store, Stored, explained};
use super::progress::Teller;
#[cfg(feature = "postgres")]
use super::wait_for;
#[cfg(feature = "postgres")]
use crate::Log;

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    stored: Stored,
    #[command(flatten)]
    store: Store,
}

pub(crate) fn run(verify: Verify) -> Result<(), Failure> {
    match verify.store.log()? {
        #[cfg(feature = "postgres")]
        Log::Postgres(database) => run_on_database(&database),
        _ => run_on_journal(&verify.stored),
    }
}

#[cfg(feature = "postgres")]
fn run_on_database(database: &Database) -> Result<(), Failure> {
    use sillage_store::event_store::postgres::verify::{Verified, verify};

    let mut defects = 0_u64;
    let mut teller = Teller::new("verifying");
    let told = |defect: String| {
        println!("{defect}");
        defects += 1;
    };
    let verified = wait_for(verify(database, told, |progress| teller.tell(progress)))??;
    drop(teller);
    let Verified { head, events, dropped, streams, commands } = verified;
    println!("{events} events up to position {head}, {streams} streams, {commands} commands");
    tell_dropped(dropped);
    if defects == 0 {
        println!("Everything is as it was written.");
        return Ok(());
    }
    println!("{}", advice(Concern::Content));
    Err(format!("{defects} defects, and what to do about them stands above").into())
}

fn tell_dropped(dropped: u64) {
    if dropped > 0 {
        println!("Of {dropped} events the contents were dropped, and what stays of them was checked.");
    }
}

fn run_on_journal(stored: &Stored) -> Result<(), Failure> {
    let (mut concerns, mut defects) = (BTreeSet::new(), 0_u64);
    let mut teller = Teller::new("verifying");
    let told = |defect: sillage_store::event_store::journal::verify::Defect| {
        println!("{defect}");
        concerns.insert(defect.concern);
        defects += 1;
    };
    let verified = verify(stored.folders()?, told, |progress| teller.tell(progress)).map_err(explained)?;
    drop(teller);
    let Verified { epoch, boundary, head, events, dropped, streams, commands, runs, unfinished } = verified;
    if epoch.is_none() && defects == 0 {
        return Err("the folder of the log is empty: is it the right one?".into());
    }
    let batches = boundary.batches;
    println!(
        "{batches} batches, {events} events up to position {head}, {streams} streams, {commands} commands"
    );
    tell_dropped(dropped);
    println!("{runs} files of the index");
    if unfinished.is_some() {
        println!(
            "Behind them stands an unfinished group: it is being written now, or the next start cuts it."
        );
    }
    if defects == 0 {
        println!("Everything is as it was written.");
        return Ok(());
    }
    concerns.into_iter().for_each(|concern| println!("{}", advice(concern)));
    Err(format!("{defects} defects, and what to do about them stands above").into())
}

/// What to do about defects.
fn advice(concern: Concern) -> &'static str {
    match concern {
        Concern::Bytes => {
            "The log is damaged. Stop the server, keep a copy of its folder as it is, and restore the last backup \
             into another folder: `sillage restore --from BACKUP --data NEW`. Without a backup, \
             `sillage serve --accept-loss` cuts the log at the damage that a start meets, and everything behind it is \
             lost: docs/guides/storage.md says when that helps."
        }
        Concern::Content => {
            "What the log says does not agree with itself, although its bytes are sound or were passed over: parts \
             are missing, or were changed on purpose, or a program was wrong. Compare it with a backup, and \
             restore that."
        }
        Concern::Index => {
            "The index is damaged. It holds nothing that the log does not: stop the server, delete the folder \
             `journal/index`, and start it again."
        }
    }
}
