//! `sillage state`: the state of a stream, now or as it was.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::value::RawValue;
use sillage_kernel::{StreamName, Tenant, Timestamp, Version};
use sillage_runtime::history::{Fold, HistoryError};
use sillage_runtime::{ContentKey, StateAt, Until};
use sillage_store::event_store::journal::Progress;
use sillage_store::event_store::journal::events::Found;

use super::Failure;
use super::data::Stored;
use super::events::events_from;
use super::progress::Teller;
use crate::systems::System;

#[derive(Args)]
pub(crate) struct State {
    /// Which stream, as like-article-1.
    stream: StreamName,
    /// After this event of it; the last one unless given.
    #[arg(long, value_name = "N", conflicts_with = "at")]
    version: Option<u64>,
    /// At this time, as 2026-01-19T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Whose stream.
    #[arg(long, default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    stored: Stored,
}

pub(crate) fn run(state: State, system: &System) -> Result<(), Failure> {
    let State { stream, version, at, tenant, stored } = state;
    let until = version
        .map(|version| Until::Version(Version::new(version)))
        .or(at.map(Until::Time))
        .unwrap_or(Until::End);
    // The key tells commands apart, and none is read here.
    let deciders = system.deciders(ContentKey([0; 32]));
    let mut fold = Fold::new(&deciders, &stream, until)?;
    let mut events = events_from(&stored, None)?;
    let (total_bytes, mut teller) = (events.total_bytes()?, Teller::new("replaying"));
    let failed: Option<HistoryError> = events.run(|Found { at, event, .. }| {
        let done_bytes = at.get();
        teller.tell(Progress { done_bytes, total_bytes: total_bytes.max(done_bytes) });
        if event.tenant != tenant || !fold.wants(&event) {
            return ControlFlow::Continue(());
        }
        let event = deciders.upcasters().newest(&event).unwrap_or(event);
        fold.add(&event).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    })?;
    drop(teller);
    if let Some(error) = failed {
        return Err(error.into());
    }
    let StateAt { version, recorded_at, state } = fold.finish()?;
    let told = Told { stream, version, recorded_at, state: RawValue::from_string(state)? };
    println!("{}", serde_json::to_string_pretty(&serde_json::to_value(told)?)?);
    Ok(())
}

/// What is printed.
#[derive(serde::Serialize)]
struct Told {
    stream: StreamName,
    /// The number of the last event in it; 0 if there is none.
    version: Version,
    /// When that event was recorded.
    recorded_at: Option<Timestamp>,
    state: Box<RawValue>,
}
