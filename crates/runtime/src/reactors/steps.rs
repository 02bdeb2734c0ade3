//! What has changed of a cursor, in as many steps as the store's limits ask for.
//!
//! Invariant: after any of the steps, whatever the cursor has passed is confirmed or set aside. So a crash
//! between two of them repeats events, and loses none.

use std::collections::BTreeSet;

use sillage_kernel::Position;
use sillage_store::event_store::{MAX_CURSOR_BYTES, MAX_CURSOR_CHANGES};
use sillage_store::{CursorState, CursorUpdate, Fence, Parked};

/// The steps that write what has changed of `cursor` and move it to `position`. It goes on with the last of them,
/// when all is set aside that it passes, and back with the first, before any of that is forgotten.
pub(super) fn steps(
    reactor: &str,
    fence: Option<&Fence>,
    cursor: &CursorState,
    changed: &BTreeSet<Position>,
    position: Position,
) -> Vec<CursorUpdate> {
    let names = reactor.len() + fence.map_or(0, |fence| fence.lease.len());
    let step = CursorUpdate { reactor: reactor.into(), fence: fence.cloned(), ..CursorUpdate::default() };
    let empty = || (step.clone(), names);
    let (mut steps, (mut step, mut bytes)) = (Vec::new(), empty());
    for change in changed {
        let parked = cursor.parked.get(change);
        let more = parked.map_or(0, Parked::bytes);
        if step.park.len() + step.unpark.len() == MAX_CURSOR_CHANGES || bytes + more > MAX_CURSOR_BYTES {
            steps.push(step);
            (step, bytes) = empty();
        }
        bytes += more;
        match parked {
            Some(parked) => step.park.push(parked.clone()),
            None => step.unpark.push(*change),
        }
    }
    steps.push(step);
    let moving = if position < cursor.position { steps.first_mut() } else { steps.last_mut() };
    let moving = moving.expect("there is at least one");
    (moving.position, moving.mode) = (Some(position), Some(cursor.mode));
    steps
}

#[cfg(test)]
mod tests {
    use sillage_kernel::Timestamp;
    use sillage_store::ParkedBecause;

    use super::*;

    const EVENTS: u64 = 2 * MAX_CURSOR_CHANGES as u64 + 1;

    fn parked(position: Position) -> Parked {
        let (tenant, key) = ("main".parse().unwrap(), "thing-a".into());
        Parked { position, tenant, key, because: ParkedBecause::Behind, since: Timestamp::from_micros(1) }
    }

    /// Of events that are all parked, or wait for it, none is lost wherever the steps end.
    fn check(mut written: CursorState, parked: impl Iterator<Item = Parked>, to: u64) {
        let everything: BTreeSet<_> = (1..=EVENTS).map(Position::new).collect();
        let parked = parked.map(|parked| (parked.position, parked)).collect();
        let cursor = CursorState { parked, ..written.clone() };
        let steps = steps("one", None, &cursor, &everything, Position::new(to));
        assert_eq!(steps.len(), 3);
        for step in steps {
            written.apply(&step);
            let lost = |event: &&Position| **event <= written.position && !written.parked.contains_key(event);
            assert_eq!(everything.iter().find(lost), None, "after {step:?}");
        }
        assert_eq!(written, CursorState { position: Position::new(to), ..cursor });
    }

    #[test]
    fn no_event_is_lost_between_two_steps() {
        let all = || (1..=EVENTS).map(|event| parked(Position::new(event)));
        let at_the_end = CursorState {
            position: Position::new(EVENTS),
            parked: all().map(|parked| (parked.position, parked)).collect(),
            ..CursorState::default()
        };
        check(CursorState::default(), all(), EVENTS);
        check(at_the_end, std::iter::empty(), 0);
    }
}
