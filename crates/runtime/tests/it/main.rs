//! What moves, tested on engines that fail.

#![cfg(test)]

mod bus;
mod faulty;
mod panics;
mod reactors;
mod supervision;
