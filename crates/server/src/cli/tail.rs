//! `sillage tail`: what happened last, and with `--follow` what happens from now on.

use std::io::stdout;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sillage_kernel::wire::export::Format;

use super::Failure;
use super::data::Stored;
use super::events::{Output, Wanted, events_from, show};

/// How long it waits before it looks again for what is new.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

#[derive(Args)]
pub(crate) struct Tail {
    /// How many events are printed; memory holds them all at once.
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
    /// Print what happens from now on too, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    wanted: Wanted,
    /// Print each as a CloudEvent, one on a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stored: Stored,
}

pub(crate) fn run(tail: Tail) -> Result<(), Failure> {
    let Tail { count, follow, wanted, json, stored } = tail;
    let mut events = events_from(&stored, None)?;
    let mut output = if json { Output::lines(Format::CloudEvents) } else { Output::for_people() };
    let last = events.last(count, |event| wanted.admits(event))?;
    let written = last.iter().try_for_each(|event| output.write(event, events.epoch()));
    if let Err(stop) = written.and_then(|()| output.flush()) {
        return stop.done();
    }
    while follow && !is_closed()? {
        if let Some(stop) = show(&mut events, &mut output, u64::MAX, |found| wanted.admits(&found.event))? {
            return stop.done();
        }
    }
    Ok(())
}

/// Waits a while, and answers whether nobody reads the output any more.
fn is_closed() -> Result<bool, Failure> {
    let stdout = stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut watched, Some(&PAUSE)) {
        Ok(ready) => Ok(ready > 0),
        // A signal that does not end the process, such as that of a terminal which changes its size.
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
