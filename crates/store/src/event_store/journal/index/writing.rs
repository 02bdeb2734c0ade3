//! Writing a run: from a part of the log that was indexed in memory, or from several runs that follow one another.
//!
//! Memory is bounded by the fences and filters of the run, however long it is. A run has its name only once all of it
//! is durable, so a crash leaves a file that nobody takes for a run.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sillage_journal::{Address, Boundary, Disk};
use sillage_kernel::{Timestamp, Version};

use super::blocks::{BlockWriter, damaged};
use super::bloom::{Bloom, COMMAND_BITS, Hash, HashKey, STREAM_BITS};
use super::format::{
    CATEGORY_BYTES, Fields, Footer, GROUP_BYTES, Header, SECTIONS, STREAM_BYTES, Section, put_address,
};
use super::part::{Categories, Part, Place};
use super::run::{Entry, Fixed, Run, text};

/// The folder of the runs, and what they have in common.
pub(in crate::event_store::journal) struct Folder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) log_id: u128,
    pub(super) key: HashKey,
    /// Once set, nothing more is written.
    pub(super) stopped: AtomicBool,
}

pub(super) const RUN_SUFFIX: &str = ".run";
/// How the name of a file ends that is no run yet.
pub(super) const UNFINISHED_SUFFIX: &str = ".new";

impl Folder {
    /// Makes whatever is being written fail.
    pub(in crate::event_store::journal) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Writes a part. `checkpoint` is what else was so at its end.
    pub(super) fn write(
        &self,
        part: &Part,
        checkpoint: &[u8],
        forgotten_until: Timestamp,
    ) -> io::Result<Run> {
        let Part { from, to, first, places, categories, streams, commands, recorded_at } = part;
        let header = Header {
            log_id: self.log_id,
            key: self.key.0,
            level: 0,
            from: *from,
            to: *to,
            first: *first,
            events: places.len() as u64,
            recorded_at: *recorded_at,
            commands: part.command_count() as u64,
            newest: commands.newest,
            forgotten_until,
        };
        self.create(header, streams.len() as u64, |writer| {
            places.iter().try_for_each(|place| writer.place(*place))?;
            writer.end(Section::Places);
            let hashed =
                streams.iter().map(|(key, postings)| (self.key.stream(&key.0, &key.1), key, postings));
            let mut sorted: Vec<_> = hashed.collect();
            sorted.sort_unstable_by_key(|(hash, key, _)| (*hash, *key));
            for (hash, (tenant, stream), postings) in sorted {
                let (tenant, stream) = (tenant.as_str().into(), stream.as_str().into());
                let count = postings.addresses.len() as u64;
                writer.stream(&Entry { hash, tenant, stream, first: postings.first, count })?;
                postings.addresses.iter().try_for_each(|address| writer.address(*address))?;
            }
            writer.end(Section::Streams);
            commands.sorted().into_iter().try_for_each(|(hash, address)| writer.command(hash, address))?;
            writer.end(Section::Commands);
            writer.finish(categories, checkpoint)
        })
    }

    /// Writes one run of the next level in place of some that follow one another. The commands of those that end
    /// before `forgotten_to` are left out.
    pub(super) fn merge(
        &self,
        runs: &[Arc<Run>],
        forgotten_to: Address,
        forgotten_until: Timestamp,
    ) -> io::Result<Run> {
        let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else {
            return Err(io::Error::other("there is nothing to merge"));
        };
        let known: Vec<_> = runs.iter().filter(|run| run.header.to.at > forgotten_to).collect();
        let header = Header {
            level: newest.header.level.saturating_add(1),
            from: oldest.header.from,
            first: oldest.header.first,
            events: runs.iter().map(|run| run.header.events).sum(),
            commands: known.iter().map(|run| run.header.commands).sum(),
            newest: known.iter().map(|run| run.header.newest).max().unwrap_or_default(),
            forgotten_until: newest.header.forgotten_until.max(forgotten_until),
            ..newest.header.clone()
        };
        self.create(header, runs.iter().map(|run| run.footer.streams).sum(), |writer| {
            let mut categories = Categories::default();
            runs.iter().try_for_each(|run| merge_places(run, &mut categories, writer))?;
            writer.end(Section::Places);
            merge_streams(runs, writer)?;
            writer.end(Section::Streams);
            merge_commands(&known, writer)?;
            writer.end(Section::Commands);
            writer.finish(&categories, &newest.checkpoint()?)
        })
    }

    fn create(
        &self,
        header: Header,
        streams: u64,
        fill: impl FnOnce(&mut RunWriter<'_>) -> io::Result<()>,
    ) -> io::Result<Run> {
        let name = format!("{}-{}", header.from.at, header.to.at);
        let unfinished = self.dir.join(format!("{name}{UNFINISHED_SUFFIX}"));
        let path = self.dir.join(name + RUN_SUFFIX);
        self.disk.create_dir(&self.dir)?;
        let written = self.disk.create(&unfinished).and_then(|file| {
            let mut writer = RunWriter::new(BlockWriter::new(file, &self.stopped), header, streams)?;
            fill(&mut writer)?;
            writer.out.finish()
        });
        if let Err(error) = written {
            // The next start removes what cannot be removed now.
            drop(self.disk.remove(&unfinished));
            return Err(error);
        }
        self.disk.rename(&unfinished, &path)?;
        self.disk.sync_dir(&self.dir)?;
        Run::open(self.disk.as_ref(), &path)
    }
}

/// A run while it is written: places, streams and commands, each in the order of the format.
struct RunWriter<'a> {
    out: BlockWriter<'a>,
    from: Boundary,
    width: usize,
    streams: Sparse,
    commands: Sparse,
    ends: Vec<u64>,
    stream_count: u64,
    /// Reused for each entry.
    entry: Vec<u8>,
}

/// The fence and the filter of a section, while it is written.
struct Sparse {
    groups: Vec<(Hash, u64)>,
    filter: Bloom,
}

impl Sparse {
    fn add(&mut self, hash: Hash, at: u64) {
        if self.groups.last().is_none_or(|(_, start)| at - start >= GROUP_BYTES) {
            self.groups.push((hash, at));
        }
        self.filter.insert(hash);
    }
}

impl<'a> RunWriter<'a> {
    fn new(mut out: BlockWriter<'a>, header: Header, streams: u64) -> io::Result<Self> {
        out.write(&header.encode())?;
        let sparse = |count, bits| Sparse { groups: Vec::new(), filter: Bloom::new(count, bits) };
        Ok(Self {
            out,
            from: header.from,
            width: header.width(),
            streams: sparse(streams, STREAM_BITS),
            commands: sparse(header.commands, COMMAND_BITS),
            ends: Vec::with_capacity(SECTIONS),
            stream_count: 0,
            entry: Vec::new(),
        })
    }

    fn place(&mut self, Place { address, category }: Place) -> io::Result<()> {
        self.entry.clear();
        put_address(address, self.from, self.width, &mut self.entry);
        self.entry.extend(category.to_le_bytes());
        self.out.write(&self.entry)
    }

    /// Begins a stream; as many addresses as it says must follow.
    fn stream(&mut self, Entry { hash, tenant, stream, first, count }: &Entry) -> io::Result<()> {
        let bytes = |name: &str| u16::try_from(name.len()).map(u16::to_le_bytes).map_err(io::Error::other);
        self.streams.add(*hash, self.out.at());
        self.stream_count += 1;
        self.entry.clear();
        self.entry.extend(hash.to_le_bytes());
        self.entry.extend(bytes(tenant)?);
        self.entry.extend(bytes(stream)?);
        self.entry.extend(first.get().to_le_bytes());
        self.entry.extend(count.to_le_bytes());
        self.entry.extend(tenant.as_bytes());
        self.entry.extend(stream.as_bytes());
        self.out.write(&self.entry)
    }

    fn address(&mut self, address: Address) -> io::Result<()> {
        self.entry.clear();
        put_address(address, self.from, self.width, &mut self.entry);
        self.out.write(&self.entry)
    }

    fn command(&mut self, hash: Hash, address: Address) -> io::Result<()> {
        self.commands.add(hash, self.out.at());
        self.entry.clear();
        self.entry.extend(hash.to_le_bytes());
        put_address(address, self.from, self.width, &mut self.entry);
        self.out.write(&self.entry)
    }

    /// Ends a section; the next one begins.
    fn end(&mut self, section: Section) {
        debug_assert_eq!(self.ends.len(), section as usize);
        self.ends.push(self.out.at());
    }

    /// Writes what follows the commands.
    fn finish(&mut self, categories: &Categories, checkpoint: &[u8]) -> io::Result<()> {
        for (fence, section) in
            [(&self.streams, Section::StreamFence), (&self.commands, Section::CommandFence)]
        {
            for (hash, at) in &fence.groups {
                self.out.write(&hash.to_le_bytes())?;
                self.out.write(&at.to_le_bytes())?;
            }
            debug_assert_eq!(self.ends.len(), section as usize);
            self.ends.push(self.out.at());
        }
        for sparse in [&self.streams, &self.commands] {
            for word in sparse.filter.to_bytes() {
                self.out.write(&word)?;
            }
            self.ends.push(self.out.at());
        }
        for name in categories.names() {
            let len = u16::try_from(name.len()).map_err(io::Error::other)?;
            self.out.write(&len.to_le_bytes())?;
            self.out.write(name.as_bytes())?;
        }
        self.end(Section::Categories);
        self.out.write(checkpoint)?;
        self.end(Section::Checkpoint);
        let ends = self.ends.as_slice().try_into().map_err(io::Error::other)?;
        self.out.write(&Footer { ends, streams: self.stream_count }.encode())
    }
}

fn merge_places(run: &Run, categories: &mut Categories, writer: &mut RunWriter<'_>) -> io::Result<()> {
    let numbers: Vec<_> = run.categories.names().iter().map(|name| categories.number(name)).collect();
    let mut places = run.stretch(Section::Places);
    let mut entry = vec![0; run.width() + CATEGORY_BYTES];
    for _ in 0..run.header.events {
        places.read_exact(&mut entry)?;
        let Place { address, category } = run.place(&entry)?;
        let number = usize::from(category).checked_sub(1).and_then(|index| numbers.get(index));
        writer.place(Place { address, category: number.copied().unwrap_or(0) })?;
    }
    Ok(())
}

/// The streams of one run, one after the other.
struct Streams<'a> {
    run: &'a Run,
    entries: Box<dyn Read + 'a>,
    left: u64,
    current: Option<Entry>,
}

impl<'a> Streams<'a> {
    fn new(run: &'a Run) -> io::Result<Self> {
        let entries = Box::new(run.stretch(Section::Streams));
        let mut streams = Self { run, entries, left: run.footer.streams, current: None };
        streams.advance()?;
        Ok(streams)
    }

    /// Goes to the next stream, once all addresses of this one were taken.
    fn advance(&mut self) -> io::Result<()> {
        self.current = None;
        let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
        self.left = left;
        let mut fixed = [0; STREAM_BYTES];
        self.entries.read_exact(&mut fixed)?;
        let Fixed { hash, first, count, tenant_bytes, stream_bytes } = Fixed::decode(&mut Fields(&fixed))?;
        let mut name = |len| -> io::Result<Box<str>> {
            let mut bytes = vec![0; len];
            self.entries.read_exact(&mut bytes)?;
            text(&bytes).map(Into::into)
        };
        let (tenant, stream) = (name(tenant_bytes)?, name(stream_bytes)?);
        self.current = Some(Entry { hash, tenant, stream, first, count });
        Ok(())
    }
}

fn merge_streams(runs: &[Arc<Run>], writer: &mut RunWriter<'_>) -> io::Result<()> {
    let mut sources = runs.iter().map(|run| Streams::new(run)).collect::<io::Result<Vec<_>>>()?;
    while let Some((order, first)) = next_stream(&sources) {
        let has = |source: &&mut Streams<'_>| {
            source.current.as_ref().is_some_and(|at| at.order() == order.as_ref())
        };
        let parts = sources.iter().filter_map(|source| source.current.as_ref());
        let count = parts.filter(|at| at.order() == order.as_ref()).map(|at| at.count).sum();
        let Order { hash, tenant, stream } = &order;
        let entry = Entry { hash: *hash, tenant: tenant.clone(), stream: stream.clone(), first, count };
        writer.stream(&entry)?;
        let mut version = first.get();
        for source in sources.iter_mut().filter(has) {
            let part = source.current.as_ref().expect("it was chosen for what it has");
            if part.first.get() != version {
                return Err(damaged("the runs have a gap between the versions of a stream"));
            }
            version += part.count;
            let mut bytes = vec![0; source.run.width()];
            for _ in 0..part.count {
                source.entries.read_exact(&mut bytes)?;
                writer.address(source.run.address(&bytes))?;
            }
            source.advance()?;
        }
    }
    Ok(())
}

/// What streams are sorted by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    hash: Hash,
    tenant: Box<str>,
    stream: Box<str>,
}

impl Order {
    fn as_ref(&self) -> (Hash, &str, &str) {
        (self.hash, &self.tenant, &self.stream)
    }
}

impl Entry {
    fn order(&self) -> (Hash, &str, &str) {
        (self.hash, &self.tenant, &self.stream)
    }
}

/// The stream that comes first, and its first version in the oldest run that has it.
fn next_stream(sources: &[Streams<'_>]) -> Option<(Order, Version)> {
    let entries = sources.iter().filter_map(|source| source.current.as_ref());
    // Of several that are equal the first is taken, which is the oldest.
    let Entry { hash, tenant, stream, first, count: _ } = entries.min_by_key(|entry| entry.order())?;
    Some((Order { hash: *hash, tenant: tenant.clone(), stream: stream.clone() }, *first))
}

fn merge_commands(runs: &[&Arc<Run>], writer: &mut RunWriter<'_>) -> io::Result<()> {
    struct Source<'a> {
        run: &'a Run,
        entries: Box<dyn Read + 'a>,
        left: u64,
        current: Option<(Hash, Address)>,
    }
    impl Source<'_> {
        fn advance(&mut self) -> io::Result<()> {
            self.current = None;
            let Some(left) = self.left.checked_sub(1) else { return Ok(()) };
            self.left = left;
            let mut entry = vec![0; 8 + self.run.width()];
            self.entries.read_exact(&mut entry)?;
            let mut rest = Fields(&entry);
            self.current = Some((rest.u64()?, self.run.address(rest.0)));
            Ok(())
        }
    }
    let mut sources = Vec::new();
    for run in runs {
        let (entries, left) = (Box::new(run.stretch(Section::Commands)), run.header.commands);
        let mut source = Source { run: run.as_ref(), entries, left, current: None };
        source.advance()?;
        sources.push(source);
    }
    while let Some((current, source)) =
        sources.iter_mut().filter_map(|source| Some((source.current?, source))).min_by_key(|(at, _)| *at)
    {
        writer.command(current.0, current.1)?;
        source.advance()?;
    }
    Ok(())
}
