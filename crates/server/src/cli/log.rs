//! `sillage log`: what happened, in order.

use clap::Args;
use sillage_kernel::wire::export::Format;
use sillage_kernel::{LogPosition, Position};
use sillage_store::event_store::journal::events::Found;

use super::Failure;
use super::data::Stored;
use super::events::{Output, Stop, Wanted, events_from, show, tell_dropped};

#[derive(Args)]
pub(crate) struct Log {
    /// The first position that is printed: a number, or epoch:position.
    #[arg(long, value_name = "POSITION")]
    from: Option<LogPosition>,
    /// How many events are printed at most.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    #[command(flatten)]
    wanted: Wanted,
    /// Print each as a CloudEvent, one on a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stored: Stored,
}

pub(crate) fn run(log: Log) -> Result<(), Failure> {
    let Log { from, limit, wanted, json, stored } = log;
    let mut events = events_from(&stored, from.as_ref())?;
    let from = from.map_or(Position::ZERO, |from| from.position);
    let mut output = if json { Output::lines(Format::CloudEvents) } else { Output::for_people() };
    let stop = show(&mut events, &mut output, limit, |Found { event, .. }| {
        event.position >= from && wanted.admits(event)
    })?;
    tell_dropped(&events);
    stop.map_or(Ok(()), Stop::done)
}
