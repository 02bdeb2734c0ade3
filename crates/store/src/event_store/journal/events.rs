//! The events in a log's folder, in order, for whoever has no part in writing it.
//!
//! What is damaged is never passed over: reading ends there with an error.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sillage_kernel::{Epoch, Event, Position};

use super::walk::{LogWalk, Placed, Recorded};
use super::{Address, Boundary, End, LogError};
use crate::event_store::codec::Malformed;

/// Reads events, beside a running server too.
#[derive(Debug)]
pub struct LogEvents {
    dir: PathBuf,
    walk: LogWalk,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The files cannot be read, or the end that was read already was cut since.
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    /// Acknowledged bytes do not read back: `sillage verify` tells more.
    #[error("the log is damaged in {file}, {offset} bytes from its start: {reason}")]
    Damaged {
        /// In which file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: sillage_journal::Reason,
    },
    /// A record is sound but not what its kind promises: another program wrote it.
    #[error("at {at}: {problem}")]
    Malformed {
        /// Where it stands in the log.
        at: Address,
        /// What is wrong with it.
        problem: Malformed,
    },
}

/// Why a step of reading ended before the end of the log.
enum Stop<B> {
    Caller(B),
    Malformed(Address, Malformed),
}

impl LogEvents {
    /// The events of the log in `dir`, the folder `journal` of a data folder, from the first on.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), walk: LogWalk::new(dir, Boundary::default()) }
    }

    /// The identity of the log; `None` while the folder holds none.
    ///
    /// # Errors
    /// As [`LogWalk::run`].
    pub fn epoch(&self) -> Result<Option<Epoch>, ReadError> {
        let mut walk = LogWalk::new(&self.dir, Boundary::default());
        walk.run(|_| ControlFlow::Break(()))?;
        Ok(walk.epoch())
    }

    /// How many bytes of log there are.
    ///
    /// # Errors
    /// As [`LogWalk::total_bytes`].
    pub fn total_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.walk.total_bytes()?)
    }

    /// Shows every event from where it stands, each with its place among the bytes of the log, until `on_event` breaks
    /// or no more are there. Call it again for what was added since. A break passes over what was appended in one step
    /// with the event.
    ///
    /// # Errors
    /// [`ReadError`]; call it no more.
    pub fn run<B>(
        &mut self,
        mut on_event: impl FnMut(Address, Event) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let end = self.walk.run(|Placed { batch: _, address, record }| match record {
            Ok(Recorded::Event(event)) => on_event(address, event).map_break(Stop::Caller),
            Ok(_) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(Stop::Malformed(address, problem)),
        })?;
        match end {
            End::Whole | End::Unfinished { .. } => Ok(None),
            End::Stopped(Stop::Caller(why)) => Ok(Some(why)),
            End::Stopped(Stop::Malformed(at, problem)) => Err(ReadError::Malformed { at, problem }),
            End::Damaged(damage) => {
                let (file, offset) = self.walk.place(damage);
                Err(ReadError::Damaged { file, offset, reason: damage.reason })
            }
        }
    }

    /// Goes to the beginning of a file of the log from which on all events from `position` stand, by looking at as many
    /// files as it takes to halve them again and again. From there, those before it are shown too.
    ///
    /// # Errors
    /// [`ReadError::Log`].
    pub fn seek(&mut self, position: Position) -> Result<(), ReadError> {
        let files = self.walk.files()?;
        let (mut low, mut high) = (0, files.len());
        while low + 1 < high {
            let middle = low.midpoint(high);
            // A file without an event, or one that is damaged, could begin anywhere: what is before it is read too.
            let first = files.get(middle).map(|file| self.first_in(*file)).transpose()?.flatten();
            match first {
                Some(first) if first <= position => low = middle,
                _ => high = middle,
            }
        }
        self.walk = LogWalk::new(&self.dir, Boundary::default());
        if let Some(file) = files.get(low) {
            self.walk.go_to(*file)?;
        }
        Ok(())
    }

    /// The last `count` events that are `wanted`, in their order, read file by file from the end; then it stands behind
    /// the last event of the log. Memory holds those events and one file.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last(
        &mut self,
        count: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<VecDeque<Event>, ReadError> {
        let (mut found, mut until) = (VecDeque::new(), None);
        for file in self.walk.files()?.into_iter().rev() {
            let mut from_here = Self::new(&self.dir);
            // The last file may have nothing in it yet. The first is where a walk begins by itself.
            if !from_here.walk.go_to(file)? && file != Address::default() {
                continue;
            }
            let mut earlier = from_here.last_before(until, count - found.len(), &wanted)?;
            earlier.append(&mut found);
            found = earlier;
            if until.is_none() {
                *self = from_here;
            }
            until = Some(file);
            if found.len() == count {
                break;
            }
        }
        Ok(found)
    }

    /// The last `count` events that are wanted, of those before an address.
    fn last_before(
        &mut self,
        until: Option<Address>,
        count: usize,
        wanted: &impl Fn(&Event) -> bool,
    ) -> Result<VecDeque<Event>, ReadError> {
        let mut found = VecDeque::new();
        self.run(|at, event| {
            if until.is_some_and(|until| at >= until) {
                return ControlFlow::Break(());
            }
            if wanted(&event) {
                found.push_back(event);
            }
            if found.len() > count {
                found.pop_front();
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The position of the first event in a file.
    fn first_in(&mut self, file: Address) -> Result<Option<Position>, LogError> {
        if !self.walk.go_to(file)? {
            return Ok(None);
        }
        let end = self.walk.run(|Placed { record, .. }| match record {
            Ok(Recorded::Event(event)) => ControlFlow::Break(Some(event.position)),
            Ok(_) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(None),
        })?;
        Ok(if let End::Stopped(first) = end { first } else { None })
    }
}
