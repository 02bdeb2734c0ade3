//! Whether a log is what it was when it was written: its bytes, its numbers, the chain of every stream, its index.
//!
//! It only reads, without the lock, so it works beside a running server; then it comes as far as the log was when it
//! came to its end. Each defect is told, and the rest is looked at as far as it can be. Memory holds one segment, and
//! about 200 bytes for each stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sillage_journal::{
    Address, Batch, Boundary, Damage, Disk, End, Error as LogError, Folders, Journal, Progress, RealDisk,
    Reason, Walk,
};
use sillage_kernel::{Epoch, Event, Outcome, Position, Receipt, Tenant, Version};

use super::index::{self, Run};
use super::replay::INDEX_FOLDER;
use super::walk::Recorded;
use crate::event_store::sequencer::{Head, StreamKey, StreamMap};

/// What is wrong somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What it is about.
    pub concern: Concern,
    /// In which file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong, with the stream and position if it has any.
    pub what: String,
}

/// What a defect is about, and so what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// Bytes of the log are not what was written: only a backup has them.
    Bytes,
    /// What was written does not agree with what stands before it: somebody changed it, or the program was wrong.
    Content,
    /// The index, which can be deleted and is built anew.
    Index,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { concern: _, file, offset, what } = self;
        write!(f, "{} at byte {offset}: {what}", file.display())
    }
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Which log it is; none if there is not even a sound header.
    pub epoch: Option<Epoch>,
    /// The end of the last batch.
    pub boundary: Boundary,
    /// The position of the last event.
    pub head: Position,
    /// How many events there are.
    pub events: u64,
    /// Of how many of them the contents were dropped.
    pub dropped: u64,
    /// Of how many streams.
    pub streams: usize,
    /// How many settled commands.
    pub commands: u64,
    /// How many files of the index.
    pub runs: usize,
    /// The group that stands unfinished at the end, if one does: one that is being written, or that a crash has torn.
    pub unfinished: Option<Reason>,
}

/// Looks at all of the log in these folders, the first of which is `journal` in a data folder, and tells every defect.
///
/// # Errors
/// [`LogError::Archive`], [`LogError::Io`], [`LogError::Unsupported`].
pub fn verify(
    folders: impl Into<Folders>,
    on_defect: impl FnMut(Defect),
    on_progress: impl FnMut(Progress),
) -> Result<Verified, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    // Before the log, which reaches at least as far then.
    let folders = folders.into();
    let runs = index::inspect(disk.as_ref(), &folders.own().join(INDEX_FOLDER));
    let runs = runs.map_err(|source| LogError::Io { doing: "list the index", source })?;
    let mut walk = Walk::new(folders.clone(), Arc::clone(&disk), Boundary::default());
    let total_bytes = walk.total_bytes()?;
    let mut log = Log::new(folders, disk, &runs, on_defect);
    let mut on_progress = on_progress;
    let unfinished = loop {
        let end = walk.run(|batch| {
            log.batch(&batch);
            let done_bytes = batch.end().at.get();
            on_progress(Progress { done_bytes, total_bytes: total_bytes.max(done_bytes) });
            ControlFlow::<Infallible>::Continue(())
        })?;
        match end {
            End::Whole => break None,
            End::Unfinished { at: _, reason } => break Some(reason),
            End::Damaged(damage) => {
                log.damage(damage);
                if !walk.skip()? {
                    break None;
                }
            }
            End::Stopped(never) => match never {},
        }
    };
    for (path, run) in &runs {
        log.run(path, run, walk.log_id());
    }
    let Log { verified, streams, .. } = log;
    let epoch = verified.epoch.clone().or_else(|| walk.log_id().map(Epoch::from_log_id));
    Ok(Verified {
        epoch,
        boundary: walk.boundary(),
        streams: streams.len(),
        runs: runs.len(),
        unfinished,
        ..verified
    })
}

/// The log as far as it was looked at.
struct Log<F> {
    folders: Folders,
    disk: Arc<dyn Disk>,
    on_defect: F,
    verified: Verified,
    streams: StreamMap<Head>,
    /// The events of the batch that is looked at: whose they are, and their versions.
    batch: Vec<(StreamKey, Version)>,
    /// The number of the batch before.
    last_batch: u64,
    /// Whether events may be missing between the last one and the next, since that was told already.
    torn: bool,
    /// Whether anything of the bytes was damaged.
    damaged: bool,
    /// The places that runs of the index name, and whether the log has them, with that position next.
    joints: HashMap<Address, Vec<Joint>>,
}

/// What can be said of an event's link to the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Its checksum must follow.
    Checked,
    /// Its contents are gone; the one behind it must follow from the checksum that was kept.
    Followed,
}

struct Joint {
    boundary: Boundary,
    next: Position,
    found: bool,
}

impl<F: FnMut(Defect)> Log<F> {
    fn new(
        folders: Folders,
        disk: Arc<dyn Disk>,
        runs: &[(PathBuf, std::io::Result<Run>)],
        on_defect: F,
    ) -> Self {
        let mut joints: HashMap<Address, Vec<Joint>> = HashMap::new();
        for (boundary, next) in runs.iter().flat_map(|(_, run)| run).flat_map(Run::joints) {
            let found = boundary == Boundary::default() && next == Position::new(1);
            joints.entry(boundary.at).or_default().push(Joint { boundary, next, found });
        }
        let (verified, streams, batch) = (Verified::default(), StreamMap::default(), Vec::new());
        let (last_batch, torn, damaged) = (0, false, false);
        Self { folders, disk, on_defect, verified, streams, batch, last_batch, torn, damaged, joints }
    }

    fn tell(&mut self, concern: Concern, at: Address, what: String) {
        let place = Journal::locate(&self.folders, self.disk.as_ref(), at);
        let (file, offset) = place.unwrap_or_else(|_| (self.folders.own().to_owned(), at.get()));
        (self.on_defect)(Defect { concern, file, offset, what });
    }

    fn damage(&mut self, Damage { segment, at, reason }: Damage) {
        let what = match reason {
            Reason::Gap if at == Address::default() && self.folders.archive().is_none() => {
                format!(
                    "the beginning, up to the file {segment}.seg, is missing, or in an archive that is to be named"
                )
            }
            Reason::Gap => format!("what follows, up to the file {segment}.seg, is missing"),
            reason => format!("{reason}; nothing behind it in this file can be trusted"),
        };
        self.tell(Concern::Bytes, at, what);
        (self.torn, self.damaged) = (true, true);
    }

    fn batch(&mut self, batch: &Batch<'_>) {
        let (number, wanted) = (batch.number(), self.last_batch + 1);
        if number < wanted || (number > wanted && !self.torn) {
            self.tell(
                Concern::Content,
                batch.address(),
                format!("batch {number} where {wanted} was to come"),
            );
        }
        self.last_batch = number;
        self.batch.clear();
        for record in batch.records() {
            match Recorded::decode(&record) {
                Ok(Recorded::Event(event)) => self.event(event, record.address, Link::Checked),
                Ok(Recorded::Dropped(event)) => {
                    self.verified.dropped += 1;
                    self.event(event, record.address, Link::Followed);
                }
                Ok(Recorded::Ledger(key, entry, _)) => {
                    self.command(&key.tenant, &entry.receipt, record.address);
                }
                Ok(Recorded::Epoch(begun)) => self.verified.epoch = Some(begun.epoch),
                Ok(Recorded::Cursor(_) | Recorded::Lease(_) | Recorded::Forgotten(_)) => {}
                Err(malformed) => self.tell(Concern::Content, record.address, malformed.to_string()),
            }
        }
        let (end, next) = (batch.end(), self.verified.head.next());
        for joint in self.joints.get_mut(&end.at).into_iter().flatten() {
            joint.found |= joint.boundary == end && joint.next == next;
        }
    }

    fn event(&mut self, event: Event, at: Address, link: Link) {
        let Event { position, version, .. } = event;
        let Event { tenant, stream, .. } = &event;
        let name = format!("stream {stream} of {tenant}, version {version}, position {position}");
        let next = self.verified.head.next();
        if position < next {
            self.tell(Concern::Content, at, format!("{name}: position {next} was to come"));
        } else if position > next {
            let missing = missing("position", next.get(), position.get());
            self.tell(Concern::Content, at, format!("{name}: {missing} missing before it"));
        }
        let key = (tenant.clone(), stream.clone());
        let head = self.streams.get(&key).copied().unwrap_or_default();
        let next = head.version.next();
        if version < next {
            self.tell(Concern::Content, at, format!("{name}: version {next} was to come"));
        } else if version > next {
            let missing = missing("version", next.get(), version.get());
            self.tell(Concern::Content, at, format!("{name}: {missing} missing before it"));
        } else if link == Link::Checked && !event.follows(&head.checksum) {
            let what = "its checksum does not follow from the event before it: one of both was changed";
            self.tell(Concern::Content, at, format!("{name}: {what}"));
        }
        self.streams.insert(key.clone(), Head { version, checksum: event.checksum });
        self.batch.push((key, version));
        self.verified.head = position;
        self.verified.events += 1;
        self.torn = false;
    }

    fn command(&mut self, tenant: &Tenant, receipt: &Receipt, at: Address) {
        let Receipt { stream, command_id, outcome, position } = receipt;
        self.verified.commands += 1;
        let head = self.verified.head;
        if *position != head && !(self.torn && *position > head) {
            let id = command_id.0;
            let what = format!("the command {id} names position {position}, and the log is at {head}");
            self.tell(Concern::Content, at, what);
        }
        let Outcome::Applied { versions } = outcome else { return };
        let events = self.batch.iter().filter(|((of, name), _)| of == tenant && name == stream);
        if !events.map(|(_, version)| version).eq(versions) {
            let named: Vec<_> = versions.iter().map(ToString::to_string).collect();
            let (id, named) = (command_id.0, named.join(", "));
            let what = format!("the command {id} names versions of {stream} that it did not make: {named}");
            self.tell(Concern::Content, at, what);
        }
    }

    fn run(&mut self, path: &Path, run: &std::io::Result<Run>, log_id: Option<u128>) {
        let what = match run {
            Err(error) => error.to_string(),
            Ok(run) => match run.read_through() {
                Err(error) => error.to_string(),
                Ok(()) if log_id.is_some_and(|log_id| log_id != run.log_id()) => {
                    "it is of another log".into()
                }
                Ok(()) => match run.joints().into_iter().find(|joint| !self.has(joint)) {
                    // What is missing in the log was told.
                    Some(_) if self.damaged => return,
                    Some((boundary, next)) => {
                        format!("the log has no batch that ends at {} before position {next}", boundary.at)
                    }
                    None => return,
                },
            },
        };
        (self.on_defect)(Defect { concern: Concern::Index, file: path.to_owned(), offset: 0, what });
    }

    fn has(&self, (boundary, next): &(Boundary, Position)) -> bool {
        let named = self.joints.get(&boundary.at).into_iter().flatten();
        named.filter(|joint| joint.boundary == *boundary && joint.next == *next).any(|joint| joint.found)
    }
}

/// What is missing from one number up to, and without, another.
fn missing(what: &str, from: u64, to: u64) -> String {
    match to - from {
        1 => format!("{what} {from} is"),
        _ => format!("{what}s {from} to {} are", to - 1),
    }
}
