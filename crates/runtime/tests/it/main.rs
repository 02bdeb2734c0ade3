//! What moves, tested on engines that fail.

#![cfg(test)]

mod bus;
mod compaction;
mod faulty;
mod history;
mod loading;
mod names;
mod panics;
mod reactors;
mod supervision;
mod turns;
