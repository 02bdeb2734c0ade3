//! `sillage export`: events for another log or for other programs, one on a line.

use clap::Args;
use sillage_kernel::wire::export::Format;
use sillage_kernel::{LogPosition, Position};
use sillage_store::event_store::journal::Progress;
use sillage_store::event_store::journal::events::Found;

use super::Failure;
use super::data::Stored;
use super::events::{Output, Stop, Wanted, events_from, show, tell_dropped};
use super::progress::Teller;

#[derive(Args)]
pub(crate) struct Export {
    /// How the events are written: cloudevents, stored-event-record or playbook-event. The last two have no place for
    /// the tenant, so they are written for one at a time, main unless another is named.
    #[arg(long, default_value_t)]
    format: Format,
    /// The first position that is written: a number, or epoch:position.
    #[arg(long, value_name = "POSITION")]
    from: Option<LogPosition>,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    stored: Stored,
}

pub(crate) fn run(export: Export) -> Result<(), Failure> {
    let Export { format, from, mut wanted, stored } = export;
    if !format.names_tenant() && wanted.tenant.is_none() {
        wanted.tenant = Some("main".parse()?);
    }
    if let Some(only) = format.only_category()
        && wanted.category.get_or_insert_with(|| only.to_owned()) != only
    {
        return Err(format!("only events of the category {only} can be written as {format}").into());
    }
    let mut events = events_from(&stored, from.as_ref())?;
    let from = from.map_or(Position::ZERO, |from| from.position);
    let total_bytes = events.total_bytes()?;
    let mut teller = Teller::new("exporting");
    let mut output = Output::lines(format);
    let stop = show(&mut events, &mut output, u64::MAX, |Found { at, event, .. }| {
        let done_bytes = at.get();
        teller.tell(Progress { done_bytes, total_bytes: total_bytes.max(done_bytes) });
        event.position >= from && wanted.admits(event)
    })?;
    drop(teller);
    tell_dropped(&events);
    stop.map_or(Ok(()), Stop::done)
}
