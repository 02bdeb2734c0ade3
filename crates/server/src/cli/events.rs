//! What the commands that read events have in common: which events, where they are, and where they are written to.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _, stdout};
use std::ops::ControlFlow;

use clap::Args;
use sillage_kernel::wire::export::Format;
use sillage_kernel::{Epoch, Event, LogPosition, StreamName, Tenant, UserId};
use sillage_store::event_store::journal::events::{Found, LogEvents};

use super::Failure;
use super::data::Stored;

/// Which events are wanted.
#[derive(Args)]
pub(crate) struct Wanted {
    /// Only those of this stream, as like-article-1.
    #[arg(long)]
    stream: Option<StreamName>,
    /// Only those of the streams of this category, as like.
    #[arg(long)]
    pub(crate) category: Option<String>,
    /// Only those of this tenant.
    #[arg(long)]
    pub(crate) tenant: Option<Tenant>,
    /// Only those of this type, as LikeSetEvent.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
}

impl Wanted {
    pub(crate) fn admits(&self, event: &Event) -> bool {
        let Self { stream, category, tenant, event_type } = self;
        stream.as_ref().is_none_or(|stream| event.stream == *stream)
            && category.as_ref().is_none_or(|category| event.stream.category() == category)
            && tenant.as_ref().is_none_or(|tenant| event.tenant == *tenant)
            && event_type.as_ref().is_none_or(|event_type| *event.event_type == **event_type)
    }
}

/// The events of a log from a position on, if any is named; some that stand before it may be shown too.
pub(crate) fn events_from(stored: &Stored, from: Option<&LogPosition>) -> Result<LogEvents, Failure> {
    let mut events = LogEvents::open(stored.whole()?)?;
    if let Some(from) = from {
        check_epoch(events.epoch(), from)?;
        events.seek(from.position)?;
    }
    Ok(events)
}

/// Says, beside the output, that some events could not be shown, if that is so.
pub(crate) fn tell_dropped(events: &LogEvents) {
    let dropped = events.dropped();
    if dropped > 0 {
        eprintln!("{dropped} events were passed over: compaction has dropped what they held.");
    }
}

/// Refuses a position of another epoch than the log's.
pub(crate) fn check_epoch(epoch: &Epoch, named: &LogPosition) -> Result<(), Failure> {
    match named.epoch.as_ref().filter(|named| *named != epoch) {
        None => Ok(()),
        Some(other) => {
            Err(format!("the epoch of the log is {epoch}: a position of {other} means nothing in it").into())
        }
    }
}

/// Writes every event that is wanted, from where it stands, but no more than `limit`; answers why it stopped, if not
/// because no more are there.
pub(crate) fn show(
    events: &mut LogEvents,
    output: &mut Output,
    limit: u64,
    mut wanted: impl FnMut(&Found<'_>) -> bool,
) -> Result<Option<Stop>, Failure> {
    if limit == 0 {
        return Ok(None);
    }
    let mut left = limit;
    let stopped = events.run(|found| {
        if !wanted(&found) {
            return ControlFlow::Continue(());
        }
        left -= 1;
        match output.write(&found.event, found.epoch) {
            Ok(()) if left == 0 => ControlFlow::Break(Stop::Enough),
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => ControlFlow::Break(stop),
        }
    })?;
    Ok(stopped.or_else(|| output.flush().err()))
}

/// Why no more is written.
pub(crate) enum Stop {
    /// It was as much as was asked for.
    Enough,
    /// The output does not take it.
    Output(io::Error),
}

impl Stop {
    /// Whoever has closed the other end of a pipe has had enough, which is no failure.
    pub(crate) fn done(self) -> Result<(), Failure> {
        match self {
            Self::Enough => Ok(()),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Self::Output(error) => Err(format!("cannot write: {error}").into()),
        }
    }
}

/// Lines on stdout.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    /// For people, to the width of their terminal; or whole, for other programs.
    style: Style,
}

enum Style {
    People { columns: Option<usize> },
    Lines(Format),
}

impl Output {
    /// A line for people about each event.
    pub(crate) fn for_people() -> Self {
        // Whoever pipes it on wants to find things in it.
        let columns = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let columns = if stdout().is_terminal() { columns() } else { None };
        Self { out: BufWriter::new(stdout().lock()), style: Style::People { columns } }
    }

    /// Each event as a line of a format.
    pub(crate) fn lines(format: Format) -> Self {
        Self { out: BufWriter::new(stdout().lock()), style: Style::Lines(format) }
    }

    pub(crate) fn write(&mut self, event: &Event, epoch: &Epoch) -> Result<(), Stop> {
        let line = match self.style {
            Style::People { columns } => line_for_people(event, columns),
            Style::Lines(format) => format.write(event, epoch),
        };
        writeln!(self.out, "{line}").map_err(Stop::Output)
    }

    /// What was written is out.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.out.flush().map_err(Stop::Output)
    }
}

/// When, where in the log, where in its stream, what, who, and as much of the data as fits.
fn line_for_people(event: &Event, columns: Option<usize>) -> String {
    let Event { position, tenant, stream, version, event_type, data, metadata, recorded_at, .. } = event;
    let user = metadata.user_id.as_ref().map_or("-", UserId::as_str);
    let tenant = if tenant.as_str() == "main" { String::new() } else { format!("{tenant}/") };
    let time = recorded_at.to_string();
    let line = format!("{time:<27} {position:>9} {tenant}{stream}@{version} {event_type} {user} {data}");
    // What came from outside must not steer the terminal.
    let plain = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    match columns {
        None => plain.collect(),
        Some(columns) if line.chars().count() <= columns => plain.collect(),
        Some(columns) => plain.take(columns.saturating_sub(1)).chain(['…']).collect(),
    }
}
