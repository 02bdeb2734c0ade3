//! Ways to the outside world: destinations of the log, each a [`Reactor`](sillage_kernel::Reactor). One runs once a
//! system has it: [`System::with_reactor`](crate::System::with_reactor).

pub mod log_destination;
