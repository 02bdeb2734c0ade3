//! The storage engine: a durable log of records. It knows no domain: a record is bytes with a kind.
//!
//! What always holds:
//!
//! 1. **Acknowledged is durable.** [`Writer::commit`] returns `Ok` only after the disk has confirmed the whole
//!    group, and [`Reader`]s see a record only from then on.
//! 2. **A batch is there whole or not at all**, in the order in which batches were committed, each with a
//!    number, counted from 1 without gaps.
//! 3. **A torn tail is cut, damage is reported.** What a crash left half-written was never acknowledged, and is
//!    removed when the log is opened. Acknowledged bytes that no longer read back stop [`Journal::open`], unless
//!    the operator accepts the loss; even then the bytes are set aside, not deleted.
//! 4. **Nothing is guessed after a failed flush.** The kernel may have dropped the unwritten pages, so a flush
//!    is never repeated: the writer is poisoned, and opening the log again establishes the truth.
//! 5. **One writer**, held by a lock on the directory; any number of readers, which never wait for it.
//!
//! The map:
//!
//! * [`journal`](Journal): opening: lock, replay from the beginning or from a known boundary, cut, start.
//! * [`writer`](Writer): staging batches and committing them as a group: one write, one flush.
//! * [`reader`](Reader): records by address, checked at each read.
//! * [`walk`](Walk): every batch of a folder, without the lock, while somebody may write.
//! * [`recovery`]: the judgement over the bytes of a segment, a pure function.
//! * [`Keeper`]: writing sealed segments anew without what is not needed, and moving them to an archive.
//! * `format`, `compacted`: the bytes themselves, locked by `tests/golden`.
//! * [`Folders`]: where the files are.
//! * [`disk`](Disk): the seam to the file system, so that tests can make it fail.
//! * [`testing`]: a disk in memory that loses power, from a seed.
//!
//! Absent on purpose: indexes (the caller builds its own while the log is replayed), threads (the caller owns
//! the one that writes), compression and encryption (`key_id` leaves room for sealed payloads).

mod compacted;
mod compaction;
mod disk;
mod error;
mod folders;
mod format;
mod journal;
mod reader;
pub mod recovery;
pub mod testing;
mod walk;
mod writer;

pub use compaction::{Compaction, Fate, Keeper, LEAST_SAVED, Sieve};
pub use disk::{Disk, DiskFile, Lock, RealDisk, read_full};
pub use error::{Damage, Error, Reason, ReplayError};
pub use folders::Folders;
pub use format::{Address, Batch, Boundary, MAX_PAYLOAD_BYTES, Record, RecordRef};
pub use journal::{AcceptLoss, DEFAULT_SEGMENT_BYTES, Journal, Lost, Opened, Options, Progress, Recovered};
pub use reader::{MAX_OPEN_SEGMENTS, Reader};
pub use walk::{End, Walk};
pub use writer::{Flusher, Group, MAX_GROUP_BYTES, Stager, Writer};
