//! Finding the runs that fit the log: the chain from its first byte on in which each run begins where the one before
//! it ends. Whatever does not fit is removed, since it can be written again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sillage_journal::{Address, Boundary, Disk};
use sillage_kernel::Position;

use super::bloom::HashKey;
use super::run::Run;
use super::writing::{Folder, RUN_SUFFIX, UNFINISHED_SUFFIX};

/// The folder of the runs of a log, and those that cover it from its beginning on, the oldest first. They are yet to
/// be compared with the log itself.
pub(in crate::event_store::journal) fn open(
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log_id: u128,
) -> io::Result<(Folder, Vec<Arc<Run>>)> {
    disk.create_dir(&dir)?;
    let mut candidates: BTreeMap<Address, Vec<(Address, PathBuf)>> = BTreeMap::new();
    for name in disk.list(&dir)? {
        if let Some((from, to)) = ends(&name) {
            candidates.entry(from).or_default().push((to, dir.join(name)));
        }
    }
    let mut chain: Vec<Arc<Run>> = Vec::new();
    loop {
        let last = chain.last().map(|run| (run.header.to, run.next(), run.header.key));
        let (end, next, key) = last.map_or_else(
            || (Boundary::default(), Position::new(1), None),
            |(end, next, key)| (end, next, Some(key)),
        );
        // The longest first: it was merged from the others.
        let mut longest = candidates.remove(&end.at).unwrap_or_default();
        longest.sort_unstable_by(|one, other| other.cmp(one));
        let fits = |run: &Run| {
            let header = &run.header;
            header.log_id == log_id
                && header.from == end
                && header.first == next
                && key.is_none_or(|key| key == header.key)
                && header.to.at > end.at
        };
        let run = longest.iter().find_map(|(to, path)| {
            let run = Run::open(disk.as_ref(), path).inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "an index does not read back");
            });
            run.ok().filter(|run| run.header.to.at == *to && fits(run))
        });
        let Some(run) = run else { break };
        chain.push(Arc::new(run));
    }
    let key = chain.first().map_or_else(HashKey::random, |run| HashKey(run.header.key));
    let stopped = AtomicBool::new(false);
    Ok((Folder { disk, dir, log_id, key, stopped }, chain))
}

impl Folder {
    /// Removes every file that is none of these runs.
    pub(in crate::event_store::journal) fn keep_only(&self, runs: &[Arc<Run>]) {
        let removed = self.disk.list(&self.dir).and_then(|names| {
            let foreign = |name: &String| {
                let ours = ends(name).is_some() || name.ends_with(UNFINISHED_SUFFIX);
                ours && !runs.iter().any(|run| run.path == self.dir.join(name))
            };
            names
                .iter()
                .filter(|name| foreign(name))
                .try_for_each(|name| self.disk.remove(&self.dir.join(name)))
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "an index that is not needed cannot be removed");
        }
    }
}

/// Where the run of this name begins and ends.
fn ends(name: &str) -> Option<(Address, Address)> {
    let (from, to) = name.strip_suffix(RUN_SUFFIX)?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok().map(Address::new);
    let (from, to) = (address(from)?, address(to)?);
    (name == format!("{from}-{to}{RUN_SUFFIX}")).then_some((from, to))
}
