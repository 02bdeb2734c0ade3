//! What can go wrong, and what the caller should do about it.

use std::{fmt, io, path::PathBuf};

use crate::format::{Address, Boundary};

/// The error that the caller's own callback may return while the log is replayed.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another writer in this one, holds the log. Stop, or wait until it has ended.
    #[error("the journal is locked by another writer")]
    Locked,
    /// Acknowledged bytes do not read back. Restore from a backup; if there is none, open with
    /// [`AcceptLoss::Yes`](crate::AcceptLoss::Yes) and lose what follows. From a [`Reader`](crate::Reader) it may
    /// also mean that the address was not one that the log gave out.
    #[error("segment {segment} is damaged at {at}: {reason}")]
    Damaged {
        /// The base address of the segment, which is also its file name.
        segment: Address,
        /// Where the first broken batch, record or header begins.
        at: Address,
        /// What is wrong there.
        reason: Reason,
    },
    /// The log has no such boundary as [`Options::start`](crate::Options::start) names: it was cut, or it is another
    /// log. Nothing was changed. Open it from an earlier one, or from the beginning.
    #[error("the log has no boundary at {}", .0.at)]
    NoBoundary(Boundary),
    /// A newer version of this program wrote the log. Use that version; nothing was changed.
    #[error("format version {version} at {at} is newer than this program")]
    Unsupported {
        /// Where the unknown format begins.
        at: Address,
        /// The version found there.
        version: u32,
    },
    /// The file system refused. From [`Writer::commit`](crate::Writer::commit): nothing of the group was kept;
    /// when the cause has gone (a full disk), stage the group again. Elsewhere: try again, or tell the operator.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// The group may or may not have become durable, and the writer is poisoned. Answer nobody; open the log
    /// again and look whether the group is in it.
    #[error("the outcome of the commit is unknown: cannot {doing}: {source}")]
    OutcomeUnknown {
        /// What was being done.
        doing: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// An earlier failure left the writer unsure of what the disk holds. Drop it and open the log again.
    #[error("the writer is poisoned by an earlier failure")]
    Poisoned,
    /// The beginning of the log is not in its folder, and no archive was named. Name it; nothing was changed.
    #[error(
        "the log in {} begins at {first}: what stands before was archived, and the archive has to be named, or it is \
         lost, and only a backup has it", .folder.display()
    )]
    NoBeginning {
        /// The folder of the log.
        folder: PathBuf,
        /// The base of its first segment.
        first: Address,
    },
    /// The folder of archived segments cannot be used, or lacks one, or has one of another log. Mount it, or correct the setting; nothing was
    /// changed.
    #[error("the archive {} cannot be used, or lacks a part of the log: {source}", .folder.display())]
    Archive {
        /// The folder.
        folder: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// No record stands there any more: compaction has left it out. Or none ever did.
    #[error("compaction has left out what stood at {at}")]
    LeftOut {
        /// The address asked for.
        at: Address,
    },
    /// The address lies beyond what is durable. Wait for the commit, or correct the address.
    #[error("{at} is beyond the durable end {end}")]
    BeyondEnd {
        /// The address asked for.
        at: Address,
        /// The durable end at that moment.
        end: Address,
    },
    /// Kind 0 belongs to the log itself. A bug of the caller: use 1 to 255.
    #[error("record kind 0 is reserved")]
    ReservedKind,
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES). Split or refuse it.
    #[error("a payload of {len} bytes is too large")]
    PayloadTooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// The group would pass [`MAX_GROUP_BYTES`](crate::MAX_GROUP_BYTES). Discard the open batch, commit, and
    /// push it again; a batch that is too large on its own must be split or refused.
    #[error("the group is full")]
    GroupFull,
    /// There are pushed records that no `end_batch` closed. A bug of the caller: end or discard the batch first.
    #[error("a batch is still open")]
    BatchOpen,
    /// The group rests on one that was given up, or another comes before it. Stage it again, behind what is durable.
    #[error("the group is out of turn")]
    OutOfTurn,
    /// The caller's callback refused a batch. The cause is the caller's own; the log is as it was.
    #[error("the batch at {at} was refused during replay: {source}")]
    Replay {
        /// Where the batch begins.
        at: Address,
        /// What the callback returned.
        source: ReplayError,
    },
}

impl Error {
    /// Wraps an answer of the system, for `map_err`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Acknowledged bytes that do not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The base address of the segment, which is also its file name.
    pub segment: Address,
    /// Where the first broken batch or header begins, or what is missing.
    pub at: Address,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with bytes that should have been sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The header of the segment does not check.
    SegmentHeader,
    /// The segment belongs to another log or to another place.
    ForeignSegment,
    /// The previous segment does not end where this one begins: bytes or a whole file are missing.
    Gap,
    /// The bytes end in the middle of a batch.
    CutShort,
    /// A record's length makes no sense.
    RecordLength,
    /// A record does not match its checksum.
    RecordChecksum,
    /// The commit marker does not match the records before it.
    Marker,
    /// A sound batch that is not the next one.
    Sequence,
    /// The address is not that of a record.
    NoRecord,
    /// The directory of a compacted segment does not check.
    Directory,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SegmentHeader => "the segment header does not check",
            Self::ForeignSegment => "the segment belongs to another log or place",
            Self::Gap => "bytes are missing between two segments",
            Self::CutShort => "the bytes end inside a batch",
            Self::RecordLength => "a record has an impossible length",
            Self::RecordChecksum => "a record does not match its checksum",
            Self::Marker => "a commit marker does not match its records",
            Self::Sequence => "a batch is out of sequence",
            Self::NoRecord => "no record begins here",
            Self::Directory => "the directory of the segment does not check",
        })
    }
}
