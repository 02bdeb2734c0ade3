//! Looking at the runs of an index without being the one that keeps it: nothing is changed or removed.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use sillage_journal::{Boundary, Disk};
use sillage_kernel::Position;

use super::run::Run;
use super::writing::RUN_SUFFIX;

/// How much of a run is read at once, in bytes.
const STRETCH_BYTES: u64 = 1 << 20;

/// Opens every run in the folder of an index; there may be no such folder, and whoever keeps it may remove some.
pub(in crate::event_store::journal) fn inspect(
    disk: &dyn Disk,
    dir: &Path,
) -> io::Result<Vec<(PathBuf, io::Result<Run>)>> {
    let mut names = match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    names.retain(|name| name.ends_with(RUN_SUFFIX));
    names.sort_unstable();
    let runs = names.into_iter().map(|name| dir.join(name)).map(|path| {
        let run = Run::open(disk, &path);
        (path, run)
    });
    let is_gone = |run: &io::Result<Run>| run.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    Ok(runs.filter(|(_, run)| !is_gone(run)).collect())
}

impl Run {
    /// Which log it is about.
    pub(in crate::event_store::journal) fn log_id(&self) -> u128 {
        self.header.log_id
    }

    /// Where it begins and ends in the log, each with the position that follows.
    pub(in crate::event_store::journal) fn joints(&self) -> [(Boundary, Position); 2] {
        [(self.header.from, self.header.first), (self.header.to, self.next())]
    }

    /// Reads all of it, so that every block is checked.
    pub(in crate::event_store::journal) fn read_through(&self) -> io::Result<()> {
        let mut at = 0;
        while at < self.bytes() {
            let len = STRETCH_BYTES.min(self.bytes() - at);
            self.read(at, len)?;
            at += len;
        }
        Ok(())
    }
}
