//! Rooms, and who has them when: an application on the crates of Sillage.
//!
//! [`rules`] says what may happen, [`edge`] how it reaches people. Where the log is, what moves it and how it is
//! carried comes from the crates.

pub mod edge;
pub mod rules;
