//! The events in a log's folder, in order, for whoever has no part in writing it.
//!
//! What is damaged is never passed over: reading ends there with an error. What was dropped is passed over, and counted.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;

use sillage_kernel::{Epoch, Event, Position, Timestamp};

use super::index;
use super::replay::INDEX_FOLDER;
use super::walk::{LogWalk, Placed, Recorded};
use super::{Address, Boundary, End, Folders, LogError, RealDisk};
use crate::event_store::codec::Malformed;

/// Reads events, beside a running server too.
#[derive(Debug)]
pub struct LogEvents {
    folders: Folders,
    walk: LogWalk,
    /// The last epoch that began in the log, and how far it was looked for. What is read may stand far before.
    epoch: (Epoch, Boundary),
    /// How many events were passed over, since their contents were dropped.
    dropped: u64,
}

/// An event that is read.
#[derive(Debug)]
pub struct Found<'a> {
    /// Where it stands among the bytes of the log.
    pub at: Address,
    /// The epoch of the log, whichever it was when this happened.
    pub epoch: &'a Epoch,
    /// What happened.
    pub event: Event,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no log in the folder yet.
    #[error("the folder of the log is empty")]
    NoLog,
    /// The files cannot be read, or the end that was read already was cut since.
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    /// Acknowledged bytes do not read back.
    #[error(
        "the log is damaged in {file}, {offset} bytes from its start: {reason}; `sillage verify` tells more"
    )]
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
    /// The events of the log in these folders, the first of which is `journal` in a data folder, from the first on. To
    /// find its epoch, it reads what its index does not cover; without an index, that is all of it.
    ///
    /// # Errors
    /// [`ReadError::NoLog`], [`ReadError::Log`].
    pub fn open(folders: impl Into<Folders>) -> Result<Self, ReadError> {
        let folders = folders.into();
        folders.check(&RealDisk)?;
        let runs = index::inspect(&RealDisk, &folders.own().join(INDEX_FOLDER)).unwrap_or_default();
        let mut runs: Vec<_> = runs.into_iter().filter_map(|(_, run)| run.ok()).collect();
        runs.sort_by_key(|run| run.ends().1.at);
        let covered = runs.iter().rev().find_map(|run| {
            let mut walk = LogWalk::new(folders.clone(), run.ends().1);
            let begun = last_epoch(&mut walk, run.epoch().ok()?).ok()?;
            (walk.log_id() == Some(run.log_id())).then_some((begun, walk))
        });
        let (begun, walk) = match covered {
            Some(covered) => covered,
            None => {
                let mut walk = LogWalk::new(folders.clone(), Boundary::default());
                (last_epoch(&mut walk, None)?, walk)
            }
        };
        let own = || walk.log_id().map(Epoch::from_log_id);
        let epoch = (begun.or_else(own).ok_or(ReadError::NoLog)?, walk.boundary());
        Ok(Self { walk: LogWalk::new(folders.clone(), Boundary::default()), folders, epoch, dropped: 0 })
    }

    /// The epoch of the log.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch.0
    }

    /// How many events it has passed over so far, since their contents were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many bytes of log there are.
    ///
    /// # Errors
    /// As [`LogWalk::total_bytes`].
    pub fn total_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.walk.total_bytes()?)
    }

    /// Shows every event from where it stands, until `on_event` breaks or no more are there. Call it again for what was
    /// added since. A break passes over what was appended in one step with the event.
    ///
    /// # Errors
    /// [`ReadError`]; call it no more.
    pub fn run<B>(
        &mut self,
        mut on_event: impl FnMut(Found<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let Self { folders: _, walk, epoch: (epoch, looked_until), dropped } = self;
        let end = walk.run(|Placed { batch: _, address: at, record }| match record {
            Ok(Recorded::Event(event)) => on_event(Found { at, epoch, event }).map_break(Stop::Caller),
            Ok(Recorded::Dropped(_)) => {
                *dropped += 1;
                ControlFlow::Continue(())
            }
            Ok(Recorded::Epoch(begun)) if at >= looked_until.at => {
                *epoch = begun.epoch;
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(Stop::Malformed(at, problem)),
        })?;
        self.ended(end)
    }

    fn ended<B>(&self, end: End<Stop<B>>) -> Result<Option<B>, ReadError> {
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

    /// The position of the first event that was recorded then or later, also if its contents were dropped; none if all
    /// are older. It stands behind it then.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn first_since(&mut self, moment: Timestamp) -> Result<Option<Position>, ReadError> {
        self.seek_behind(|event| event.recorded_at < moment)?;
        let end = self.walk.run(|Placed { batch: _, address: at, record }| match record {
            Ok(Recorded::Event(event) | Recorded::Dropped(event)) if event.recorded_at >= moment => {
                ControlFlow::Break(Stop::Caller(event.position))
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(problem) => ControlFlow::Break(Stop::Malformed(at, problem)),
        })?;
        self.ended(end)
    }

    /// Goes to the beginning of a file of the log from which on all events from `position` stand, by looking at as many
    /// files as it takes to halve them again and again. From there, those before it are shown too.
    ///
    /// # Errors
    /// [`ReadError::Log`].
    pub fn seek(&mut self, position: Position) -> Result<(), ReadError> {
        self.seek_behind(|event| event.position <= position)
    }

    /// Goes to the beginning of the last file whose first event is one of those, which stand at the beginning of the log.
    fn seek_behind(&mut self, is_early: impl Fn(&Event) -> bool) -> Result<(), ReadError> {
        let files = self.walk.files()?;
        let (mut low, mut high) = (0, files.len());
        while low + 1 < high {
            let middle = low.midpoint(high);
            // A file without an event, or one that is damaged, could begin anywhere: what is before it is read too.
            let first = files.get(middle).map(|file| self.first_in(*file)).transpose()?.flatten();
            match first {
                Some(first) if is_early(&first) => low = middle,
                _ => high = middle,
            }
        }
        self.walk = LogWalk::new(self.folders.clone(), Boundary::default());
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
            let walk = LogWalk::new(self.folders.clone(), Boundary::default());
            let (folders, epoch) = (self.folders.clone(), self.epoch.clone());
            let mut from_here = Self { folders, walk, epoch, dropped: 0 };
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
        self.run(|Found { at, epoch: _, event }| {
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

    /// The first event in a file, or behind it; its contents may be dropped.
    fn first_in(&mut self, file: Address) -> Result<Option<Event>, LogError> {
        if !self.walk.go_to(file)? {
            return Ok(None);
        }
        let end = self.walk.run(|Placed { record, .. }| match record {
            Ok(Recorded::Event(event) | Recorded::Dropped(event)) => ControlFlow::Break(Some(event)),
            Ok(_) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(None),
        })?;
        Ok(if let End::Stopped(first) = end { first } else { None })
    }
}

/// The epoch that began last, of those that begin where a walk goes and the one that had begun before.
fn last_epoch(walk: &mut LogWalk, before: Option<Epoch>) -> Result<Option<Epoch>, LogError> {
    let mut last = before;
    walk.run(|Placed { record, .. }| {
        if let Ok(Recorded::Epoch(begun)) = record {
            last = Some(begun.epoch);
        }
        ControlFlow::<()>::Continue(())
    })?;
    Ok(last)
}
