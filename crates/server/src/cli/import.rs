//! `sillage import`: events of another log, one on a line, into a log whose server is stopped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sillage_kernel::Tenant;
use sillage_kernel::wire::export::{BroughtEvent, Format};
use sillage_store::EventStore;
use sillage_store::event_store::journal::{JournalStore, LogError, Progress};
use sillage_store::import::{BATCH_BYTES, Import as Bringing, ImportError, MAX_BATCH_EVENTS, Taken};

use super::data::{Stored, explained};
use super::progress::Teller;
use super::{Failure, wait_for};

/// The longest line in bytes: every event fits, however its bytes are written.
const MAX_LINE_BYTES: usize = 16 << 20;

#[derive(Args)]
pub(crate) struct Import {
    /// The file with an event on each line; - is what is piped in.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// How the events are written: cloudevents, stored-event-record or playbook-event.
    #[arg(long, default_value_t)]
    format: Format,
    /// The tenant of events that name none.
    #[arg(long, default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    stored: Stored,
}

pub(crate) fn run(import: Import) -> Result<(), Failure> {
    let Import { file, format, tenant, stored } = import;
    let (input, total_bytes): (Box<dyn BufRead>, u64) = if file == Path::new("-") {
        (Box::new(stdin().lock()), 0)
    } else {
        let unread = |error| format!("{} cannot be read: {error}", file.display());
        let opened = File::open(&file).map_err(unread)?;
        let bytes = opened.metadata().map_err(unread)?.len();
        (Box::new(BufReader::new(opened)), bytes)
    };
    let data = &stored.data.data;
    std::fs::create_dir_all(data)?;
    let log_id = uuid::Uuid::new_v4().as_u128();
    let opened = JournalStore::open(&data.join("journal"), log_id, stored.options());
    let (store, _) = opened.map_err(|error| match error {
        LogError::Locked => {
            format!("the log in {} is in use: stop its server, then import", data.display())
        }
        error => format!("the log in {} cannot be opened: {}", data.display(), explained(error)),
    })?;
    let store: Arc<dyn EventStore> = Arc::new(store);
    wait_for(async {
        let lines = Lines { input, number: 0, done_bytes: 0, total_bytes, format, tenant };
        let done = bring(Arc::clone(&store), lines).await;
        store.close().await;
        let Taken { new, known, moved } = done?;
        println!("{new} events are new, {known} were there already.");
        if moved > 0 {
            println!("{moved} of them were older than the last event of the log, and took its time.");
        }
        Ok(())
    })?
}

async fn bring(store: Arc<dyn EventStore>, mut lines: Lines) -> Result<Taken, Failure> {
    let mut bringing = Bringing::begin(store).await?;
    let mut teller = Teller::new("importing");
    loop {
        let first = lines.number + 1;
        let Batch { numbers, events, problems } = lines.batch()?;
        let refused = |problems: &[String]| -> Failure {
            let kept = format!("nothing of lines {first} to {} was kept, all before is", lines.number);
            format!("{}\n{kept}; mend them, and import the whole again", problems.join("\n")).into()
        };
        if !problems.is_empty() {
            return Err(refused(&problems));
        }
        if events.is_empty() {
            return Ok(bringing.taken());
        }
        match bringing.take(events).await {
            Ok(()) => {}
            Err(ImportError::Refused { index, reason }) => {
                let number = numbers.get(index).copied().unwrap_or(first);
                return Err(refused(&[format!("line {number}: {reason}")]));
            }
            Err(error) => return Err(error.into()),
        }
        teller.tell(lines.progress());
    }
}

/// The events of some lines, each with the number of its line, and what is wrong with the others.
#[derive(Default)]
struct Batch {
    numbers: Vec<usize>,
    events: Vec<BroughtEvent>,
    problems: Vec<String>,
}

/// The lines that are read.
struct Lines {
    input: Box<dyn BufRead>,
    /// That of the last line.
    number: usize,
    done_bytes: u64,
    /// 0 if nobody can tell.
    total_bytes: u64,
    format: Format,
    tenant: Tenant,
}

impl Lines {
    fn progress(&self) -> Progress {
        let done_bytes = self.done_bytes;
        Progress { done_bytes, total_bytes: self.total_bytes.max(done_bytes) }
    }

    /// The events of the next lines. Empty at the end. Empty lines are passed over.
    fn batch(&mut self) -> Result<Batch, Failure> {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.events.len() + batch.problems.len() < MAX_BATCH_EVENTS && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let limit = MAX_LINE_BYTES as u64 + 1;
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut line);
            if read.map_err(|error| format!("line {} cannot be read: {error}", self.number + 1))? == 0 {
                break;
            }
            self.number += 1;
            bytes += line.len();
            self.done_bytes += line.len() as u64;
            let number = self.number;
            let mut problem =
                |what: &dyn std::fmt::Display| batch.problems.push(format!("line {number}: {what}"));
            if line.len() > MAX_LINE_BYTES {
                problem(&format_args!("it is longer than {} MiB", MAX_LINE_BYTES >> 20));
                // Where the next line begins is not known.
                break;
            }
            let Ok(line) = std::str::from_utf8(&line) else {
                problem(&"it is not UTF-8");
                continue;
            };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match self.format.read(line, &self.tenant) {
                Ok(event) => {
                    batch.numbers.push(number);
                    batch.events.push(event);
                }
                Err(error) => problem(&error),
            }
        }
        Ok(batch)
    }
}
