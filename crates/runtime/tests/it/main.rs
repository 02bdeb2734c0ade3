//! What moves, tested on engines that fail.

mod bus;
mod faulty;
mod reactors;
