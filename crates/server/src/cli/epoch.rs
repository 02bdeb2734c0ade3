//! `sillage epoch new`: lets the log begin a new epoch, so that whoever knows another log notices.

use clap::{Args, Subcommand};
use sillage_store::event_store::journal::LogError;
use sillage_store::event_store::journal::backup::begin_epoch;
use uuid::Uuid;

use super::Failure;
use super::data::{Store, Stored};
#[cfg(feature = "postgres")]
use super::wait_for;
#[cfg(feature = "postgres")]
use crate::Log;

#[derive(Args)]
pub(crate) struct Epoch {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begin a new epoch: the log goes on as it is, and clients and views that know more than it begin anew. The
    /// server must be stopped; nodes on a database end by themselves.
    New {
        #[command(flatten)]
        stored: Stored,
        #[command(flatten)]
        store: Store,
    },
}

pub(crate) fn run(Epoch { command }: Epoch) -> Result<(), Failure> {
    let id = Uuid::new_v4().as_u128();
    let Command::New { stored, store } = command;
    let (old, new) = match store.log()? {
        #[cfg(feature = "postgres")]
        Log::Postgres(database) => {
            let begun = sillage_store::event_store::postgres::begin_epoch(&database, id);
            let epochs = wait_for(begun)??;
            println!("Nodes that run end now: start them again.");
            epochs
        }
        _ => begin_epoch(stored.whole()?, id).map_err(|error| match error {
            LogError::Locked => "the server is running: stop it first".into(),
            error => Failure::from(error),
        })?,
    };
    println!("The epoch is {new} from now on, and was {old}.");
    println!("Views are built anew at the next start, and clients begin anew when they come back.");
    println!("{}", what_is_paused());
    Ok(())
}

/// What an operator is to know of a log in a new epoch.
pub(super) fn what_is_paused() -> &'static str {
    "Reactors that reach outside are paused, since what they would send may have been sent before. Look at them \
     with GET /api/reactors, and let each go on with POST /api/reactors/NAME/resume, with a token of the scope \
     `operate`."
}
