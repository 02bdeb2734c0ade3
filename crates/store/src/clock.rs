//! The clock of the machine, in the units of the log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sillage_kernel::Timestamp;

/// What time it is. A clock before 1970 counts as 1970.
pub fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

/// The moment that long after another.
pub fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.as_micros().saturating_add(micros))
}
