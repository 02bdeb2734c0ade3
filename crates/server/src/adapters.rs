//! Ways to the outside world.

pub mod log_destination;
