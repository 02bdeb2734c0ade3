//! Where the files of a log are: in its own folder, and those of old segments perhaps in an archive.
//!
//! A segment that is in both counts as in the log's own folder, so moving one there and being stopped on the way
//! changes nothing.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, DiskFile},
    error::Error,
    format::Address,
};

pub(crate) const FIRST: Address = Address::new(0);
const SEGMENT_SUFFIX: &str = ".seg";
/// How the name of a file ends that is no segment yet.
const UNFINISHED_SUFFIX: &str = ".seg.new";

/// The folder of a log, and the one that old segments were moved to, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    own: PathBuf,
    archive: Option<PathBuf>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Folders {
    fn from(own: &P) -> Self {
        Self { own: own.as_ref().to_owned(), archive: None }
    }
}

/// In which folder a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Own,
    Archive,
}

/// How a file is opened.
pub(crate) type Opening = fn(&dyn Disk, &Path) -> io::Result<Arc<dyn DiskFile>>;

impl Folders {
    /// The same log with an archive.
    #[must_use]
    pub fn with_archive(self, archive: Option<PathBuf>) -> Self {
        Self { archive, ..self }
    }

    /// The folder of the log itself.
    #[must_use]
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// The folder of its old segments, if it has one.
    #[must_use]
    pub fn archive(&self) -> Option<&Path> {
        self.archive.as_deref()
    }

    /// Where the segment with this base is, or will be, in the log's own folder.
    pub(crate) fn own_path(&self, base: Address) -> PathBuf {
        segment_path(&self.own, base)
    }

    /// Whether the log in them has its beginning, if there is one at all.
    ///
    /// # Errors
    /// [`Error::NoBeginning`], [`Error::Archive`], [`Error::Io`].
    pub fn check(&self, disk: &dyn Disk) -> Result<(), Error> {
        self.list_whole(disk).map(drop)
    }

    /// The bases of all segments, in order, the first of which must be there.
    pub(crate) fn list_whole(&self, disk: &dyn Disk) -> Result<Vec<Address>, Error> {
        let bases = self.list(disk)?;
        match bases.first() {
            Some(first) if *first != FIRST => {
                Err(Error::NoBeginning { folder: self.own.clone(), first: *first })
            }
            _ => Ok(bases),
        }
    }

    /// The bases of all segments, in order.
    pub(crate) fn list(&self, disk: &dyn Disk) -> Result<Vec<Address>, Error> {
        let mut bases = segments(disk, &self.own).map_err(Error::io("list the directory"))?;
        if let Some(archive) = &self.archive {
            match segments(disk, archive) {
                Ok(archived) => bases.extend(archived),
                // Nothing was ever moved there, or what was is missed below.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Archive { folder: archive.clone(), source }),
            }
        }
        bases.sort_unstable();
        bases.dedup();
        match (&self.archive, bases.first()) {
            (Some(folder), Some(first)) if *first != FIRST => {
                let source = ErrorKind::NotFound.into();
                Err(Error::Archive { folder: folder.clone(), source })
            }
            _ => Ok(bases),
        }
    }

    /// The file of a segment that counts; where it should be, if there is none.
    pub(crate) fn find(&self, disk: &dyn Disk, base: Address) -> Result<PathBuf, Error> {
        Ok(self.find_all(disk, base)?.into_iter().next().unwrap_or_else(|| self.own_path(base)))
    }

    /// Every file of a segment, the one that counts first.
    pub(crate) fn find_all(&self, disk: &dyn Disk, base: Address) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for folder in std::iter::once(&self.own).chain(&self.archive) {
            match disk.list(folder) {
                Ok(names) if names.contains(&segment_name(base)) => found.push(segment_path(folder, base)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { doing: "list the directory", source }),
            }
        }
        Ok(found)
    }

    /// Opens a segment; one in the archive is never written.
    pub(crate) fn open(
        &self,
        disk: &dyn Disk,
        base: Address,
        opening: Opening,
    ) -> Result<(Arc<dyn DiskFile>, Home), Error> {
        match (opening(disk, &self.own_path(base)), &self.archive) {
            (Err(error), Some(folder)) if error.kind() == ErrorKind::NotFound => {
                let file = disk.open_to_read(&segment_path(folder, base));
                let file = file.map_err(|source| Error::Archive { folder: folder.clone(), source })?;
                Ok((file, Home::Archive))
            }
            (file, _) => Ok((file.map_err(Error::io("open a segment"))?, Home::Own)),
        }
    }
}

/// The file of the segment with this base.
pub(crate) fn segment_path(dir: &Path, base: Address) -> PathBuf {
    dir.join(segment_name(base))
}

/// The file that becomes that segment once it is durable.
pub(crate) fn unfinished_path(dir: &Path, base: Address) -> PathBuf {
    dir.join(format!("{base}{UNFINISHED_SUFFIX}"))
}

/// Removes what a crash has left of segments that were to be written anew.
pub(crate) fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let names = disk.list(dir).map_err(Error::io("list the directory"))?;
    let mut unfinished = names.iter().filter(|name| name.ends_with(UNFINISHED_SUFFIX));
    let removed = unfinished.try_for_each(|name| disk.remove(&dir.join(name)));
    removed.map_err(Error::io("remove an unfinished segment"))
}

fn segment_name(base: Address) -> String {
    format!("{base}{SEGMENT_SUFFIX}")
}

/// The bases of the segments in a folder, in any order.
fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Address>> {
    let base = |name: &String| {
        let base = Address::new(u64::from_str_radix(name.strip_suffix(SEGMENT_SUFFIX)?, 16).ok()?);
        (*name == segment_name(base)).then_some(base)
    };
    Ok(disk.list(dir)?.iter().filter_map(base).collect())
}
