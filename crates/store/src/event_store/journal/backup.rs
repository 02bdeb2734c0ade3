//! A backup of a log: its files up to the end of a batch, and a manifest that says what they must be.
//!
//! What has the name that was asked for is whole and durable: it is made under another name, which ends in
//! `.unfinished`, and renamed last. A log is looked at as [`verify`] does before it is saved and before it is taken
//! back, so memory is bounded as there. The index is not part of a backup, since the log has all of it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sillage_journal::{Boundary, Disk, Error as LogError, Folders, Journal, Progress, RealDisk};
use sillage_kernel::{Epoch, Position, Timestamp};

use super::verify::{Concern, Defect, Verified, verify};
use super::{JournalOptions, JournalStore, NewEpoch};
use crate::clock;
use crate::event_store::EventStore;

/// The file that says what a backup holds.
pub const MANIFEST: &str = "manifest.json";
/// The format of backups that this program writes, and the only one that it reads.
const FORMAT: u32 = 1;
/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;
/// A manifest is not longer than this, in bytes: it has about 150 for each file.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the backup.
    pub format: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The epoch of the log then.
    pub epoch: Epoch,
    /// The position of the last event in it.
    pub head: Position,
    /// The address at which it ends.
    pub end: u64,
    /// How many batches it has.
    pub batches: u64,
    /// The checksum of the last of them.
    pub checksum: u32,
    /// The files of the log, in their order.
    pub files: Vec<SavedFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// The SHA-256 of all of it, as hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// How many bytes of log it names.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn is_of(&self, verified: &Verified) -> bool {
        let Verified { epoch, boundary: Boundary { at, batches, checksum }, head, .. } = verified;
        (epoch.as_ref(), *head) == (Some(&self.epoch), self.head)
            && (at.get(), *batches, *checksum) == (self.end, self.batches, self.checksum)
    }
}

/// Why a backup was not made or not taken back. Nothing was changed but for what ends in `.unfinished`.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is overwritten: choose another folder, or remove this one.
    #[error("{} is there already: name another folder, or remove it", .0.display())]
    Exists(PathBuf),
    /// The log is not sound.
    #[error("{} has {defects} defects, first: {first}", .folder.display())]
    Defects {
        /// Which folder.
        folder: PathBuf,
        /// How many defects there are.
        defects: u64,
        /// One of them.
        first: Box<Defect>,
    },
    /// There is no log in the folder.
    #[error("there is no log in {}", .0.display())]
    NoLog(PathBuf),
    /// The backup is not what its manifest says.
    #[error("{} is not what was saved: {problem}", .file.display())]
    NotAsSaved {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The log was cut or compacted while it was copied: try again.
    #[error("the log was cut or compacted while it was copied: try again")]
    Cut,
    /// The file system refused.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The log cannot be read or opened.
    #[error(transparent)]
    Log(#[from] LogError),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { path: path.to_owned(), source }
}

/// Saves the log in these folders as the folder `to`, which must not be there; also while somebody writes the log. The
/// backup has all of it, with what was archived.
///
/// # Errors
/// [`BackupError`].
pub fn backup(
    folders: impl Into<Folders>,
    to: &Path,
    on_progress: impl FnMut(Progress),
) -> Result<Manifest, BackupError> {
    let (unfinished, folders) = (begin(to)?, folders.into());
    let verified = sound(&folders, on_progress)?;
    let Verified { epoch, boundary, head, .. } = verified;
    let epoch = epoch.ok_or_else(|| BackupError::NoLog(folders.own().to_owned()))?;
    RealDisk.create_dir(&unfinished).map_err(io_at(&unfinished))?;
    let mut files = Vec::new();
    let list = || match Journal::files(&folders, &RealDisk, boundary) {
        // It was compacted since it was looked at, and can no longer be divided there.
        Err(LogError::NoBoundary(_)) => Err(BackupError::Cut),
        files => Ok(files?),
    };
    for (from, limit) in list()? {
        let name = from.file_name().and_then(|name| name.to_str()).expect("segments have plain names");
        let (bytes, sha256) = copy(&from, &unfinished.join(name), limit.unwrap_or(u64::MAX))?;
        if limit.is_some_and(|limit| bytes < limit) {
            return Err(BackupError::Cut);
        }
        files.push(SavedFile { name: name.to_owned(), bytes, sha256 });
        if limit.is_some() {
            // What was copied is the beginning of the file only if nothing took its place meanwhile.
            list()?;
        }
    }
    let (made_at, Boundary { at, batches, checksum }) = (clock::now(), boundary);
    let manifest = Manifest { format: FORMAT, made_at, epoch, head, end: at.get(), batches, checksum, files };
    let path = unfinished.join(MANIFEST);
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest has only string keys");
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(&json)?;
        file.sync_all()
    });
    written.map_err(io_at(&path))?;
    finish(&unfinished, to)?;
    Ok(manifest)
}

/// Takes a backup back as the folder `to`, which must not be there, as a log of the epoch that `id`, a random number,
/// begins. Positions stay. Whoever acts on the world outside is held, see [`Mode::Held`](crate::Mode::Held).
///
/// # Errors
/// [`BackupError`].
pub fn restore(
    from: &Path,
    to: &Path,
    id: u128,
    on_progress: impl FnMut(Progress),
) -> Result<(Manifest, Epoch), BackupError> {
    let unfinished = begin(to)?;
    let manifest = read_manifest(&from.join(MANIFEST))?;
    RealDisk.create_dir(&unfinished).map_err(io_at(&unfinished))?;
    for SavedFile { name, bytes, sha256 } in &manifest.files {
        let file = from.join(name);
        let not_as_saved = |problem| BackupError::NotAsSaved { file: file.clone(), problem };
        if !is_name(name) {
            return Err(not_as_saved("it has no name of a file of a log"));
        }
        // One more than wanted, so that a file that is too long is noticed.
        match copy(&file, &unfinished.join(name), bytes.saturating_add(1))? {
            (copied, _) if copied != *bytes => return Err(not_as_saved("it has another length")),
            (_, hash) if hash != *sha256 => return Err(not_as_saved("its SHA-256 is another")),
            _ => {}
        }
    }
    let verified = sound(&Folders::from(&unfinished), on_progress)?;
    if !manifest.is_of(&verified) {
        let (file, problem) = (from.join(MANIFEST), "the log in its files ends elsewhere");
        return Err(BackupError::NotAsSaved { file, problem });
    }
    let epoch = begin_epoch(&unfinished, id)?.1;
    finish(&unfinished, to)?;
    Ok((manifest, epoch))
}

/// Lets the log in these folders begin the epoch of `id`, a random number; answers the epoch that ends and the one that begins.
/// Nobody else may have the log open. Killed at any moment, it leaves the one or the other.
///
/// # Errors
/// As [`JournalStore::open`].
pub fn begin_epoch(folders: impl Into<Folders>, id: u128) -> Result<(Epoch, Epoch), LogError> {
    let folders = folders.into();
    let open = |new_epoch| {
        let archive = folders.archive().map(Path::to_owned);
        let options = JournalOptions { new_epoch, archive, ..JournalOptions::default() };
        JournalStore::open(folders.own(), id, options).map(|(store, _)| store.epoch())
    };
    Ok((open(NewEpoch::AfterLoss)?, open(NewEpoch::Now)?))
}

/// The name under which `to` is made.
fn begin(to: &Path) -> Result<PathBuf, BackupError> {
    let mut name = to.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    match () {
        () if is_there(to) => Err(BackupError::Exists(to.to_owned())),
        () if is_there(&unfinished) => Err(BackupError::Exists(unfinished)),
        () => Ok(unfinished),
    }
}

/// Gives a folder, whose files are durable, its name.
fn finish(unfinished: &Path, to: &Path) -> Result<(), BackupError> {
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let named = RealDisk
        .sync_dir(unfinished)
        .and_then(|()| fs::rename(unfinished, to))
        .and_then(|()| RealDisk.sync_dir(parent));
    named.map_err(io_at(to))
}

/// Looks at a log, which must have no defects but of its index.
fn sound(folders: &Folders, on_progress: impl FnMut(Progress)) -> Result<Verified, BackupError> {
    let (mut first, mut defects) = (None, 0);
    let note = |defect: Defect| {
        if defect.concern != Concern::Index {
            defects += 1;
            first.get_or_insert(defect);
        }
    };
    let verified = verify(folders.clone(), note, on_progress)?;
    match first {
        None => Ok(verified),
        Some(first) => {
            Err(BackupError::Defects { folder: folders.own().to_owned(), defects, first: Box::new(first) })
        }
    }
}

/// Copies up to so many bytes of a file, durably; answers how many there were, and their SHA-256.
fn copy(from: &Path, to: &Path, bytes: u64) -> Result<(u64, String), BackupError> {
    let mut source = File::open(from).map_err(io_at(from))?.take(bytes);
    let mut target = File::create_new(to).map_err(io_at(to))?;
    let (mut hash, mut copied, mut buffer) = (Sha256::new(), 0, vec![0; COPY_BYTES]);
    loop {
        let read = match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(io_at(from))?,
        };
        if read == 0 {
            break;
        }
        let part = buffer.get(..read).unwrap_or_default();
        hash.update(part);
        target.write_all(part).map_err(io_at(to))?;
        copied += read as u64;
    }
    target.sync_all().map_err(io_at(to))?;
    let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((copied, hash))
}

fn read_manifest(path: &Path) -> Result<Manifest, BackupError> {
    let mut json = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_end(&mut json));
    read.map_err(io_at(path))?;
    let not_as_saved = |problem| BackupError::NotAsSaved { file: path.to_owned(), problem };
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|_| not_as_saved("it is no manifest of a backup"))?;
    match manifest.format {
        FORMAT => Ok(manifest),
        _ => Err(not_as_saved("it is of a newer format than this program")),
    }
}

/// Whether a file of a log may have this name; no other is written, whatever a manifest says.
fn is_name(name: &str) -> bool {
    name.strip_suffix(".seg")
        .is_some_and(|base| base.len() == 16 && base.bytes().all(|b| b.is_ascii_hexdigit()))
}
