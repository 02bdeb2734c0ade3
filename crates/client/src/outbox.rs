//! Where commands wait until they are settled.
//!
//! A command is sent only once the outbox holds it, and leaves the outbox only once it is settled. So whatever
//! happens in between, the same command with the same id is sent again.

mod file;

use std::path::PathBuf;
use std::sync::Arc;

use sillage_kernel::{CommandId, StreamName};

use self::file::FileKeeper;
use crate::error::Error;

/// Where commands wait until they are settled.
#[derive(Debug)]
pub struct Outbox(Place);

#[derive(Debug)]
enum Place {
    Memory,
    File(PathBuf),
}

impl Outbox {
    /// In memory: whoever ends the program forgets what was not settled.
    pub fn memory() -> Self {
        Self(Place::Memory)
    }

    /// In a file, which survives the end of the program, however it comes. A file belongs to one user: what is
    /// in it is sent in the name of whoever signs in. It holds one JSON message a line; `.lock` and `.new` files
    /// stand beside it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Opens the outbox, and answers what was waiting in it, in order. Blocks.
    pub(crate) fn open(self, max_commands: usize) -> Result<(Keeper, Vec<Entry>), Error> {
        match self.0 {
            Place::Memory => Ok((Keeper(Kept::InMemory), Vec::new())),
            Place::File(path) => {
                let (keeper, entries) = FileKeeper::open(path, max_commands)?;
                Ok((Keeper(Kept::InFile(keeper)), entries))
            }
        }
    }
}

/// A command as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The stream that it is for.
    pub(crate) feed: StreamName,
    /// Its identity.
    pub(crate) command_id: CommandId,
    /// The message that is sent, one line.
    pub(crate) message: Arc<str>,
}

/// An open outbox. The commands themselves are in memory, with whoever sends them; this keeps what is to
/// outlive the program.
pub(crate) struct Keeper(Kept);

enum Kept {
    InMemory,
    InFile(FileKeeper),
}

/// When a command is safe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Safe {
    /// At once.
    Now,
    /// When [`Keeper::stored`] has counted it.
    Later,
}

impl Keeper {
    /// Keeps a command.
    pub(crate) fn store(&mut self, entry: &Entry) -> Result<Safe, Error> {
        match &mut self.0 {
            Kept::InMemory => Ok(Safe::Now),
            Kept::InFile(keeper) => keeper.store(entry).map(|()| Safe::Later),
        }
    }

    /// Forgets a command.
    pub(crate) fn settle(&mut self, command_id: CommandId) {
        if let Kept::InFile(keeper) = &mut self.0 {
            keeper.settle(command_id);
        }
    }

    /// Waits until some commands that were to be stored are, and answers how many, in the order in which they
    /// were given; or why they are not. May be dropped and called again.
    pub(crate) async fn stored(&mut self) -> Batch {
        match &mut self.0 {
            Kept::InMemory => std::future::pending().await,
            Kept::InFile(keeper) => keeper.stored().await,
        }
    }

    /// Waits until all is written, and lets go of the file.
    pub(crate) async fn close(self) {
        if let Kept::InFile(keeper) = self.0 {
            keeper.close().await;
        }
    }
}

/// So many of the commands that wait to be stored are, or are not; not more than there are.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) commands: usize,
    pub(crate) result: Result<(), Error>,
}
