//! The bare disk, for comparison: nothing that waits for the disk can be faster than this, one at a time.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::Failure;
use crate::histogram::Histogram;
use crate::report::{Report, grouped, rate};

/// The size of one append.
const BYTES: usize = 4 << 10;

/// Appends 4 KiB and flushes, again and again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fsync {
    /// A folder on the disk.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// For how long.
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
}

impl Fsync {
    pub(crate) fn run(&self) -> Result<Report, Failure> {
        let folder = tempfile::tempdir_in(&self.dir)?;
        let path = folder.path().join("appended");
        let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
        let (page, mut latency) = ([7_u8; BYTES], Histogram::new());
        let (began, limit) = (Instant::now(), Duration::from_secs(self.seconds));
        while began.elapsed() < limit {
            let one = Instant::now();
            file.write_all(&page)?;
            file.sync_data()?;
            latency.record(one.elapsed());
        }
        let per_second = rate(latency.count(), began.elapsed());
        Ok(Report {
            what: "4 KiB appended and flushed, one at a time".to_owned(),
            result: format!("{}/s", grouped(per_second)),
            latency: Some(latency),
            cost: None,
            notes: Vec::new(),
        })
    }
}
